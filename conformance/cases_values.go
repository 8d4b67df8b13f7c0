package conformance

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
)

func valueCases() []testCase {
	return []testCase{
		{"C8", "unencodable", "a value that can't be encoded fails at once, with the key in the message and nothing written", 0, unencodable},
		{"C8", "undecodable", "a value that can't be decoded fails Get and CAS at once, and stays as it is", 0, undecodable},
		{"C8", "wrong-type", "a value of the wrong type is an error, never a panic", 0, wrongType},
		{"C8", "decodes-to-nil", "a value that decodes to nil is an error, not an absent key", 0, decodesToNil},
		{"C8", "too-large", "a value over the limit gets ErrTooLarge with nothing written, and one of exactly the limit is kept", needLimits, tooLarge},
		{"C8", "max-value-size", "Options.MaxValueSize lowers the limit", needOptions, maxValueSize},
		{"C8", "before-sending", "what can't be stored is never sent", needOptions, refusedBeforeSending},
		{"C8", "alone", "a value that can't be stored fails only its own caller", 0, refusedAlone},
	}
}

// wantRefused wants a CAS to fail at once for a reason that names the key.
func wantRefused(t *trial, c kv.Client, key string, value any, targets ...error) {
	t.Helper()
	calls := 0
	err := t.cas(c, key, func(any) (any, bool, error) {
		calls++
		return value, true, nil
	})
	if err == nil {
		t.Fatalf("CAS of %s succeeded", show(value))
	}
	t.wantErr(err, "CAS of "+show(value), targets...)
	var ours *kv.Error
	if !errors.As(err, &ours) || !strings.Contains(err.Error(), key) {
		t.Fatalf("CAS of %s failed with %s, want a *kv.Error that names the key %q", show(value), show(err), key)
	}
	if calls > 5 {
		t.Fatalf("a value that can't be stored was retried: the callback ran %d times", calls)
	}
}

func unencodable(t *trial) {
	c, other := t.openWith(picky{}), t.open()
	t.put(other, "a/key", "old")
	for range 2 {
		wantRefused(t, c, "a/key", "!", errPicky)
		wantRefused(t, c, "absent", "!", errPicky)
	}
	t.wantGet(other, "a/key", "old")
	t.wantList(other, "", "a/key")
}

func undecodable(t *trial) {
	c, other := t.openWith(picky{}), t.open()
	t.put(other, "a/key", "?garbage")
	_, err := c.Get(t.ctx(), "a/key")
	t.wantErr(err, "Get of a value that can't be decoded", errPicky)
	if !strings.Contains(err.Error(), "a/key") {
		t.Fatalf("Get of a value that can't be decoded failed with %q, which does not name the key", err)
	}
	calls := 0
	err = t.cas(c, "a/key", func(any) (any, bool, error) {
		calls++
		return "new", true, nil
	})
	t.wantErr(err, "CAS of a value that can't be decoded", errPicky)
	if calls > 0 {
		t.Fatalf("CAS of a value that can't be decoded called its callback")
	}
	t.wantGet(other, "a/key", "?garbage")
	t.wantList(c, "", "a/key")
	t.put(other, "a/key", "fine")
	t.wantGet(c, "a/key", "fine")
	t.put(c, "a/key", "fine again")
}

func wrongType(t *trial) {
	c := t.open()
	t.put(c, "k", "v")
	for _, value := range []any{42, []byte("bytes"), struct{}{}, map[string]int{"a": 1}, []int{1}, newDoc(), kv.Keep} {
		wantRefused(t, c, "k", value, codec.ErrType)
	}
	t.wantGet(c, "k", "v")
}

func decodesToNil(t *trial) {
	c, other := t.openWith(picky{}), t.open()
	t.put(other, "k", "~")
	if value, err := c.Get(t.ctx(), "k"); err == nil {
		t.Fatalf("Get of a value that decodes to nil returned %s without an error", show(value))
	}
	calls := 0
	err := t.cas(c, "k", func(any) (any, bool, error) {
		calls++
		return "new", false, nil
	})
	if err == nil || calls > 0 {
		t.Fatalf("CAS of a value that decodes to nil called its callback %d times and returned %v", calls, err)
	}
	t.wantGet(other, "k", "~")
}

func tooLarge(t *trial) {
	c, other := t.open(), t.open()
	limits, err := kv.LimitsOf(c)
	t.ok(err, "LimitsOf")
	if limits.Value <= 0 {
		t.Logf("no limit known")
		return
	}
	t.put(c, "k", "old")
	wantRefused(t, c, "k", strings.Repeat("x", limits.Value+1), kv.ErrTooLarge)
	wantRefused(t, c, "absent", strings.Repeat("x", limits.Value+1), kv.ErrTooLarge)
	t.wantGet(other, "k", "old")
	t.wantGet(other, "absent", nil)
	largest := strings.Repeat("y", limits.Value)
	t.put(c, "k", largest)
	t.wantGet(other, "k", largest)
}

func maxValueSize(t *trial) {
	c, other := t.open(func(o *kv.Options) { o.MaxValueSize = 10 }), t.open()
	t.put(c, "k", "0123456789")
	wantRefused(t, c, "k", "0123456789A", kv.ErrTooLarge)
	t.wantGet(other, "k", "0123456789")
	t.put(other, "k", "another client has a limit of its own")
	t.wantGet(c, "k", "another client has a limit of its own")
}

// swapCounter counts the writes that a client sends.
type swapCounter struct {
	kv.NopObserver
	n atomic.Int64
}

func (s *swapCounter) Request(_ context.Context, _, op string, _ time.Duration, _ error) {
	if op == "swap" {
		s.n.Add(1)
	}
}

func refusedBeforeSending(t *trial) {
	var sent swapCounter
	c := t.openWith(picky{}, func(o *kv.Options) { o.MaxValueSize, o.Observer = 10, &sent })
	t.put(c, "k", "v")
	before := sent.n.Load()
	wantRefused(t, c, "k", "0123456789A", kv.ErrTooLarge)
	wantRefused(t, c, "k", "!", errPicky)
	if n := sent.n.Load() - before; n > 0 {
		t.Fatalf("%d writes were sent of values that can't be stored", n)
	}
	t.put(c, "k", "w")
	if sent.n.Load() == before {
		t.Fatalf("the Observer is told of no write at all")
	}
}

func refusedAlone(t *trial) {
	c := t.openWith(picky{})
	t.put(c, "k", "0")
	t.each(16, func(i int) {
		for range 4 {
			if i%4 == 0 {
				wantRefused(t, c, "k", "!", errPicky)
				continue
			}
			t.ok(t.cas(c, "k", increment), "a CAS beside others that fail")
		}
	})
	t.wantGet(c, "k", "48")
}
