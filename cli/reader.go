package cli

import (
	"context"
	"errors"
	"iter"
	"os"
	"sync"
	"syscall"
	"time"
)

// readerEvery is how often it is looked whether stdout is still read.
const readerEvery = 200 * time.Millisecond

// whileRead returns a context that ends when nobody reads stdout any more, a pipe
// into head say: what follows a store may have nothing to write for long, and would
// not notice. It ends as the next line would end it: by SIGPIPE, if stdout is the
// process's own.
func (a *app) whileRead(ctx context.Context) (reading context.Context, end func()) {
	reading, cancel := context.WithCancelCause(ctx)
	var looking sync.WaitGroup
	if file, ok := given(a.stdout).(*os.File); ok {
		looking.Go(func() { cancel(untilUnread(reading, file)) })
	}
	return reading, func() {
		cancel(nil)
		looking.Wait()
	}
}

// untilUnread returns the error of writing to a pipe that nobody reads, or nil when
// ctx ends.
func untilUnread(ctx context.Context, file *os.File) (err error) {
	ticker := time.NewTicker(readerEvery)
	defer ticker.Stop()
	for err == nil {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		if readerGone(file) {
			_, err = file.WriteString("\n")
		}
	}
	return err
}

// follow writes a line for each that comes, until it is interrupted.
func follow[T any](ctx context.Context, a *app, all func(context.Context) iter.Seq2[T, error], line func(T) any) error {
	ctx, end := a.whileRead(ctx)
	defer end()
	for now, err := range all(ctx) {
		if err == nil {
			err = writeJSON(a.stdout, line(now))
		}
		if err != nil {
			return followed(ctx, err)
		}
	}
	return nil
}

// followed is the end of what follows until it is interrupted, or not read.
func followed(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, syscall.EPIPE) {
		return cause
	}
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, cause)) {
		return nil
	}
	return err
}
