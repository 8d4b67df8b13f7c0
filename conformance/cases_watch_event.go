package conformance

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/polykv/polykv/kv"
)

func watchEventCases() []testCase {
	return []testCase{
		{"W8", "errors", "Watch returns ErrInvalidKey, ErrClosed, ctx's error, and nil after false", needWatch, watchErrors},
		{"W8", "returns", "WatchKey and WatchPrefix return on an invalid key and a closed client", 0, watchReturns},
		{"W8", "synced", "Watch says Synced once everything that existed was delivered", needWatch, watchSynced},
		{"W8", "delete-event", "Watch tells a deletion by an event of its own, deletions hidden or not", needWatch, watchDeleteEvent},
		{"W8", "undecodable-event", "Watch tells of a value that can't be decoded, with its key and the cause", needWatch, watchUndecodableEvent},
		{"W8", "interrupted-event", "Watch tells of an interruption, and says Synced when it has caught up", needWatch | needLine, watchInterruptedEvent},
		{"W8", "refused", "a client without an optional interface refuses it with ErrNotSupported", 0, extrasRefused},
		{"W8", "refused-at-once", "Guarded and Versioned refuse what calls through them would, before any call, through wrappers too", 0, refusedAtOnce},
	}
}

// eventWatcher records the events of one kv.Watch.
type eventWatcher struct {
	t      *trial
	cancel context.CancelFunc
	ended  *ending
	err    error // set when ended

	mu     sync.Mutex
	events []kv.Event
}

func (t *trial) watchEvents(c kv.Client, r kv.Range) *eventWatcher {
	ctx, cancel := context.WithCancel(t.Context())
	w := &eventWatcher{t: t, cancel: cancel}
	w.ended = t.start(func() {
		w.err = kv.Watch(ctx, c, r, func(e kv.Event) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
			return true
		})
	})
	t.Cleanup(cancel)
	return w
}

func (w *eventWatcher) all() []kv.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]kv.Event(nil), w.events...)
}

// until waits for the nth event that satisfies cond, and returns the events up
// to it.
func (w *eventWatcher) until(what string, n int, cond func(kv.Event) bool) []kv.Event {
	w.t.Helper()
	var found []kv.Event
	w.t.eventually("Watch delivers "+what, func() bool {
		left := n
		for i, e := range w.all() {
			if cond(e) {
				left--
			}
			if left == 0 {
				found = w.all()[:i+1]
				return true
			}
		}
		return false
	})
	return found
}

// synced waits for the nth Synced.
func (w *eventWatcher) synced(n int) []kv.Event {
	w.t.Helper()
	return w.until("Synced", n, func(e kv.Event) bool { return e.Type == kv.Synced })
}

func watchErrors(t *trial) {
	c, closing := t.open(), t.open()
	t.put(c, "k", "v")
	never := func(kv.Event) bool {
		t.Errorf("a watch that can't start called back")
		return true
	}
	for _, key := range invalidKeys() {
		t.wantErr(kv.Watch(t.ctx(), c, kv.KeyRange(key), never), "Watch of "+show(key), kv.ErrInvalidKey)
	}
	t.wantErr(kv.Watch(t.ctx(), c, kv.KeyRange(".polykv/x"), never), "Watch of a reserved key", kv.ErrInvalidKey)

	w := t.watchEvents(c, kv.KeyRange("k"))
	w.synced(1)
	w.cancel()
	w.ended.wait("Watch returns when its ctx is cancelled")
	t.wantErr(w.err, "Watch with a cancelled ctx", context.Canceled)

	w = t.watchEvents(closing, kv.PrefixRange(""))
	w.synced(1)
	t.ok(closing.Close(), "Close")
	w.ended.wait("Watch returns when its client is closed")
	t.wantErr(w.err, "Watch of a client that was closed", kv.ErrClosed)
	t.wantErr(kv.Watch(t.ctx(), closing, kv.KeyRange("k"), never), "Watch of a closed client", kv.ErrClosed)

	t.returns("Watch whose callback returns false", func() {
		t.ok(kv.Watch(t.ctx(), c, kv.KeyRange("k"), func(kv.Event) bool { return false }), "Watch whose callback returned false")
	})
}

func watchReturns(t *trial) {
	c, closed := t.open(), t.open()
	t.put(c, "k", "v")
	t.ok(closed.Close(), "Close")
	never := func(any) bool {
		t.Errorf("a watch that can't start called back")
		return true
	}
	t.returns("a watch that can't start", func() {
		for _, key := range append(invalidKeys(), ".polykv", "a/.polykv/b") {
			c.WatchKey(t.ctx(), key, never)
		}
		closed.WatchKey(t.ctx(), "k", never)
		closed.WatchPrefix(t.ctx(), "", func(_ string, value any) bool { return never(value) })
	})
}

func watchSynced(t *trial) {
	c, writer := t.open(), t.open()
	keys := t.fill(writer, "p/", 4)
	for _, r := range []kv.Range{kv.PrefixRange("p/"), kv.KeyRange("p/00002"), kv.KeyRange("absent"), kv.PrefixRange("absent/")} {
		w := t.watchEvents(c, r)
		events := w.synced(1)
		want := 0
		for _, key := range keys {
			if !r.Contains(key) {
				continue
			}
			if e := events[want]; e.Type != kv.Put || e.Key != key || e.Value != key {
				t.Fatalf("event %d of a watch of %v is %v, want a put of %q", want, r, e, key)
			}
			want++
		}
		if len(events) != want+1 {
			t.Fatalf("a watch of %v delivered %v before it said Synced, want %d puts", r, events, want)
		}
		key := r.Key
		if r.IsPrefix {
			key += "new"
		}
		t.put(writer, key, "changed")
		w.until("the change", 1, func(e kv.Event) bool { return e.Type == kv.Put && e.Key == key && e.Value == "changed" })
		t.put(writer, key, key)
		if r.IsPrefix {
			t.delete(writer, key)
		}
	}
}

func watchDeleteEvent(t *trial) {
	c, writer := t.open(), t.open()
	t.put(writer, "k", "v")
	w := t.watchEvents(c, kv.PrefixRange(""))
	w.synced(1)
	t.delete(writer, "k")
	events := w.until("a deletion", 1, func(e kv.Event) bool { return e.Type == kv.Delete })
	if e := events[len(events)-1]; e.Key != "k" || e.Value != nil {
		t.Fatalf("the deletion of \"k\" was told as %v", e)
	}
}

func watchUndecodableEvent(t *trial) {
	c, writer := t.openWith(picky{}), t.open()
	t.put(writer, "k", "?garbage")
	w := t.watchEvents(c, kv.PrefixRange(""))
	w.synced(1)
	t.put(writer, "l", "?garbage")
	for _, key := range []string{"k", "l"} {
		events := w.until("an Undecodable of "+key, 1, func(e kv.Event) bool { return e.Type == kv.Undecodable && e.Key == key })
		t.wantErr(events[len(events)-1].Err, "an Undecodable event", errPicky)
	}
	t.put(writer, "l", "fine")
	w.until("the next value", 1, func(e kv.Event) bool { return e.Type == kv.Put && e.Value == "fine" })
}

func watchInterruptedEvent(t *trial) {
	c, line := t.openLine()
	writer := t.open()
	t.put(writer, "k", "v")
	w := t.watchEvents(c, kv.KeyRange("k"))
	w.synced(1)
	line.Cut()
	events := w.until("Interrupted", 1, func(e kv.Event) bool { return e.Type == kv.Interrupted })
	if events[len(events)-1].Err == nil {
		t.Fatalf("an Interrupted event has no cause")
	}
	t.put(writer, "k", "w")
	line.Mend()
	events = w.synced(2)
	if e := events[len(events)-2]; e.Type != kv.Put || e.Value != "w" {
		t.Fatalf("before it said Synced again, the watch delivered %v, want a put of what changed", e)
	}
}

// onlyClient has none of the optional interfaces of the client inside.
type onlyClient struct{ kv.Client }

func extrasRefused(t *trial) {
	bare := onlyClient{t.open()}
	calls := map[Extra]func(kv.Client) error{
		Watch: func(c kv.Client) error {
			return kv.Watch(t.ctx(), c, kv.KeyRange("k"), func(kv.Event) bool { return false })
		},
		Ping:    func(c kv.Client) error { return kv.Ping(t.ctx(), c) },
		Limits:  func(c kv.Client) error { _, err := kv.LimitsOf(c); return err },
		Raw:     func(c kv.Client) error { _, err := kv.Raw(c); return err },
		Guarded: func(c kv.Client) error { return tryGuarded(t, c, kv.Guard{Key: "guard", Version: 1}) },
		Versioned: func(c kv.Client) error {
			v, err := kv.Versioned(c)
			if err == nil {
				_, _, err = v.GetVersion(t.ctx(), "k")
			}
			return err
		},
	}
	for extra, call := range calls {
		t.wantErr(call(bare), string(extra)+" of a client without it", kv.ErrNotSupported)
	}
	c := t.open()
	for _, extra := range t.features.Lacks {
		if call, ok := calls[extra]; ok {
			t.wantErr(call(c), string(extra)+", which the client is said to lack", kv.ErrNotSupported)
		}
	}
	wrapped := t.own(kv.Prefix(onlyClient{t.open()}, "ns/"))
	for extra, call := range calls {
		if err := call(wrapped); !errors.Is(err, kv.ErrNotSupported) {
			t.Fatalf("%s of a Prefix over a client without it returned %v, want ErrNotSupported", extra, err)
		}
	}
	t.put(wrapped, "k", "v") // what a listing of entries is made of is always there
	for entry, err := range kv.Entries(t.ctx(), bare, "") {
		t.ok(err, "Entries of a client without it")
		t.wantGet(bare, entry.Key, entry.Value)
	}
}

func refusedAtOnce(t *trial) {
	bare := onlyClient{t.open()}
	ask := map[Extra]func(kv.Client) error{
		Guarded:   func(c kv.Client) error { _, err := kv.Guarded(c); return err },
		Versioned: func(c kv.Client) error { _, err := kv.Versioned(c); return err },
	}
	for extra, asked := range ask {
		for i, c := range []kv.Client{t.open(), bare} {
			prefixed, err := kv.Prefix(c, "ns/")
			t.ok(err, "kv.Prefix")
			for what, c := range map[string]kv.Client{"a client": c, "a Prefix": prefixed, "a SkipDeletes": kv.SkipDeletes(c)} {
				if i == 0 && t.has(extra) {
					t.ok(asked(c), "%s of %s that has it", extra, what)
				} else {
					t.wantErr(asked(c), fmt.Sprintf("%s of %s that lacks it", extra, what), kv.ErrNotSupported)
				}
			}
		}
	}
	if !t.has(Guarded) {
		_, err := kv.Fenced(t.open(), kv.Guard{Key: "guard", Version: 1})
		t.wantErr(err, "Fenced of a client without guards", kv.ErrNotSupported)
	}
}
