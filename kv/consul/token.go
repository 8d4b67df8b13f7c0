package consul

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// lookAgain is how long a token that came from a file is used without a look
// at the file.
const lookAgain = time.Second

// tokens supplies the ACL token to present.
type tokens struct {
	file   string // empty: the token never changes
	logger *slog.Logger

	mu     sync.Mutex
	value  string
	read   fs.FileInfo // the file when value was read
	looked time.Time
	failed bool // the last look did, and that is logged
}

// current returns the token, and no token if it is empty.
func (t *tokens) current() string {
	if t.file == "" {
		return t.value
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.looked) >= lookAgain {
		t.look(false)
	}
	return t.value
}

// replaced reports whether there is another token than the one that was
// refused.
func (t *tokens) replaced(refused string) bool {
	if t.file == "" {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.value == refused {
		t.look(true)
	}
	return t.value != refused
}

// look reads the file if it seems to be another, or if anyway is set: tokens
// are all of one length, and a clock tick may hide a change. While the file
// can't be read, as in the middle of its replacement, the last token stays.
func (t *tokens) look(anyway bool) {
	t.looked = time.Now()
	info, err := os.Stat(t.file)
	if err == nil {
		if !anyway && t.read != nil && os.SameFile(info, t.read) && info.ModTime().Equal(t.read.ModTime()) && info.Size() == t.read.Size() {
			return
		}
		var value string
		if value, err = readToken(t.file); err == nil {
			t.value, t.read = value, info
		}
	}
	if err != nil && !t.failed {
		t.logger.Warn("consul: the token file can't be read; the last token stays in use", "error", err)
	}
	t.failed = err != nil
}

func readToken(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	token, err := checkToken(string(text))
	if err == nil && token == "" {
		err = errors.New("is empty")
	}
	if err != nil {
		return "", &fs.PathError{Op: "read", Path: file, Err: err}
	}
	return token, nil
}
