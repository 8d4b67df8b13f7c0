package kit

import (
	"errors"
	"io"
	"time"
)

// ErrSilent is the end of an answer of which nothing came for too long.
var ErrSilent = errors.New("the answer stood still for too long")

// UntilSilent returns body, of which a Read fails with ErrSilent that gets
// nothing within limit. What comes slowly comes whole. cancel must end a Read
// that is under way; Close calls it too.
func UntilSilent(body io.ReadCloser, limit time.Duration, cancel func()) io.ReadCloser {
	return &untilSilent{body, limit, cancel}
}

type untilSilent struct {
	io.ReadCloser
	limit  time.Duration
	cancel func()
}

// Read implements io.Reader.
func (s *untilSilent) Read(p []byte) (int, error) {
	timer := time.AfterFunc(s.limit, s.cancel)
	n, err := s.ReadCloser.Read(p)
	if silent := !timer.Stop(); silent && n == 0 {
		err = ErrSilent
	}
	return n, err
}

// Close implements io.Closer.
func (s *untilSilent) Close() error {
	defer s.cancel()
	return s.ReadCloser.Close()
}
