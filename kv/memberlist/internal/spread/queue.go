package spread

import (
	"sync"

	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// Limits of the changes that wait to be sent. What is beyond them is left to
// the comparison of nodes, which the others are told to begin.
const (
	maxQueued      = 16 << 10
	maxQueuedBytes = 4 << 20
)

// queue holds this node's changes until they are sent. It is filled by the
// writers of the store, which never wait, and drained by one goroutine.
type queue struct {
	wake chan struct{} // of capacity 1

	mu     sync.Mutex
	items  []item
	latest map[string]int // the newest whole state of a key, in items
	bytes  int
	behind bool   // changes were dropped
	added  uint64 // changes that were ever added, or dropped
	sent   uint64 // of those, how many are on their way
	idle   chan struct{}
}

func newQueue() *queue {
	return &queue{wake: make(chan struct{}, 1), latest: map[string]int{}}
}

// add queues a change; if it does not fit room bytes, that it exists.
func (q *queue) add(u state.Update, room int) {
	it := item{Update: u}
	if itemSize(&it) > room {
		it = item{
			Update:    state.Update{Key: u.Key, Codec: u.Codec, E: u.E, V: u.V, Partial: u.Partial},
			announced: true,
			size:      uint64(len(u.Value)),
		}
	}
	q.mu.Lock()
	q.added++
	q.put(it)
	q.mu.Unlock()
	wait.Signal(q.wake)
}

// put stores it; a whole state takes the place of one that waits already.
func (q *queue) put(it item) {
	whole := it.announced || !it.Partial
	if i, ok := q.latest[it.Key]; ok && whole {
		q.bytes += itemSize(&it) - itemSize(&q.items[i])
		q.items[i] = it
		return
	}
	if len(q.items) >= maxQueued || q.bytes >= maxQueuedBytes {
		q.behind = true
		return
	}
	if whole {
		q.latest[it.Key] = len(q.items)
	}
	q.items = append(q.items, it)
	q.bytes += itemSize(&it)
}

// take returns what waits, up to limit bytes or a little more, the longest
// waiting first, and whether changes were dropped. upTo is for done.
func (q *queue) take(limit int, into []item) (items []item, behind bool, upTo uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, size := 0, 0
	for n < len(q.items) && size < limit {
		size += itemSize(&q.items[n])
		n++
	}
	items = append(into[:0], q.items[:n]...)
	rest := copy(q.items, q.items[n:])
	clear(q.items[rest:])
	q.items = q.items[:rest]
	q.bytes -= size
	clear(q.latest)
	for i := range q.items {
		if it := &q.items[i]; it.announced || !it.Partial {
			q.latest[it.Key] = i
		}
	}
	behind, q.behind = q.behind, false
	if len(q.items) == 0 {
		upTo = q.added
	}
	return items, behind, upTo
}

// done notes that what take returned has been sent. upTo is 0 if more waits.
func (q *queue) done(upTo uint64) {
	if upTo == 0 {
		wait.Signal(q.wake)
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sent = max(q.sent, upTo)
	if q.sent == q.added && q.idle != nil {
		close(q.idle)
		q.idle = nil
	}
}

// drained returns a channel that is closed once everything was sent.
func (q *queue) drained() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.idle == nil {
		q.idle = make(chan struct{})
	}
	idle := q.idle
	if q.sent == q.added {
		close(idle)
		q.idle = nil
	}
	return idle
}

// size returns how many changes and bytes wait.
func (q *queue) size() (items, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items), q.bytes
}
