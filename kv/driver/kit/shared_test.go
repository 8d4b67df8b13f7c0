package kit_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/kit"
)

var errRefused = errors.New("refused")

func TestSharedIsOpenedOnceAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opened, goOn := 0, make(chan error)
		s := kit.NewShared(func(context.Context) (int, error) {
			opened++
			return opened, <-goOn
		}, func(n int) bool { return n != 2 })
		defer s.Close()
		get := func(want int, wantErr error) {
			t.Helper()
			if n, err := s.Get(t.Context()); n != want || !errors.Is(err, wantErr) {
				t.Errorf("got %d, %v; want %d, %v", n, err, want, wantErr)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		if _, err := s.Get(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("while it is opened: %v", err)
		}
		var calls sync.WaitGroup
		for range 5 {
			calls.Go(func() { get(1, errRefused) })
		}
		synctest.Wait()
		goOn <- errRefused // to the attempt of the call that left, too
		calls.Wait()
		close(goOn)
		get(2, nil)
		get(3, nil) // 2 is not alive
		get(3, nil)
		s.Drop()
		get(4, nil)
	})
}

func TestSharedClose(t *testing.T) {
	s := kit.NewShared(func(ctx context.Context) (int, error) {
		<-ctx.Done()
		return 0, driver.ErrClosed
	}, func(int) bool { return true })
	called, release := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-called
		cancel(errRefused)
		s.Close()
	}()
	if _, err := kit.Call(ctx, s, func() (int, error) {
		close(called)
		<-s.Done()
		<-release
		return 0, nil
	}); !errors.Is(err, errRefused) {
		t.Errorf("Call whose ctx ended: %v", err)
	}
	close(release) // not before: a call that has come to its end has no reason to return its ctx's
	<-s.Done()
	if _, err := s.Get(t.Context()); !errors.Is(err, driver.ErrClosed) {
		t.Errorf("Get after Close: %v", err)
	}
}

func TestSharedWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := kit.NewShared(func(context.Context) (int, error) { return 1, nil }, func(int) bool { return true })
		over, end := context.WithCancel(t.Context())
		end()
		if n, err := s.Get(over); n != 0 || !errors.Is(err, context.Canceled) {
			t.Errorf("Get of a ctx that is over: %d, %v", n, err)
		}
		if n, err := kit.Call(t.Context(), s, func() (int, error) { return 2, errRefused }); n != 2 || !errors.Is(err, errRefused) {
			t.Errorf("Call: %d, %v", n, err)
		}
		release, closed := make(chan struct{}), make(chan struct{})
		s.Go(func() { <-release })
		go func() { s.Close(); close(closed) }()
		synctest.Wait()
		select {
		case <-closed:
			t.Error("Close didn't wait for a goroutine")
		default:
		}
		close(release)
		<-closed
	})
}
