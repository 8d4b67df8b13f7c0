package cli

import (
	"io"
	"sync"
)

// asyncWriter is a writer that never keeps its caller waiting and never fails:
// what is written is passed on by a goroutine of its own. A command that keeps
// others waiting must not stop because a terminal was stopped, or end because a
// pipe was closed.
type asyncWriter struct {
	to io.Writer

	mu     sync.Mutex
	wake   *sync.Cond
	queued []byte
	closed bool
	done   chan struct{}
}

func newAsyncWriter(to io.Writer) *asyncWriter {
	s := &asyncWriter{to: to, done: make(chan struct{})}
	s.wake = sync.NewCond(&s.mu)
	go s.pass()
	return s
}

// Write queues a copy of p.
func (s *asyncWriter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queued = append(s.queued, p...)
	s.wake.Signal()
	return len(p), nil
}

// Close waits until everything was passed on, or could not be.
func (s *asyncWriter) Close() error {
	s.mu.Lock()
	s.closed = true
	s.wake.Signal()
	s.mu.Unlock()
	<-s.done
	return nil
}

// pass passes on what is queued. After an error of the writer, the rest is
// dropped: nobody reads it.
func (s *asyncWriter) pass() {
	defer close(s.done)
	var failed error
	for {
		s.mu.Lock()
		for len(s.queued) == 0 && !s.closed {
			s.wake.Wait()
		}
		next := s.queued
		s.queued = nil
		s.mu.Unlock()
		if len(next) == 0 {
			return
		}
		if failed == nil {
			_, failed = s.to.Write(next)
		}
	}
}

// writeAsync has the outputs of a command neither stop nor end it, until the
// function that it returns is called, which waits for them.
func (a *app) writeAsync() (end func()) {
	a.ignorePipes()
	stdout, stderr := a.stdout, a.stderr
	out, log := newAsyncWriter(given(stdout)), newAsyncWriter(stderr)
	a.stdout, a.stderr = out, log
	return func() {
		a.stdout, a.stderr = stdout, stderr
		_, _ = out.Close(), log.Close()
	}
}
