package conformance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/polykv/polykv/kv/driver"
)

// These cases are about drivers whose sessions tell positions. Of others they
// check that they tell none anywhere.
func resumeCases() []testCase {
	return []testCase{
		{"Driver", "resumes", "a session that goes on from a position tells what happened since, once, and is in step when it says Synced", needDriver, driverResumes},
		{"Driver", "resumes-amid-writes", "sessions that break off anywhere amid writes add up to one", needDriver, driverResumesAmidWrites},
		{"Driver", "resumes-compacted", "a session whose position is compacted away misses nothing", needDriver | needCompact, driverResumesCompacted},
		{"Driver", "resumes-restored", "a session whose position is of another history goes by the one that there is", needDriver | needSnapshot, driverResumesRestored},
		{"Driver", "locates", "a session that has come to where the store was located has told every write before that", needDriver, driverLocates},
	}
}

// followed is what sessions, one after another, have told of a range.
type followed struct {
	t       *trial
	store   driver.Store
	of      driver.Range
	state   map[string]driver.Version
	at      driver.Position
	resumed int // how many sessions went on

	scanning bool
}

func (t *trial) followed(d driver.Store, r driver.Range) *followed {
	return &followed{t: t, store: d, of: r, state: map[string]driver.Version{}}
}

// session runs a session from where the last one was until enough, and takes in
// what it told up to its last position.
func (f *followed) session(enough func([]driver.Event) bool) (taken []driver.Event) {
	f.t.Helper()
	events := f.t.sessionFrom(f.store, driver.WatchRequest{Range: f.of, Position: f.at}, enough)
	for n := range events { // what came while the session ended is not taken in
		if enough(events[:n+1]) {
			events = events[:n+1]
			break
		}
	}
	last := -1
	for i, ev := range events {
		if ev.Position != nil {
			last = i
		}
	}
	if f.at == nil && events[0].Type == driver.Resumed {
		f.t.Fatalf("a session without a position says Resumed")
	}
	for i, ev := range events[:last+1] {
		f.take(i, ev)
	}
	return events[:last+1]
}

func (f *followed) take(i int, ev driver.Event) {
	f.t.Helper()
	if i == 0 {
		f.scanning = ev.Type != driver.Resumed
	}
	if i == 0 && f.scanning || ev.Type == driver.Restart {
		f.scanning = true
		clear(f.state)
	}
	key := ev.Entry.Key
	switch ev.Type {
	case driver.Put:
		if f.state[key] == ev.Entry.Version {
			f.t.Fatalf("event %d of a session tells version %d of %q again", i+1, ev.Entry.Version, key)
		}
		f.state[key] = ev.Entry.Version
	case driver.Delete:
		delete(f.state, key)
	case driver.Synced:
		f.scanning = false
	case driver.Resumed:
		f.resumed++
		if i > 0 {
			f.t.Fatalf("event %d of a session is Resumed", i+1)
		}
	}
	if ev.Position != nil {
		if f.scanning {
			f.t.Fatalf("event %d of a session, a %v, has a position amid a snapshot", i+1, ev.Type)
		}
		f.at = ev.Position
	}
}

// inStep runs a session until it says that it is in step, while nobody writes,
// and wants it to know then what is there.
func (f *followed) inStep() {
	f.t.Helper()
	f.session(whole)
	if f.at == nil {
		return
	}
	want := map[string]driver.Version{}
	page, err := f.store.Scan(f.t.ctx(), driver.ScanRequest{Prefix: f.of.Key})
	f.t.ok(err, "Scan")
	for _, e := range page.Entries {
		want[e.Key] = e.Version
	}
	if !maps.Equal(f.state, want) {
		f.t.Fatalf("in step, sessions told %v, and %v is there", f.state, want)
	}
}

// change sets two keys, creates one, deletes one and has one come and go.
func (t *trial) change(d driver.Store, round int) {
	t.Helper()
	value := fmt.Appendf(nil, "%d", round)
	remove := func(key string) {
		if e := t.entry(d, key); e.Exists() {
			t.swap(d, driver.Swap{Key: key, Prev: e, Remove: true}, driver.Applied)
		}
	}
	t.set(d, "r/always", value)
	t.set(d, fmt.Sprintf("r/%d", round%3), value)
	t.set(d, fmt.Sprintf("r/new%d", round), value)
	remove(fmt.Sprintf("r/new%d", round-1))
	t.set(d, "r/passing", value)
	remove("r/passing")
	t.set(d, "other", value)
}

func driverResumes(t *trial) {
	writer, reader := t.openDriver(), t.openDriver()
	f := t.followed(reader, driver.Range{Key: "r/", IsPrefix: true})
	for round := range 8 {
		t.change(writer, round)
		f.inStep()
		if f.at == nil {
			return
		}
		if round%3 == 2 { // nothing happened, in the range or at all
			t.set(writer, "other", []byte("again"))
			f.inStep()
			f.inStep()
		}
	}
	if f.resumed == 0 {
		t.Fatalf("sessions tell positions, and none goes on from one")
	}
	t.swap(writer, driver.Swap{Key: "r/always", Prev: t.entry(writer, "r/always"), Remove: true}, driver.Applied)
	f.inStep()
}

func driverResumesAmidWrites(t *trial) {
	writer, reader := t.openDriver(), t.openDriver()
	stop := make(chan struct{})
	writing := t.start(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				t.change(writer, i)
			}
		}
	})
	f := t.followed(reader, driver.Range{Key: "r/", IsPrefix: true})
	highest := map[string]driver.Version{} // by key, of those that are never deleted
	for i := range t.many(60, 10) {
		more := i % 7
		taken := f.session(func(events []driver.Event) bool {
			at := slices.IndexFunc(events, func(ev driver.Event) bool { return ev.Type == driver.Synced })
			return at >= 0 && len(events) > at+more || i%5 == 4 && len(events) > 0 && events[0].Type == driver.Resumed
		})
		if f.at == nil || t.Failed() || writing.yet() {
			break
		}
		snapshot := len(taken) > 0 && taken[0].Type != driver.Resumed
		for n, ev := range taken {
			snapshot = snapshot || ev.Type == driver.Restart
			if key := ev.Entry.Key; ev.Type == driver.Put && key == "r/always" {
				if before := highest[key]; before == ev.Entry.Version && !snapshot {
					t.Fatalf("event %d of session %d tells version %d again", n+1, i+1, before)
				}
				highest[key] = ev.Entry.Version
			}
			snapshot = snapshot && ev.Type != driver.Synced
		}
	}
	close(stop)
	writing.wait("the writer ends")
	f.inStep()
	// No later write hides one of these that is passed over.
	for i := range 6 {
		t.set(writer, fmt.Sprintf("r/once%d", i), []byte("once"))
		f.session(func(events []driver.Event) bool {
			return whole(events) || slices.ContainsFunc(events, func(ev driver.Event) bool { return ev.Type == driver.Put })
		})
	}
	f.inStep()
}

func driverResumesCompacted(t *trial) {
	writer, reader := t.openDriver(), t.openDriver()
	f := t.followed(reader, driver.Range{Key: "r/", IsPrefix: true})
	for round := range 4 {
		t.change(writer, round)
		f.inStep()
		t.change(writer, round+10)
		t.disrupt("Compact", t.store.Compact)
		if round%2 == 0 {
			t.change(writer, round+20)
		}
		f.inStep()
	}
}

func driverResumesRestored(t *trial) {
	writer, reader := t.openDriver(), t.openDriver()
	f := t.followed(reader, driver.Range{Key: "r/", IsPrefix: true})
	t.change(writer, 0)
	f.inStep()
	var restore func(context.Context) error
	t.disrupt("Snapshot", func(ctx context.Context) (err error) {
		restore, err = t.store.Snapshot(ctx)
		return err
	})
	t.answers(writer, reader) // connections may have broken
	for round := range 5 {
		t.change(writer, round+1)
	}
	f.inStep()
	t.disrupt("the restore", restore)
	fresh := t.openDriver()
	t.answers(fresh, reader)
	f.inStep()
	t.change(fresh, 30)
	f.inStep()
}

// answers waits until each of these handles reaches the store.
func (t *trial) answers(handles ...driver.Store) {
	t.Helper()
	for _, d := range handles {
		t.eventually("the store answers", func() bool {
			_, err := d.Get(t.ctx(), driver.GetRequest{Key: "r/always"})
			return err == nil
		})
	}
}

func driverLocates(t *trial) {
	writer, reader := t.openDriver(), t.openDriver()
	locator, ok := reader.(driver.Locator)
	r := driver.Range{Key: "r/", IsPrefix: true}
	if ok {
		_, err := locator.Locate(t.ctx(), r, nil)
		ok = !errors.Is(err, driver.ErrNotSupported)
	}
	if !ok {
		return
	}
	t.change(writer, 0)
	f := t.followed(reader, r)
	f.inStep()
	for round := range 20 {
		switch round % 4 {
		case 0:
			t.set(writer, "r/always", fmt.Append(nil, "located ", round)) // a value that it hasn't yet: some stores take the same for no write
		case 1:
			t.swap(writer, driver.Swap{Key: "r/always", Prev: t.entry(writer, "r/always"), Remove: true}, driver.Applied)
		case 2:
			t.set(writer, "other", fmt.Append(nil, round))
		}
		goal, err := locator.Locate(t.ctx(), r, f.at)
		t.ok(err, "Locate")
		if behind := !f.at.Covers(goal); behind != (round%4 < 2) {
			t.Fatalf("round %d: a session that has told no change of the range since is said to be behind: %v", round, behind)
		}
		f.session(func(events []driver.Event) bool {
			last := events[len(events)-1]
			return last.Position != nil && last.Position.Covers(goal)
		})
		if want := t.entry(writer, "r/always").Version; f.state["r/always"] != want {
			t.Fatalf("round %d: a session that covers where the store was located knows version %d, and %d is there", round, f.state["r/always"], want)
		}
	}
}
