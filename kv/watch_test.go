package kv_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/polykv/polykv/kv"
)

// call is one call of a watch callback.
type call struct {
	key   string
	value any
}

// watchPrefix runs a watch until the test ends and returns what it delivers.
// With a gate, each call waits for it first.
func watchPrefix(t *testing.T, c kv.Client, prefix string, gate <-chan struct{}) <-chan call {
	t.Helper()
	calls := make(chan call, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.WatchPrefix(ctx, prefix, func(key string, value any) bool {
			if gate != nil {
				<-gate
			}
			calls <- call{key, value}
			return true
		})
	}()
	t.Cleanup(func() { cancel(); receive(t, "end of the watch", ended) })
	return calls
}

func wantCalls(t *testing.T, calls <-chan call, want ...call) {
	t.Helper()
	for _, w := range want {
		if got := receive(t, fmt.Sprint("call ", w), calls); got != w {
			t.Fatalf("got the call %v, want %v", got, w)
		}
	}
}

func TestWatchPrefixDeliversCurrentThenChanges(t *testing.T) {
	r := newRig(t, kv.Options{})
	for _, key := range []string{"a/2", "a/1", "b", "a/3"} {
		r.put(r.client, key, "v")
	}
	calls := watchPrefix(t, r.client, "a/", nil)
	wantCalls(t, calls, call{"a/1", "v"}, call{"a/2", "v"}, call{"a/3", "v"})
	r.put(r.other, "a/2", "w")
	if err := r.other.Delete(t.Context(), "a/1"); err != nil {
		t.Fatal(err)
	}
	r.put(r.other, "a/4", "new")
	wantCalls(t, calls, call{"a/2", "w"}, call{"a/1", nil}, call{"a/4", "new"})
}

// The same bytes written again are the same state (W4).
func TestWatchNothingTwiceInARow(t *testing.T) {
	r := newRig(t, kv.Options{})
	calls := watchPrefix(t, r.client, "", nil)
	r.put(r.other, "k", "v")
	wantCalls(t, calls, call{"k", "v"})
	r.put(r.other, "k", "v")
	r.put(r.other, "marker", "m")
	wantCalls(t, calls, call{"marker", "m"})
}

func TestWatchConflatesForASlowCallback(t *testing.T) {
	r := newRig(t, kv.Options{})
	gate := make(chan struct{})
	calls := watchPrefix(t, r.client, "", gate)
	r.put(r.other, "first", "1")
	gate <- struct{}{} // the callback is inside with "first"
	wantCalls(t, calls, call{"first", "1"})
	r.put(r.other, "hold", "1") // taken by the callback, which waits
	for i := range 1000 {
		r.put(r.other, "k", strconv.Itoa(i))
		r.put(r.other, "short-lived", strconv.Itoa(i))
		if err := r.other.Delete(t.Context(), "short-lived"); err != nil {
			t.Fatal(err)
		}
	}
	close(gate)
	wantCalls(t, calls, call{"hold", "1"})
	var got []call
	for len(got) == 0 || got[len(got)-1] != (call{"k", "999"}) {
		got = append(got, receive(t, "final state", calls))
	}
	if len(got) > 10 {
		t.Errorf("1000 changes of a key under a blocked callback made %d calls", len(got))
	}
}

// eventTap is the events of a watch of everything that runs until the test ends.
type eventTap struct {
	t      *testing.T
	events chan kv.Event
}

func watchEvents(t *testing.T, c kv.Client) eventTap {
	t.Helper()
	tap := eventTap{t, make(chan kv.Event, 1000)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- kv.Watch(ctx, c, kv.PrefixRange(""), func(ev kv.Event) bool { tap.events <- ev; return true })
	}()
	t.Cleanup(func() {
		cancel()
		if err := receive(t, "end of the watch", ended); !errors.Is(err, context.Canceled) && !errors.Is(err, kv.ErrClosed) {
			t.Errorf("Watch = %v", err)
		}
	})
	return tap
}

func (tap eventTap) want(typ kv.EventType, key string) kv.Event {
	tap.t.Helper()
	ev := receive(tap.t, fmt.Sprint("event ", typ, " of ", key), tap.events)
	if ev.Type != typ || ev.Key != key {
		tap.t.Fatalf("got the event %+v, want %v of %q", ev, typ, key)
	}
	return ev
}

func TestWatchEvents(t *testing.T) {
	r := newRig(t, kv.Options{MinBackoff: time.Millisecond})
	breakNow := breakable(r)
	r.put(r.other, "k", "1")
	events := watchEvents(t, r.client)
	events.want(kv.Put, "k")
	events.want(kv.Synced, "")
	lostTrack := errors.New("lost track")
	breakNow <- lostTrack
	if ev := events.want(kv.Interrupted, ""); !errors.Is(ev.Err, lostTrack) {
		t.Errorf("interrupted by %v", ev.Err)
	}
	events.want(kv.Synced, "") // nothing changed
	if err := r.other.Delete(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	events.want(kv.Delete, "k")

	r.put(r.other, "k", "2")
	err := kv.Watch(t.Context(), r.client, kv.KeyRange("k"), func(kv.Event) bool { return false })
	if err != nil {
		t.Errorf("a watch that its callback ended returned %v", err)
	}
}

func TestWatchSkipsTheUndecodable(t *testing.T) {
	r := newRig(t, kv.Options{})
	raw, err := kv.Raw(r.other)
	if err != nil {
		t.Fatal(err)
	}
	client := kv.New(r.store, pickyCodec{}, &kv.Options{Logger: slog.New(slog.DiscardHandler)})
	events := watchEvents(t, client)
	put := func(key, value string) {
		t.Helper()
		if err := raw.CAS(t.Context(), key, func(any) (any, bool, error) { return []byte(value), false, nil }); err != nil {
			t.Fatal(err)
		}
	}
	remove := func() {
		t.Helper()
		if err := raw.Delete(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
	}
	markers := 0
	nothing := func() { // a marker comes next
		t.Helper()
		markers++
		put("marker", fmt.Sprint(markers))
		events.want(kv.Put, "marker")
	}
	events.want(kv.Synced, "")
	put("k", "bad")
	if ev := events.want(kv.Undecodable, "k"); string(ev.Stored) != "bad" {
		t.Errorf("the event of an undecodable value shows the stored bytes %q", ev.Stored)
	}
	put("k", "bad") // the same again
	nothing()
	remove() // nobody was told of it
	nothing()
	put("k", "good")
	if ev := events.want(kv.Put, "k"); string(ev.Stored) != "good" {
		t.Errorf("the event of a value shows the stored bytes %q", ev.Stored)
	}
	put("k", "bad")
	events.want(kv.Undecodable, "k")
	put("k", "good") // the state that was delivered last
	nothing()
	put("k", "bad again")
	events.want(kv.Undecodable, "k")
	remove()
	events.want(kv.Delete, "k")
}

// A deletion that comes in while an undecodable value is being looked at is no
// news to who was told of neither.
func TestWatchDeletionDuringAnUndecodableValue(t *testing.T) {
	r := newRig(t, kv.Options{})
	cdc := pickyCodec{onBad: func() {
		if err := r.other.Delete(t.Context(), "k"); err != nil {
			t.Error(err)
		}
	}}
	events := watchEvents(t, kv.New(r.store, cdc, &kv.Options{Logger: slog.New(slog.DiscardHandler)}))
	events.want(kv.Synced, "")
	r.put(r.other, "k", "bad")
	events.want(kv.Undecodable, "k")
	r.put(r.other, "marker", "m")
	events.want(kv.Put, "marker")
}

// pickyCodec can't decode what begins with "bad".
type pickyCodec struct{ onBad func() }

func (pickyCodec) CodecID() string              { return "picky" }
func (pickyCodec) Encode(v any) ([]byte, error) { return stringCodec.Encode(v) }
func (c pickyCodec) Decode(stored []byte) (any, error) {
	if len(stored) >= 3 && string(stored[:3]) == "bad" {
		if c.onBad != nil {
			c.onBad()
		}
		return nil, errors.New("bad bytes")
	}
	return stringCodec.Decode(stored)
}

func TestWatchEndsWithItsContextAndClient(t *testing.T) {
	r := newRig(t, kv.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	synced := make(chan struct{}, 2)
	watch := func(ctx context.Context) {
		ended <- kv.Watch(ctx, r.client, kv.KeyRange("k"), func(kv.Event) bool { synced <- struct{}{}; return true })
	}
	go watch(ctx)
	receive(t, "synced", synced)
	cancel()
	if err := receive(t, "end", ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Watch = %v", err)
	}
	go watch(t.Context())
	receive(t, "synced", synced)
	if err := r.client.Close(); err != nil {
		t.Error(err)
	}
	if err := receive(t, "end", ended); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("Watch = %v", err)
	}
}

func TestWatchPanicLeavesNothingBehind(t *testing.T) {
	r := newRig(t, kv.Options{})
	r.put(r.client, "k", "v")
	func() {
		defer func() { _ = recover() }()
		r.client.WatchKey(t.Context(), "k", func(any) bool { panic("mine") })
	}() // goleak sees a session that stays
	r.put(r.client, "k", "usable")
}
