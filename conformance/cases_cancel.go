package conformance

import (
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/polykv/polykv/kv"
)

func cancelCases() []testCase {
	return []testCase{
		{"C6", "in-backoff", "a ctx that ends during a backoff ends the call", needOptions, cancelInBackoff},
		{"C6", "cancelled-before", "a CAS or Delete whose ctx is over does nothing and returns its error", 0, cancelledBefore},
		{"C6", "callback-not-interrupted", "a running callback is not interrupted; the call returns after it and writes nothing", 0, callbackNotInterrupted},
		{"C6", "among-conflicts", "a deadline ends a CAS that others keep overtaking", needOneStore, deadlineAmongConflicts},
		{"C6", "waiting-for-others", "a ctx that ends while others' callbacks run ends the call", 0, cancelWhileWaiting},
		{"C6", "no-answer", "a ctx that ends while the store doesn't answer ends the call", needLine, cancelWithoutAnswer},
		{"C6", "with-cause", "a ctx that was cancelled with a cause of its own still shows as cancelled", 0, cancelWithCause},
		{"C6", "one-member", "the end of one caller's ctx does not disturb those that wait with it", 0, cancelOneMember},
	}
}

// cancelInBackoff has a pause that is longer than the case would wait.
func cancelInBackoff(t *trial) {
	c := t.open(func(o *kv.Options) { o.MinBackoff, o.MaxBackoff = 3*t.patience, 3*t.patience })
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan struct{}, 100)
	call := t.start(func() {
		err := c.CAS(ctx, "k", func(any) (any, bool, error) {
			asked <- struct{}{}
			return nil, true, errPicky
		})
		t.wantErr(err, "a CAS that was cancelled in its backoff", context.Canceled)
	})
	t.receive(asked, "the callback is called")
	cancel()
	call.wait("a CAS that was cancelled in its backoff returns")
}

func cancelledBefore(t *trial) {
	c := t.open()
	t.put(c, "k", "v")
	cancelled, cancel := context.WithCancel(t.ctx())
	cancel()
	expired, cancel := context.WithDeadline(t.ctx(), time.Now().Add(-time.Hour))
	defer cancel()
	for ctx, want := range map[context.Context]error{cancelled: context.Canceled, expired: context.DeadlineExceeded} {
		for _, key := range []string{"k", "absent"} {
			t.wantErr(tryPut(ctx, c, key, "new"), "CAS with a ctx that is over", want)
			t.wantErr(c.Delete(ctx, key), "Delete with a ctx that is over", want)
		}
	}
	t.wantGet(c, "k", "v")
	t.wantGet(c, "absent", nil)
}

func callbackNotInterrupted(t *trial) {
	c := t.open()
	t.put(c, "k", "v")
	for _, key := range []string{"k", "absent"} {
		ctx, cancel := context.WithCancel(t.Context())
		inside, release := make(chan struct{}, 10), make(chan struct{})
		ran := false
		call := t.start(func() {
			err := c.CAS(ctx, key, func(any) (any, bool, error) {
				inside <- struct{}{}
				<-release
				ran = true
				return "new", false, nil
			})
			t.wantErr(err, "a CAS that was cancelled in its callback", context.Canceled)
			if !ran {
				t.Errorf("a CAS returned while its callback was running")
			}
		})
		t.receive(inside, "the callback is called")
		cancel()
		t.wantGet(c, "k", "v")
		t.letOthersRun()
		if call.yet() {
			t.Fatalf("a CAS returned while its callback was running")
		}
		close(release)
		call.wait("a CAS that was cancelled in its callback returns after it")
	}
	t.wantGet(c, "k", "v")
	t.wantGet(c, "absent", nil)
}

func deadlineAmongConflicts(t *trial) {
	a, b := t.open(), t.open()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	n := 0
	t.returns("a CAS that is always overtaken, after its deadline", func() {
		err := a.CAS(ctx, "k", func(any) (any, bool, error) {
			n++
			t.put(b, "k", "theirs")
			return "mine", false, nil
		})
		t.wantErr(err, "a CAS that is always overtaken", context.DeadlineExceeded)
	})
	if n > 0 { // a loaded machine may not get that far in time
		t.wantGet(b, "k", "theirs")
	}
}

func cancelWhileWaiting(t *trial) {
	c := t.open()
	blocked, release := make(chan struct{}, 100), make(chan struct{})
	slow := t.start(func() {
		t.ok(t.cas(c, "k", func(in any) (any, bool, error) {
			blocked <- struct{}{}
			<-release
			return increment(in)
		}), "the CAS whose callback blocked")
	})
	t.receive(blocked, "the callback is called")
	var waiting []*ending
	for range 16 { // they are cancelled here and there on their way into the queue
		ctx, cancel := context.WithCancel(t.Context())
		waiting = append(waiting, t.start(func() {
			err := c.CAS(ctx, "k", func(any) (any, bool, error) {
				cancel() // the others went ahead of the slow one
				return nil, false, ctx.Err()
			})
			t.wantErr(err, "a CAS that was cancelled while it waited", context.Canceled)
		}))
		runtime.Gosched()
		cancel()
	}
	for _, call := range waiting {
		call.wait("a CAS that was cancelled while it waited returns")
	}
	close(release)
	slow.wait("the CAS whose callback blocked returns")
	t.wantGet(c, "k", "1")
}

func cancelWithoutAnswer(t *trial) {
	c, line := t.openLine()
	other := t.open()
	t.put(c, "k", "v")
	t.wantGet(c, "k", "v")
	line.Hang()
	calls := map[string]func(context.Context) error{
		"Get":    func(ctx context.Context) error { _, err := c.Get(ctx, "k"); return err },
		"List":   func(ctx context.Context) error { _, err := c.List(ctx, ""); return err },
		"Delete": func(ctx context.Context) error { return c.Delete(ctx, "k") },
		"CAS":    func(ctx context.Context) error { return tryPut(ctx, c, "k", "new") },
		"CAS of an absent key": func(ctx context.Context) error {
			return tryPut(ctx, c, "absent", "new")
		},
	}
	for name, call := range calls {
		ctx, cancel := context.WithCancel(t.Context())
		before := line.Attempts()
		ended := t.start(func() {
			t.wantErr(call(ctx), name+" that was cancelled while the store did not answer", context.Canceled)
		})
		t.eventually(name+" is tried", func() bool { return line.Attempts() > before })
		cancel()
		ended.wait(name + " that was cancelled while the store did not answer returns")
	}
	line.Mend()
	if got := t.get(other, "k"); got != "v" && got != "new" && got != nil {
		t.Fatalf("Get returned %s", show(got))
	}
}

func cancelWithCause(t *trial) {
	c := t.open()
	ctx, cancel := context.WithCancelCause(t.ctx())
	cancel(errPicky)
	t.wantErr(tryPut(ctx, c, "k", "v"), "CAS with a cancelled ctx", context.Canceled)
	_, err := c.Get(ctx, "k")
	t.wantErr(err, "Get with a cancelled ctx", context.Canceled)
	t.wantGet(c, "k", nil)
}

// cancelOneMember cancels every fourth of many callers at some point.
func cancelOneMember(t *trial) {
	const callers, each = 24, 6
	c := t.open()
	wrote := make([]int, callers)
	perhaps := make([]int, callers)
	t.each(callers, func(i int) {
		for range each {
			ctx, cancel := context.WithCancel(t.ctx())
			err := c.CAS(ctx, "k", func(in any) (any, bool, error) {
				switch {
				case i%8 == 0:
					cancel()
				case i%4 == 0:
					go cancel() // about when the swap is sent
				}
				return increment(in)
			})
			cancel()
			switch {
			case err == nil:
				wrote[i]++
			case errors.Is(err, kv.ErrIndeterminate) && i%4 == 0:
				perhaps[i]++
			case !errors.Is(err, context.Canceled) || i%4 != 0:
				t.Fatalf("CAS of caller %d: %v", i, err)
			}
		}
	})
	least, most := 0, 0
	for i := range callers {
		least, most = least+wrote[i], most+wrote[i]+perhaps[i]
	}
	if got := number(t.get(c, "k")); got < least || got > most {
		t.Fatalf("the counter is %d after %d to %d increments", got, least, most)
	}
}
