package kit

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/polykv/polykv/kv/config"
)

// lookAgain is how long a secret that came from a file is used without a look
// at the file.
const lookAgain = time.Second

// Secret is a password or token that may be replaced while the driver runs,
// since it comes from a file. It may be used concurrently.
type Secret struct {
	file   string // empty: it never changes
	unread string // what is logged when the file can't be read any more
	logger *slog.Logger

	mu     sync.Mutex
	value  string
	read   fs.FileInfo // the file when value was read
	looked time.Time
	failed bool // the last look did, and that is logged
}

// NewSecret returns a secret that is value, or what file holds if that isn't
// empty. When the file can't be read any more, logger, unless nil, is told what unread
// says, once.
func NewSecret(value config.Secret, file, unread string, logger *slog.Logger) *Secret {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	s := &Secret{file: file, unread: unread, logger: logger, value: strings.TrimSpace(value.Reveal())}
	s.Current()
	return s
}

// Current returns the secret. The file is looked at again, once a second at
// most; while it can't be read, the last secret stays.
func (s *Secret) Current() string {
	if s.file == "" {
		return s.value
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.looked) >= lookAgain {
		s.look(false)
	}
	return s.value
}

// Replaced reports whether there is another secret than the one that was
// refused. It looks at the file at once.
func (s *Secret) Replaced(refused string) bool {
	if s.file == "" {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.value == refused {
		s.look(true)
	}
	return s.value != refused
}

// Use returns what f does with the secret, and again if f is refused and there is
// another secret by then.
func Use[T any](s *Secret, refused func(error) bool, f func(secret string) (T, error)) (T, error) {
	for {
		secret := s.Current()
		result, err := f(secret)
		if err == nil || !refused(err) || !s.Replaced(secret) {
			return result, err
		}
	}
}

// look reads the file if it seems to be another, or if anyway is set: secrets
// may be of one length, and a clock tick may hide a change.
func (s *Secret) look(anyway bool) {
	s.looked = time.Now()
	info, err := os.Stat(s.file)
	if err == nil && (anyway || s.read == nil || !os.SameFile(info, s.read) || !info.ModTime().Equal(s.read.ModTime()) || info.Size() != s.read.Size()) {
		var value string
		if value, err = ReadSecret(s.file); err == nil {
			s.value, s.read = value, info
		}
	}
	if err != nil && !s.failed {
		s.logger.Warn(s.unread, "error", err)
	}
	s.failed = err != nil
}

// CheckSecret reports what is wrong with a secret that is set by one of two
// fields, the other of which names a file.
func CheckSecret(field string, value config.Secret, fileField, file string) error {
	switch {
	case file == "":
		return nil
	case value.Reveal() != "":
		return fmt.Errorf("%s: is set, but %s is set too; set one of them", fileField, field)
	}
	if _, err := ReadSecret(file); err != nil {
		return fmt.Errorf("%s: %w", fileField, err)
	}
	return nil
}

// ReadSecret returns what file holds, without the white space around it. It is
// an error if that is nothing, or more than one line. Errors don't quote it.
func ReadSecret(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	value := strings.TrimSpace(string(text))
	switch {
	case value == "":
		err = errors.New("is empty")
	case strings.ContainsAny(value, "\r\n\x00"):
		err = errors.New("holds more than one line; it must hold the secret and nothing else")
	default:
		return value, nil
	}
	return "", &fs.PathError{Op: "read", Path: file, Err: err}
}
