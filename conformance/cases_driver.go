package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/polykv/polykv/kv/driver"
)

// These cases look at the driver itself. The engine hides some of its faults,
// or shows them rarely: most codecs copy a value at once, and a state that is
// told twice in a row is delivered once.
func driverCases() []testCase {
	return []testCase{
		{"Driver", "entries", "an absent key has version 0 and is no error, and an empty value is no absent one", needDriver, driverEntries},
		{"Driver", "values-last", "bytes that were returned or emitted stay as they are, whatever happens afterwards", needDriver, driverValuesLast},
		{"Driver", "outcomes", "a Swap tells what became of it, with the entry as it is now if it tells one", needDriver, driverOutcomes},
		{"Driver", "pages", "the pages of a Scan are sorted, begin after the key that is named, and join without a gap", needDriver, driverPages},
		{"Driver", "told-once", "a session that begins amid writes tells each state once, those of its snapshot included", needDriver, driverTellsOnce},
		{"Driver", "hot-keys", "what is written again and again is in each snapshot of a session, and in a Scan of one page", needDriver, driverHotKeys},
		{"Driver", "ended-ctx", "a call whose ctx is over changes nothing and returns its error", needDriver, driverEndedCtx},
	}
}

// openDriver opens a handle of the driver, which is closed at the end.
func (t *trial) openDriver() driver.Store {
	t.Helper()
	s, err := t.store.OpenDriver()
	t.ok(err, "opening a handle of the driver")
	t.mu.Lock()
	defer t.mu.Unlock()
	t.handles = append(t.handles, s)
	return s
}

func (t *trial) entry(s driver.Store, key string) driver.Entry {
	t.Helper()
	e, err := s.Get(t.ctx(), driver.GetRequest{Key: key})
	t.ok(err, "Get of %q", key)
	return e
}

// swap makes a swap and wants it to end like this.
func (t *trial) swap(d driver.Store, s driver.Swap, want driver.Outcome) driver.Result {
	t.Helper()
	s.ID = 1
	r, err := d.Swap(t.ctx(), s)
	if r.Outcome != want || (err == nil) != (want != driver.NotApplied && want != driver.Unknown) {
		t.Fatalf("Swap of %q from version %d returned %v, %v; want %v", s.Key, s.Prev.Version, r.Outcome, show(err), want)
	}
	return r
}

// set writes a key that nobody else writes to at the moment.
func (t *trial) set(d driver.Store, key string, value []byte) driver.Entry {
	t.Helper()
	t.swap(d, driver.Swap{Key: key, Prev: t.entry(d, key), Value: value}, driver.Applied)
	return t.entry(d, key)
}

// session runs one watch session until its events satisfy enough.
func (t *trial) session(d driver.Store, r driver.Range, enough func([]driver.Event) bool) []driver.Event {
	t.Helper()
	return t.sessionFrom(d, driver.WatchRequest{Range: r}, enough)
}

func (t *trial) sessionFrom(d driver.Store, req driver.WatchRequest, enough func([]driver.Event) bool) []driver.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.ctx(), t.patience)
	defer cancel()
	var events []driver.Event
	err := d.Watch(ctx, req, func(ev driver.Event) {
		if events = append(events, ev); enough(events) {
			cancel()
		}
	})
	if err == nil || !enough(events) {
		t.Fatalf("a watch session ended with %v after %d events", show(err), len(events))
	}
	return events
}

// whole reports whether a session's snapshot is complete.
func whole(events []driver.Event) bool {
	return slices.ContainsFunc(events, func(ev driver.Event) bool { return ev.Type == driver.Synced })
}

func driverEntries(t *trial) {
	a, b := t.openDriver(), t.openDriver()
	if e := t.entry(a, "k"); e.Version != 0 || len(e.Value) != 0 {
		t.Fatalf("Get of an absent key returned version %d and %d bytes", e.Version, len(e.Value))
	}
	t.set(a, "k", []byte{})
	want := t.entry(a, "k")
	page, err := b.Scan(t.ctx(), driver.ScanRequest{Prefix: "k"})
	t.ok(err, "Scan")
	if len(page.Entries) != 1 || page.More {
		t.Fatalf("Scan of one key returned %d entries, more: %v", len(page.Entries), page.More)
	}
	watched := t.session(b, driver.Range{Key: "k"}, whole)
	for from, e := range map[string]driver.Entry{"Get": want, "Scan": page.Entries[0], "Watch": watched[0].Entry} {
		if e.Key != "k" || e.Version == 0 || e.Version != want.Version || e.Value == nil || len(e.Value) != 0 {
			t.Errorf("%s tells %q at version %d with the value %#v, want an empty and not nil one at version %d", from, e.Key, e.Version, e.Value, want.Version)
		}
	}
	t.swap(a, driver.Swap{Key: "k", Prev: want, Remove: true}, driver.Applied)
	if e := t.entry(b, "k"); e.Version != 0 {
		t.Fatalf("Get of a removed key returned version %d", e.Version)
	}
}

// driverValuesLast keeps what every method gave, and looks at it again after
// more calls of the same kind on other values of the same size.
func driverValuesLast(t *trial) {
	const size = 4000
	d := t.openDriver()
	type kept struct {
		from        string
		given, copy []byte
	}
	var all []kept
	keep := func(from string, value []byte) {
		if len(value) != size {
			t.Fatalf("%s gave %d bytes of a value of %d", from, len(value), size)
		}
		all = append(all, kept{from, value, bytes.Clone(value)})
	}
	stale := t.set(d, "k", []byte("first"))
	for i := range 20 {
		now := t.set(d, "k", bytes.Repeat([]byte{byte('a' + i)}, size))
		keep("Get", now.Value)
		if r := t.swap(d, driver.Swap{Key: "k", Prev: stale, Value: []byte("late")}, driver.Conflict); r.Known {
			keep("a conflict of Swap", r.Entry.Value)
		}
		page, err := d.Scan(t.ctx(), driver.ScanRequest{Prefix: "k"})
		t.ok(err, "Scan")
		keep("Scan", page.Entries[0].Value)
		keep("the snapshot of Watch", t.session(d, driver.Range{Key: "k"}, whole)[0].Entry.Value)
		var change *ending // made by another goroutine, as the one that emits may hold locks
		events := t.session(d, driver.Range{Key: "k", IsPrefix: true}, func(events []driver.Event) bool {
			last := events[len(events)-1]
			if last.Type == driver.Synced && change == nil {
				change = t.start(func() { t.set(d, "k", bytes.Repeat([]byte{byte('A' + i)}, size)) })
			}
			return last.Type == driver.Put && change != nil
		})
		change.wait("a write returns")
		keep("a change of Watch", events[len(events)-1].Entry.Value)
	}
	for _, k := range all {
		if !bytes.Equal(k.given, k.copy) {
			t.Errorf("later calls changed the value that %s gave", k.from)
		}
	}
}

func driverOutcomes(t *trial) {
	a, b := t.openDriver(), t.openDriver()
	told := func(r driver.Result, want driver.Entry) {
		t.Helper()
		if e := r.Entry; r.Known && (e.Version != want.Version || r.Outcome == driver.Conflict && !bytes.Equal(e.Value, want.Value)) {
			t.Errorf("Swap tells version %d and %q, but %d and %q are there", e.Version, e.Value, want.Version, want.Value)
		}
	}
	absent := driver.Entry{Key: "k"}
	told(t.swap(a, driver.Swap{Key: "k", Prev: absent, Value: []byte("1")}, driver.Applied), t.entry(b, "k"))
	first := t.entry(b, "k")
	told(t.swap(b, driver.Swap{Key: "k", Prev: absent, Value: []byte("late")}, driver.Conflict), first)
	told(t.swap(b, driver.Swap{Key: "k", Prev: first, Value: []byte("2")}, driver.Applied), t.entry(a, "k"))
	second := t.entry(a, "k")
	told(t.swap(a, driver.Swap{Key: "k", Prev: first, Value: []byte("late")}, driver.Conflict), second)
	told(t.swap(a, driver.Swap{Key: "k", Prev: first, Remove: true}, driver.Conflict), second)
	if t.has(Guarded) {
		g := t.set(b, "guard", []byte("on"))
		holds, broken := []driver.Guard{{Key: "guard", Version: g.Version}}, []driver.Guard{{Key: "guard", Version: g.Version + 1000}}
		t.swap(a, driver.Swap{Key: "k", Prev: first, Value: []byte("late"), Guards: broken}, driver.GuardBroken)
		t.swap(a, driver.Swap{Key: "k", Prev: second, Value: []byte("late"), Guards: broken}, driver.GuardBroken)
		t.swap(a, driver.Swap{Key: "k", Prev: first, Value: []byte("late"), Guards: holds}, driver.Conflict)
		told(t.swap(a, driver.Swap{Key: "k", Prev: second, Value: []byte("3"), Guards: holds}, driver.Applied), t.entry(b, "k"))
		second = t.entry(b, "k")
	}
	told(t.swap(b, driver.Swap{Key: "k", Prev: second, Remove: true}, driver.Applied), absent)
	told(t.swap(a, driver.Swap{Key: "k", Prev: second, Value: []byte("late")}, driver.Conflict), absent)
	if e := t.entry(a, "k"); e.Exists() {
		t.Fatalf("a swap from a state that is gone wrote %q", e.Value)
	}
}

func driverPages(t *trial) {
	d := t.openDriver()
	want := make([]string, 23)
	versions := map[string]driver.Version{}
	for i := range want {
		want[i] = fmt.Sprintf("p/%02d", i)
		versions[want[i]] = t.set(d, want[i], []byte(want[i])).Version
	}
	t.set(d, "p", []byte("before"))
	t.set(d, "p0", []byte("after"))
	for _, what := range []driver.ScanRequest{{}, {KeysOnly: true}, {KeysOnly: true, Bare: true}} {
		for _, limit := range []int{0, 1, 5, 23} {
			var got []string
			req := what
			req.Prefix, req.Limit = "p/", limit
			for more := true; more; {
				page, err := d.Scan(t.ctx(), req)
				t.ok(err, "Scan")
				if got = append(got, page.Keys...); len(page.Keys) > 0 && (!req.Bare || len(page.Entries) > 0) {
					t.Fatalf("Scan returned bare keys beside entries, or unasked")
				}
				for _, e := range page.Entries {
					got = append(got, e.Key)
					if req.KeysOnly && e.Version != 0 && e.Version != versions[e.Key] {
						t.Fatalf("Scan of keys tells %q of version %d, which has version %d", e.Key, e.Version, versions[e.Key])
					}
					if !req.KeysOnly && (e.Version == 0 || string(e.Value) != e.Key) {
						t.Fatalf("Scan tells %q of %q, at version %d", e.Value, e.Key, e.Version)
					}
				}
				if more = page.More && len(got) <= len(want); more {
					if len(page.Entries)+len(page.Keys) == 0 {
						t.Fatalf("Scan returned no entry and says that there are more")
					}
					req.After, req.Snapshot = got[len(got)-1], page.Snapshot
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("Scan in pages of %d returned %q, want %q", limit, got, want)
			}
		}
	}
}

// driverTellsOnce has sessions begin while a key is changed, removed and
// created, and compares what each was told with what happened, in order.
func driverTellsOnce(t *trial) {
	writer, reader := t.openDriver(), t.openDriver()
	var versions []driver.Version // of the states of the key, in order; 0: absent
	stop := make(chan struct{})
	writing := t.start(func() {
		now := t.set(writer, "k", []byte("0"))
		for i := 0; ; i++ {
			versions = append(versions, now.Version)
			select {
			case <-stop:
				return
			default:
			}
			s := driver.Swap{Key: "k", Prev: now, Value: fmt.Appendf(nil, "%d", i), Remove: i%5 == 4}
			r := t.swap(writer, s, driver.Applied)
			now = driver.Entry{Key: "k"}
			switch {
			case s.Remove:
			case r.Known:
				now = r.Entry
				now.Key, now.Value = s.Key, s.Value
			default:
				now = t.entry(writer, "k")
			}
		}
	})
	var sessions [][]driver.Event
	t.start(func() {
		enough := time.Now().Add(min(2*time.Second, t.patience/3)) // for a store whose sessions take long
		for n := range t.many(200, 20) {
			if t.Failed() || writing.yet() || n >= 20 && time.Now().After(enough) {
				break
			}
			sessions = append(sessions, t.session(reader, driver.Range{Key: "k"}, func(events []driver.Event) bool {
				return whole(events) && len(events) >= 6
			}))
		}
	}).wait("the sessions see changes")
	close(stop)
	writing.wait("the writer ends")
	position := make(map[driver.Version]int, len(versions))
	for i, v := range versions {
		position[v] = i
	}
	for _, events := range sessions {
		t.checkSession(events, versions, position)
	}
}

// checkSession wants what one session was told of a key to go forward through
// the states that there were.
func (t *trial) checkSession(events []driver.Event, versions []driver.Version, position map[driver.Version]int) {
	t.Helper()
	at, restarted := -1, false
	for i, ev := range events {
		switch ev.Type {
		case driver.Restart: // a new snapshot, which may tell the last state again
			restarted = true
		case driver.Synced:
			restarted = false
		case driver.Put:
			next, known := position[ev.Entry.Version]
			if !known || next < at || next == at && !restarted {
				t.Fatalf("event %d of a session is the state of version %d, which was there before what had been told already: %v", i+1, ev.Entry.Version, versionsOf(events[:i+1]))
			}
			at = next
		case driver.Delete:
			next := slices.Index(versions[at+1:], 0)
			if next < 0 {
				t.Fatalf("event %d of a session is a deletion that there was not: %v", i+1, versionsOf(events[:i+1]))
			}
			at += 1 + next
		}
	}
}

// driverHotKeys reads keys that are there all the time. A store that sends the last
// change of each key in turn has to see to those that change before their turn comes.
func driverHotKeys(t *trial) {
	writer, reader := t.openDriver(), t.openDriver()
	const hot = 6
	for i := range hot {
		t.set(writer, fmt.Sprintf("k/%d", i), nil)
	}
	var done atomic.Bool
	t.each(hot+1, func(i int) {
		for n := 0; i < hot && !done.Load(); n++ {
			t.set(writer, fmt.Sprintf("k/%d", i), strconv.AppendInt(nil, int64(n), 10))
		}
		if i < hot {
			return
		}
		defer done.Store(true)
		for range t.many(100, 20) {
			events := t.session(reader, driver.Range{Key: "k/", IsPrefix: true}, whole)
			synced := slices.IndexFunc(events, func(ev driver.Event) bool { return ev.Type == driver.Synced })
			page, err := reader.Scan(t.ctx(), driver.ScanRequest{Prefix: "k/"})
			if t.ok(err, "Scan"); synced < hot || !page.More && len(page.Entries) != hot {
				t.Fatalf("of %d keys a session's snapshot tells %d, and Scan %d", hot, synced, len(page.Entries))
			}
		}
	})
}

// versionsOf prints events by their versions.
func versionsOf(events []driver.Event) []string {
	events = events[max(0, len(events)-20):] // those that tell
	var all []string
	for _, ev := range events {
		switch ev.Type {
		case driver.Put:
			all = append(all, fmt.Sprint(ev.Entry.Version))
		case driver.Delete:
			all = append(all, "deleted")
		case driver.Synced:
			all = append(all, "synced")
		case driver.Restart:
			all = append(all, "restart")
		}
	}
	return all
}

func driverEndedCtx(t *trial) {
	d := t.openDriver()
	was := t.set(d, "k", []byte("v"))
	ctx, cancel := context.WithCancel(t.ctx())
	cancel()
	calls := map[string]func() error{
		"Get":  func() error { _, err := d.Get(ctx, driver.GetRequest{Key: "k"}); return err },
		"Scan": func() error { _, err := d.Scan(ctx, driver.ScanRequest{}); return err },
		"Watch": func() error {
			return d.Watch(ctx, driver.WatchRequest{Range: driver.Range{Key: "k"}}, func(driver.Event) { t.Errorf("Watch emits although its ctx is over") })
		},
	}
	for name, s := range map[string]driver.Swap{
		"an update": {Key: "k", Prev: was, Value: []byte("new"), ID: 1},
		"a create":  {Key: "absent", Value: []byte("new"), ID: 1},
		"a removal": {Key: "k", Prev: was, Remove: true, ID: 1},
	} {
		calls["Swap, "+name] = func() error {
			r, err := d.Swap(ctx, s)
			if r.Outcome != driver.NotApplied && r.Outcome != driver.Unknown {
				t.Errorf("Swap, %s, whose ctx is over: %v", name, r.Outcome)
			}
			return err
		}
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s whose ctx is over returned %v, want an error that matches %q", name, show(err), context.Canceled)
		}
	}
	if e := t.entry(d, "k"); e.Version != was.Version {
		t.Fatalf("calls whose ctx was over changed the key: %q at version %d", e.Value, e.Version)
	}
	if e := t.entry(d, "absent"); e.Exists() {
		t.Fatalf("a Swap whose ctx was over created its key")
	}
}
