package conformance

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/polykv/polykv/kv"
)

func availabilityCases() []testCase {
	return []testCase{
		{"A1", "cancelled-read", "a read whose ctx is over returns its error and nothing else", 0, cancelledRead},
		{"A1", "open-contacts-nobody", "opening a client of a store that is away works, and it works once the store is back", needLine, openContactsNobody},
		{"A1", "read-retried", "reads are retried until the store is back", needLine, readRetried},
		{"A1", "write-retried", "a write that provably went nowhere is retried until the store is back, and applied once", needLine, writeRetried},
		{"A1", "unavailable", "after RetryTimeout, reads and writes that went nowhere end with ErrUnavailable and a cause", needLine | needOptions, unavailable},
		{"A1", "no-answer", "a store that never answers is as unavailable as one that is away", needLine | needOptions, noAnswer},
		{"A1", "ctx-first", "a ctx that ends before RetryTimeout ends the retries, with its own error", needLine, ctxBeforeRetryTimeout},
		{"A1", "not-hot", "retries back off", needLine | needOptions, retriesBackOff},
	}
}

// hasty has calls give up soon when the store refuses, and hastier also when
// it doesn't answer. A loaded machine may keep a whole store from answering in
// that time, so only what must fail is asked of such a client.
func hasty(o *kv.Options) { o.RetryTimeout = 100 * time.Millisecond }

func hastier(o *kv.Options) {
	o.RetryTimeout = 150 * time.Millisecond
	o.AttemptTimeout = 50 * time.Millisecond
}

func cancelledRead(t *trial) {
	c := t.open()
	t.put(c, "k", "v")
	ctx, cancel := context.WithCancel(t.ctx())
	cancel()
	_, err := c.Get(ctx, "k")
	t.wantErr(err, "Get with a cancelled ctx", context.Canceled)
	_, err = c.List(ctx, "")
	t.wantErr(err, "List with a cancelled ctx", context.Canceled)
	t.wantGet(c, "k", "v")
}

func openContactsNobody(t *trial) {
	t.put(t.open(), "k", "v")
	c, line := t.openLine()
	if n := line.Attempts(); n != 0 {
		t.Fatalf("opening a client made %d requests", n)
	}
	t.during(line, "the first Get of a client", func() { t.wantGet(c, "k", "v") })
}

// during starts f while the line is cut, mends the line once f has tried, and
// waits for f.
func (t *trial) during(line Line, what string, f func()) {
	t.Helper()
	line.Cut()
	before := line.Attempts()
	call := t.start(f)
	t.eventually(what+" is tried again", func() bool { return call.yet() || line.Attempts() >= before+3 })
	if call.yet() && !t.Failed() {
		t.Fatalf("%s succeeded while the store was away", what)
	}
	line.Mend()
	call.wait(what + " returns once the store is back")
}

func readRetried(t *trial) {
	c, line := t.openLine()
	t.put(c, "k", "v")
	t.during(line, "Get", func() { t.wantGet(c, "k", "v") })
	t.during(line, "List", func() { t.wantList(c, "", "k") })
}

func writeRetried(t *trial) {
	c, line := t.openLine()
	other := t.open()
	var answer atomic.Value
	t.during(line, "CAS of an absent key", func() { t.ok(t.cas(c, "k", increment), "CAS") })
	t.during(line, "CAS", func() { t.ok(t.cas(c, "k", increment), "CAS") })
	t.during(line, "a CAS that declines", func() {
		t.ok(t.cas(c, "k", func(in any) (any, bool, error) {
			answer.Store(in)
			return nil, false, nil
		}), "CAS")
	})
	if answer.Load() != "2" {
		t.Fatalf("a callback saw %v after two increments", answer.Load())
	}
	t.wantGet(other, "k", "2")
	t.during(line, "Delete", func() { t.delete(c, "k") })
	t.wantGet(other, "k", nil)
}

func unavailable(t *trial) {
	other := t.open()
	t.put(other, "k", "v")
	c, line := t.openLine(hasty)
	line.Cut()
	_, err := c.Get(t.ctx(), "k")
	wantUnavailable(t, err, "Get")
	_, err = c.List(t.ctx(), "")
	wantUnavailable(t, err, "List")
	wantUnavailable(t, tryPut(t.ctx(), c, "k", "w"), "CAS")
	wantUnavailable(t, tryPut(t.ctx(), c, "new", "w"), "CAS of an absent key")
	wantUnavailable(t, c.Delete(t.ctx(), "k"), "Delete")
	line.Mend()
	t.recovers(c, "k", "v")
	t.wantGet(other, "k", "v")
	t.wantGet(other, "new", nil)
}

// wantUnavailable wants ErrUnavailable and nothing that would say that a write
// was sent.
func wantUnavailable(t *trial, err error, what string) {
	t.Helper()
	t.wantErr(err, what+" while the store was away", kv.ErrUnavailable)
	if errors.Is(err, kv.ErrIndeterminate) || errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%s while the store was away returned %v", what, err)
	}
}

func noAnswer(t *trial) {
	t.put(t.open(), "k", "v")
	c, line := t.openLine(hastier)
	line.Hang()
	_, err := c.Get(t.ctx(), "k")
	wantUnavailable(t, err, "Get")
	_, err = c.List(t.ctx(), "")
	wantUnavailable(t, err, "List")
	line.Mend()
	t.recovers(c, "k", "v")
}

// recovers waits until c reads this value of key.
func (t *trial) recovers(c kv.Client, key string, want any) {
	t.Helper()
	t.eventually("the client works again", func() bool {
		value, err := c.Get(t.ctx(), key)
		return err == nil && value == want
	})
}

func ctxBeforeRetryTimeout(t *trial) {
	c, line := t.openLine()
	t.put(c, "k", "v")
	for _, interrupt := range []func(){line.Cut, line.Hang} {
		interrupt()
		calls := map[string]func(context.Context) error{
			"Get":  func(ctx context.Context) error { _, err := c.Get(ctx, "k"); return err },
			"List": func(ctx context.Context) error { _, err := c.List(ctx, ""); return err },
			"CAS of an absent key": func(ctx context.Context) error {
				return tryPut(ctx, c, "absent", "v")
			},
		}
		for name, call := range calls {
			ctx, cancel := context.WithTimeout(t.ctx(), 20*time.Millisecond)
			t.returns(name+" after its deadline", func() {
				t.wantErr(call(ctx), name+" after its deadline", context.DeadlineExceeded)
			})
			cancel()
		}
		line.Mend()
	}
}

// retriesBackOff watches the rate of retries: a loop without a pause makes
// many thousands of attempts in the time that this takes.
func retriesBackOff(t *trial) {
	c, line := t.openLine(func(o *kv.Options) { o.RetryTimeout = 300 * time.Millisecond })
	line.Cut()
	start := time.Now()
	if _, err := c.Get(t.ctx(), "k"); err == nil {
		t.Fatalf("Get succeeded while the store was away")
	}
	allowed := 10 + int(time.Since(start)/(5*time.Millisecond))
	if n := line.Attempts(); n > allowed {
		t.Fatalf("Get made %d attempts in %v, want at most %d", n, time.Since(start), allowed)
	}
}
