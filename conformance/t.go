package conformance

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// T is the part of *testing.T that cases and harnesses use. Other than with
// *testing.T, Fatalf may be called on any goroutine and ends that one.
type T interface {
	Name() string
	Helper()
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Failed() bool
	Cleanup(f func())
	TempDir() string

	// Context ends just before the cleanups run.
	Context() context.Context
}

// recorder is the T that every case runs on. Only when the case is over is
// what it recorded handed to a *testing.T, so a case that hangs can be
// given up, and a case may be expected to fail.
type recorder struct {
	name   string
	ctx    context.Context
	cancel context.CancelFunc

	mu       sync.Mutex
	over     bool // nothing is recorded any more
	helpers  map[string]bool
	failures []string
	logs     []string
	cleanups []func()
}

func newRecorder(name string) *recorder {
	r := &recorder{name: name, helpers: map[string]bool{}}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

func (r *recorder) Name() string             { return r.name }
func (r *recorder) Context() context.Context { return r.ctx }

// Helper has failures reported at the caller of the function that calls it.
func (r *recorder) Helper() {
	frame, _ := callers(3).Next()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.helpers[frame.Function] = true
}

func callers(skip int) *runtime.Frames {
	pcs := make([]uintptr, 32)
	return runtime.CallersFrames(pcs[:runtime.Callers(skip, pcs)])
}

// where is the line of the case that a failure is about: the first one that
// is in no helper. It is called under the lock, from a method that the
// caller called.
func (r *recorder) where() string {
	frames := callers(5)
	frame, more := frames.Next()
	first := frame
	for r.helpers[frame.Function] && more {
		frame, more = frames.Next()
	}
	if r.helpers[frame.Function] {
		frame = first
	}
	return fmt.Sprintf("%s:%d", filepath.Base(frame.File), frame.Line)
}

func (r *recorder) Logf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over {
		r.logs = append(r.logs, fmt.Sprintf(format, args...))
	}
}

func (r *recorder) Errorf(format string, args ...any) {
	r.fail(format, args...)
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.fail(format, args...)
	runtime.Goexit()
}

func (r *recorder) fail(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over {
		r.failures = append(r.failures, r.where()+": "+fmt.Sprintf(format, args...))
	}
}

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.failures) > 0
}

func (r *recorder) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleanups = append(r.cleanups, f)
}

func (r *recorder) TempDir() string {
	dir, err := os.MkdirTemp("", "conformance")
	if err != nil {
		r.Fatalf("making a folder: %v", err)
	}
	r.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			r.Errorf("removing a folder: %v", err)
		}
	})
	return dir
}

// finish runs the cleanups, last one first. It may be called again.
func (r *recorder) finish() {
	r.cancel()
	for {
		r.mu.Lock()
		n := len(r.cleanups)
		if n == 0 {
			r.mu.Unlock()
			return
		}
		last := r.cleanups[n-1]
		r.cleanups = r.cleanups[:n-1]
		r.mu.Unlock()
		last()
	}
}

// results ends the recording and returns it.
func (r *recorder) results() (failures, logs []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	return slices.Clone(r.failures), slices.Clone(r.logs)
}

// logger is a logger that writes into the recording.
func (r *recorder) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(logWriter{r}, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type logWriter struct{ r *recorder }

func (w logWriter) Write(line []byte) (int, error) {
	w.r.Logf("%s", strings.TrimSpace(string(line)))
	return len(line), nil
}
