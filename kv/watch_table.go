package kv

import (
	"cmp"
	"container/list"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv/driver"
)

// watchTable stands between a watch session, which must never wait, and a
// callback, which may be slow. It holds the newest state of each key, and
// the keys with news in order of arrival, so its size is bounded by the
// number of keys. It outlives sessions: a new session's snapshot is compared
// with what it holds, so that what was missed is made up for and
// nothing is delivered twice.
type watchTable struct {
	wake   chan struct{} // of capacity 1: there may be something to drain
	wanted func(key string) bool
	sum    func(stored) digest

	// byVersion: who drains it wants to know of new versions of the same state
	// too, and everything in the order of versions.
	byVersion bool

	mu       sync.Mutex
	slots    map[string]*slot
	news     *list.List // of *slot and *marker, oldest first
	session  uint64     // counts snapshots
	scanning bool       // a snapshot is under way
	complete bool       // the first snapshot has been seen whole
	since    time.Time  // when the session's snapshot was complete; zero: not yet
	outage   bool       // Interrupted was told, and Synced not since
	refused  bool       // and that for a reason which lasts
	gap      *list.Element
	sync     *list.Element
}

// slot is one key of a table.
type slot struct {
	key     string
	value   stored // of a Put that was not taken yet
	version Version
	exists  bool
	seen    uint64 // the last snapshot that had the key
	arrived time.Time
	place   *list.Element // in news; nil: no news
	early   bool          // it comes before the Synced that was last put into news
	again   bool          // and was changed since, so that its version comes behind that
	told    bool          // a value was delivered and no deletion since

	// Only the goroutine that drains the table uses these, without the lock.
	toldSum digest // of the value that was delivered
	last    digest // of the value processed last, be it undecodable

	lastVersion Version // that was told last
}

// marker is news that belongs to no key.
type marker struct {
	event   Event
	arrived time.Time
}

// digest stands for a value: for bytes, 128 bits of two keyed hashes, so
// that a table doesn't hold on to every value that it delivered.
type digest [2]uint64

var digestSeeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func digestOf(b []byte) digest {
	return digest{maphash.Bytes(digestSeeds[0], b), maphash.Bytes(digestSeeds[1], b)}
}

// pendingEvent is news taken out of a table. Of a Put, the value is still to
// be decoded.
type pendingEvent struct {
	event   Event
	arrived time.Time

	slot    *slot // of a Put
	stored  stored
	wasTold bool   // slot.told before this was taken
	wasSum  digest // slot.toldSum before this was taken
}

func newWatchTable(wanted func(key string) bool, sum func(stored) digest) *watchTable {
	return &watchTable{
		wake:   make(chan struct{}, 1),
		wanted: wanted,
		sum:    sum,
		slots:  make(map[string]*slot),
		news:   list.New(),
	}
}

// begin announces a new session.
func (t *watchTable) begin() { t.emit(driver.Event{Type: driver.Restart}) }

// emit takes in a driver's event. It never waits for the callback.
func (t *watchTable) emit(ev driver.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch ev.Type {
	case driver.Put:
		t.put(ev.Entry)
	case driver.Delete:
		t.remove(ev.Entry.Key)
	case driver.Synced:
		t.synced()
	case driver.Restart:
		t.session++
		t.scanning = true
	case driver.Resumed:
		t.scanning = false
	case driver.Progress:
	}
	wait.Signal(t.wake)
}

// put notes a key's state; t.mu is held.
func (t *watchTable) put(entry driver.Entry) {
	s := t.slots[entry.Key]
	if s == nil {
		if !t.wanted(entry.Key) {
			return
		}
		s = &slot{key: entry.Key}
		t.slots[entry.Key] = s
	}
	s.value, s.version, s.exists, s.seen = storedIn(entry), entry.Version, true, t.session
	t.queue(s)
}

// remove notes that a key is absent; t.mu is held. A key that nobody was told
// of leaves no trace, so short-lived keys don't fill the table under a slow
// callback.
func (t *watchTable) remove(key string) {
	s := t.slots[key]
	switch {
	case s == nil:
	case s.told:
		s.value, s.exists = stored{}, false
		t.queue(s)
	default:
		if s.place != nil {
			t.news.Remove(s.place)
		}
		delete(t.slots, key)
	}
}

func (t *watchTable) queue(s *slot) {
	switch {
	case s.place == nil:
		s.place = t.news.PushBack(s)
		s.arrived = time.Now()
	case t.byVersion && s.early && t.sync != nil: // Synced says that every key was told
		s.again = true
	case t.byVersion: // it is newer than what came meanwhile
		t.news.MoveToBack(s.place)
	}
}

// synced ends a snapshot: keys that it didn't have were deleted; t.mu is held.
func (t *watchTable) synced() {
	if t.scanning {
		for key, s := range t.slots {
			if s.seen != t.session {
				t.remove(key)
			}
		}
		t.scanning = false
	}
	if t.since.IsZero() {
		t.since = time.Now()
	}
	news := !t.complete || t.outage // a Restart within a session has interrupted nothing
	switch {
	case !t.complete:
		t.complete = true
		t.sortNews(func(a, b *slot) int { return cmp.Compare(a.key, b.key) })
	case t.byVersion:
		t.sortNews(func(a, b *slot) int { return cmp.Compare(a.version, b.version) })
	}
	if t.outage = false; news || t.sync != nil {
		t.mark(&t.sync, Event{Type: Synced})
	}
}

// keys returns how many keys the store has, as far as is known.
func (t *watchTable) keys() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.slots)
}

// version returns what the store was told to have of a key; 0: it is absent.
func (t *watchTable) version(key string) Version {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.slots[key]; s != nil && s.exists {
		return s.version
	}
	return 0
}

// differing returns the keys of which t was told something else than what a
// listing has. It takes the others out of the listing.
func (t *watchTable) differing(stored map[string]Version) map[string]doubt {
	t.mu.Lock()
	defer t.mu.Unlock()
	doubts := map[string]doubt{}
	for key, s := range t.slots {
		version := stored[key]
		switch {
		case !s.exists:
			continue
		case version != s.version:
			doubts[key] = doubt{version, s.version}
		}
		delete(stored, key)
	}
	for key, version := range stored {
		if t.wanted(key) {
			doubts[key] = doubt{stored: version}
		}
	}
	return doubts
}

// sortNews puts the first snapshot in the order of keys, whatever sessions it
// took to read it, and later ones in that of versions if that is wanted.
func (t *watchTable) sortNews(order func(a, b *slot) int) {
	var slots []*slot
	for _, s := range t.slots {
		if s.place != nil {
			slots = append(slots, s)
		}
	}
	slices.SortFunc(slots, order)
	for _, s := range slots {
		t.news.MoveToBack(s.place)
		s.early, s.again = true, false
	}
}

// mark appends a marker, in place of an older one of its kind.
func (t *watchTable) mark(kind **list.Element, ev Event) {
	if *kind != nil {
		t.news.Remove(*kind)
	}
	*kind = t.news.PushBack(&marker{ev, time.Now()})
}

// interrupted notes the end of a session, and returns since when it had been
// in step with the store; zero: never. An outage is told once, and once more
// when it turns out to be one that lasts until somebody does something.
func (t *watchTable) interrupted(err error) (since time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if refused := driver.IsPermanent(err); !t.outage || refused && !t.refused {
		t.outage, t.refused = true, refused
		t.mark(&t.gap, Event{Type: Interrupted, Err: err})
		wait.Signal(t.wake)
	}
	since, t.since = t.since, time.Time{}
	return since
}

// next takes out the oldest news. Values are compared outside the lock, which
// the session needs, and with it perhaps the writers of a store.
func (t *watchTable) next() (pendingEvent, bool) {
	for {
		p, ok := t.pop()
		if !ok || p.slot == nil || t.changed(&p) {
			return p, ok
		}
		if t.byVersion && p.event.Version != 0 && p.event.Version != p.slot.lastVersion {
			p.slot.lastVersion = p.event.Version
			p.event.Type, p.slot = Rewritten, nil
			return p, ok
		}
	}
}

// pop takes out the oldest news. Before the first snapshot is whole it gives
// only markers, so that the initial keys come sorted and of one moment.
func (t *watchTable) pop() (pendingEvent, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.complete || t.byVersion && t.scanning {
		if t.gap == nil {
			return pendingEvent{}, false
		}
		return t.takeMarker(t.gap), true
	}
	el := t.news.Front()
	if el == nil {
		return pendingEvent{}, false
	}
	s, isSlot := el.Value.(*slot)
	if !isSlot {
		return t.takeMarker(el), true
	}
	t.news.Remove(el)
	s.place, s.early = nil, false
	p := pendingEvent{arrived: s.arrived}
	if !s.exists { // it was told of, see remove
		delete(t.slots, s.key)
		p.event = Event{Type: Delete, Key: s.key}
		return p, true
	}
	p.event, p.slot, p.stored = Event{Type: Put, Key: s.key, Version: s.version}, s, s.value
	p.wasTold, p.wasSum = s.told, s.toldSum
	// It counts as delivered from here on, so that a deletion that comes in
	// while it is being delivered is not forgotten; see undelivered.
	s.told, s.value = true, stored{}
	if s.again {
		p.event.Version, s.value, s.again, s.place = 0, p.stored, false, t.news.PushBack(s)
	}
	return p, true
}

func (t *watchTable) takeMarker(el *list.Element) pendingEvent {
	t.news.Remove(el)
	switch el {
	case t.gap:
		t.gap = nil
	case t.sync:
		t.sync = nil
	}
	m, _ := el.Value.(*marker)
	return pendingEvent{event: m.event, arrived: m.arrived}
}

// changed reports whether p, a Put, has another state than the one delivered
// last (W4).
func (t *watchTable) changed(p *pendingEvent) bool {
	s, sum := p.slot, t.sum(p.stored)
	same := sum == s.last || p.wasTold && sum == p.wasSum
	s.last = sum
	if same {
		t.undelivered(*p)
		return false
	}
	s.toldSum, s.lastVersion = sum, p.event.Version
	return true
}

// undelivered takes back that p, a Put, counts as delivered. If its deletion
// came in meanwhile, and nothing was delivered before p, that is no news either.
func (t *watchTable) undelivered(p pendingEvent) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p.slot.told, p.slot.toldSum = p.wasTold, p.wasSum
	if !p.slot.told && !p.slot.exists {
		t.remove(p.slot.key)
	}
}
