package kv

import (
	"cmp"
	"container/list"
	"hash/maphash"
	"slices"
	"sync"
	"time"

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

	mu       sync.Mutex
	slots    map[string]*slot
	news     *list.List // of *slot and *marker, oldest first
	session  uint64     // counts snapshots
	scanning bool       // a snapshot is under way
	complete bool       // the first snapshot has been seen whole
	since    time.Time  // when the session's snapshot was complete; zero: not yet
	gap      *list.Element
	sync     *list.Element
}

// slot is one key of a table.
type slot struct {
	key     string
	value   []byte
	exists  bool
	seen    uint64 // the last snapshot that had the key
	arrived time.Time
	place   *list.Element // in news; nil: no news

	told    bool   // a value was delivered and no deletion since
	toldSum digest // of that value
	last    digest // of the value processed last, be it undecodable
}

// marker is news that belongs to no key.
type marker struct {
	event   Event
	arrived time.Time
}

// digest stands for the bytes of a value: 128 bits of two keyed hashes, so
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
	stored  []byte
	arrived time.Time

	wasTold bool // as in slot, before this news was taken
	wasSum  digest
}

func newWatchTable(wanted func(key string) bool) *watchTable {
	return &watchTable{
		wake:   make(chan struct{}, 1),
		wanted: wanted,
		slots:  make(map[string]*slot),
		news:   list.New(),
	}
}

// begin announces a new session.
func (t *watchTable) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.restart()
	t.since = time.Time{}
}

// restart begins a snapshot; t.mu is held.
func (t *watchTable) restart() {
	t.session++
	t.scanning = true
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
	s.value, s.exists, s.seen = entry.Value, true, t.session
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
		s.value, s.exists = nil, false
		t.queue(s)
	default:
		if s.place != nil {
			t.news.Remove(s.place)
		}
		delete(t.slots, key)
	}
}

func (t *watchTable) queue(s *slot) {
	if s.place == nil {
		s.place = t.news.PushBack(s)
		s.arrived = time.Now()
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
	again := !t.since.IsZero()
	if !again {
		t.since = time.Now()
	}
	if !t.complete {
		t.complete = true
		t.sortNews()
	}
	if !again { // a Restart within a session has interrupted nothing
		t.mark(&t.sync, Event{Type: Synced})
	}
}

// sortNews puts the first snapshot in the order of keys, whatever sessions it
// took to read it.
func (t *watchTable) sortNews() {
	var slots []*slot
	for el := t.news.Front(); el != nil; {
		next := el.Next()
		if s, ok := el.Value.(*slot); ok {
			slots = append(slots, s)
			t.news.Remove(el)
		}
		el = next
	}
	slices.SortFunc(slots, func(a, b *slot) int { return cmp.Compare(a.key, b.key) })
	for _, s := range slots {
		s.place = t.news.PushBack(s)
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
// in step with the store, if it ever was.
func (t *watchTable) interrupted(err error) (since time.Time, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mark(&t.gap, Event{Type: Interrupted, Err: err})
	select {
	case t.wake <- struct{}{}:
	default:
	}
	return t.since, !t.since.IsZero()
}

// next takes out the oldest news. Before the first snapshot is whole it gives
// only markers, so that the initial keys come sorted and of one moment.
func (t *watchTable) next() (pendingEvent, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.complete {
		if t.gap == nil {
			return pendingEvent{}, false
		}
		return t.takeMarker(t.gap), true
	}
	for el := t.news.Front(); el != nil; el = t.news.Front() {
		s, isSlot := el.Value.(*slot)
		if !isSlot {
			return t.takeMarker(el), true
		}
		t.news.Remove(el)
		s.place = nil
		if p, ok := t.takeSlot(s); ok {
			return p, true
		}
	}
	return pendingEvent{}, false
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

// takeSlot turns a slot into an event, if its state is another than the one
// delivered last (W4). A value counts as delivered from here on, so that a
// deletion that comes in meanwhile is not forgotten; see undelivered.
func (t *watchTable) takeSlot(s *slot) (pendingEvent, bool) {
	p := pendingEvent{arrived: s.arrived}
	if !s.exists {
		delete(t.slots, s.key)
		p.event = Event{Type: Delete, Key: s.key}
		return p, s.told
	}
	sum := digestOf(s.value)
	if sum == s.last || s.told && sum == s.toldSum {
		s.last = sum
		return p, false
	}
	p.event, p.stored = Event{Type: Put, Key: s.key}, s.value
	p.wasTold, p.wasSum = s.told, s.toldSum
	s.told, s.toldSum, s.last = true, sum, sum
	s.value = nil // the table need not keep what was taken
	return p, true
}

// undelivered takes back that p's value counts as delivered: it can't be
// decoded.
func (t *watchTable) undelivered(p pendingEvent) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.slots[p.event.Key]; s != nil {
		s.told, s.toldSum = p.wasTold, p.wasSum
	}
}
