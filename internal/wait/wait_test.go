package wait_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/internal/wait"
)

func TestFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct{ pause, limit, want time.Duration }{
			{time.Second, time.Minute, time.Second}, {0, time.Minute, 0}, {-time.Second, time.Minute, 0}, {time.Hour, time.Second, time.Second}, {-time.Second, 0, 0},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), test.limit)
			start := time.Now()
			err := wait.For(ctx, test.pause)
			if took := time.Since(start); took != test.want || (err == nil) != (test.pause < test.limit && test.limit > 0) {
				t.Errorf("%v of %v: %v after %v", test.pause, test.limit, err, took)
			}
			cancel()
		}
	})
}

func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := wait.NewBackoff(time.Second, 10*time.Second)
		about := func(what string, got, want time.Duration) {
			t.Helper()
			if got < want/2 || got > want*3/2 {
				t.Errorf("%s: %v, want about %v", what, got, want)
			}
		}
		for range 2 {
			for _, want := range []time.Duration{1, 2, 4, 8, 10, 10} {
				next := b.Next
				if about("a pause", next, want*time.Second); !b.Fits(time.Now().Add(next+1)) || b.Fits(time.Now().Add(next)) {
					t.Errorf("whether %v fits in is wrong", next)
				}
				start := time.Now()
				if !b.Sleep(t.Context(), t.Context(), nil) || time.Since(start) != next {
					t.Errorf("slept %v, want %v", time.Since(start), next)
				}
			}
			b.Reset()
		}
		about("after a reset", b.Take(), time.Second)
		over, end := context.WithCancel(t.Context())
		end()
		early := make(chan struct{})
		close(early)
		start := time.Now()
		if b.Sleep(over, t.Context(), nil) || b.Sleep(t.Context(), over, nil) || !b.Sleep(t.Context(), t.Context(), early) || time.Since(start) != 0 {
			t.Error("what ends a pause ends it otherwise")
		}
	})
}
