package kv

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Each request ends at its own deadline, in whatever order they began, and what
// derives from its context ends with it.
func TestRequestsEndAtTheirDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u underway
		start := time.Now()
		var requests []*request
		limits := []time.Duration{3 * time.Second, time.Second, 2 * time.Second, time.Second, 5 * time.Second}
		for _, limit := range limits {
			r := u.begin(t.Context(), limit)
			child, cancel := context.WithCancel(r)
			defer cancel()
			ended := make(chan time.Duration, 1)
			context.AfterFunc(child, func() { ended <- time.Since(start) })
			requests = append(requests, r)
			if d, ok := r.Deadline(); !ok || !d.Equal(start.Add(limit)) {
				t.Errorf("the deadline is %v, %v", d.Sub(start), ok)
			}
			defer func() {
				if took := <-ended; took != limit {
					t.Errorf("a request of %v ended after %v", limit, took)
				}
			}()
		}
		for i, r := range requests {
			if err := r.Err(); (err != nil) != (time.Since(start) >= limits[i]) {
				t.Errorf("after %v, a request of %v has the error %v", time.Since(start), limits[i], err)
			}
			<-r.Done()
			if took := time.Since(start); took < limits[i] {
				t.Errorf("a request of %v ended after %v", limits[i], took)
			}
			if !errors.Is(r.Err(), context.DeadlineExceeded) || !errors.Is(context.Cause(r), context.DeadlineExceeded) {
				t.Errorf("late, the error is %v and its cause %v", r.Err(), context.Cause(r))
			}
			u.end(r)
		}
		if u.first != nil || !u.rings.IsZero() {
			t.Error("with no request under way the timer is set")
		}
	})
}

// A request that ends by itself takes its deadline along, and the next one has
// its own.
func TestRequestsThatEndInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u underway
		for range 3 {
			r := u.begin(t.Context(), 2*time.Second)
			time.Sleep(1500 * time.Millisecond) // so that the timer of one rings amid the next
			if err := r.Err(); err != nil {
				t.Errorf("in time: %v", err)
			}
			u.end(r)
		}
		start := time.Now()
		r := u.begin(t.Context(), 2*time.Second)
		<-r.Done()
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("ended after %v", took)
		}
		u.end(r)
	})
}

// The end of the caller's context is told as that, then and after the
// deadline; an earlier deadline of the caller's is the request's.
func TestRequestsFollowTheirCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u underway
		ctx, cancel := context.WithCancel(t.Context())
		r := u.begin(ctx, time.Second)
		cancel()
		synctest.Wait()
		for range 2 {
			if !errors.Is(r.Err(), context.Canceled) {
				t.Errorf("cancelled by its caller, the error is %v", r.Err())
			}
			time.Sleep(2 * time.Second)
		}
		u.end(r)

		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r = u.begin(ctx, time.Minute)
		if d, _ := r.Deadline(); time.Until(d) != time.Second {
			t.Errorf("the deadline is in %v", time.Until(d))
		}
		u.end(r)
	})
}

// Close ends what is under way, and what begins later at once.
func TestRequestsEndWithTheirEngine(t *testing.T) {
	var u underway
	var requests []*request
	for range 3 {
		requests = append(requests, u.begin(t.Context(), time.Hour))
	}
	u.end(requests[1])
	u.close()
	for _, r := range append(requests, u.begin(t.Context(), time.Hour)) {
		if r.Err() == nil {
			t.Error("a request outlived its engine")
		}
		u.end(r)
	}
}
