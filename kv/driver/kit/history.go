package kit

import (
	"errors"
	"sync"
	"sync/atomic"
)

// ErrHistoryChanged is the error of a call during which the store was replaced or set back, so
// that its answer can't be assigned to a history.
var ErrHistoryChanged = errors.New("the store was replaced or restored from a backup")

// History notices when the versions that were handed out lost their meaning,
// and when they may have: the servers were replaced or set back. It
// numbers the histories from 1, for driver.Entry.Generation. It may be used
// concurrently; NewHistory makes one.
//
// What it can't notice is a store that was set back under the same id and has
// since been written to more often than this process knows of. For that there
// is the epoch.
type History struct {
	epoch atomic.Uint64

	mu      sync.Mutex
	gen     uint64
	cluster uint64              // id of the cluster, 0 before the first answer
	high    uint64              // highest index that is known to have been reached
	term    uint64              // highest term of the servers' leader
	members map[uint64]struct{} // that have answered
	ended   chan struct{}       // closed when gen changes
}

// NewHistory returns a history that knows nothing yet.
func NewHistory() *History {
	return &History{gen: 1, ended: make(chan struct{}), members: map[uint64]struct{}{}}
}

// Mark is what was known when a call started.
type Mark struct {
	Gen   uint64
	High  uint64
	Ended <-chan struct{} // closed when the history of this mark has ended
}

// Mark is to be called before a request is made.
func (h *History) Mark() Mark {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Mark{h.gen, h.high, h.ended}
}

// Evidence says what the index of an answer proves.
type Evidence int

// The kinds of evidence.
const (
	Reached Evidence = iota // the store has come to the index at some time
	Current                 // nothing was newer when the call was served, linearizably
	Written                 // the call made a write, whose index is this
)

// Answer is what a server's answer tells of its store. What it doesn't tell is
// 0.
type Answer struct {
	Index    uint64 // grows with every write
	Evidence Evidence
	Cluster  uint64 // id of the cluster
	Member   uint64 // id of the server that answered
	Term     uint64 // of the cluster's leader
}

// Observe takes in the answer to a call that began at m and returns the
// generation that it belongs to. An answer can't be older than what was known
// when its call started; if it is, or comes from another cluster, it is the
// first of a new history. A call that another history's end overtook belongs to
// nobody knows which: ErrHistoryChanged.
func (h *History) Observe(m Mark, a Answer) (gen uint64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gen != m.Gen {
		return 0, ErrHistoryChanged
	}
	if h.cluster == 0 {
		h.cluster = a.Cluster
	}
	if a.Cluster == 0 {
		a.Cluster = h.cluster
	}
	if a.Cluster != h.cluster || a.Evidence == Current && a.Index < m.High || a.Evidence == Written && a.Index <= m.High {
		h.gen++
		h.cluster, h.high = a.Cluster, 0
		close(h.ended)
		h.ended = make(chan struct{})
	}
	h.high = max(h.high, a.Index)
	h.meet(a.Member, a.Term)
	return h.gen, nil
}

// meet begins another epoch when a server shows a term or is a member that
// wasn't known.
func (h *History) meet(member, term uint64) {
	if _, known := h.members[member]; known && term <= h.term {
		return
	}
	const enough = 64 // more have come and gone than any cluster has
	if len(h.members) >= enough {
		clear(h.members)
	}
	if len(h.members) > 0 {
		h.epoch.Add(1)
	}
	h.members[member] = struct{}{}
	h.term = max(h.term, term)
}

// Connected begins another epoch: there is a new connection, or a server said
// that it had lost the others. Servers that were set back can't answer on a
// connection from before.
func (h *History) Connected() { h.epoch.Add(1) }

// Epoch is a driver's for driver.Epocher. It changes whenever the servers may
// have been set back since: with each connection, when their leader's term
// changes, and when a member answers that hadn't before.
func (h *History) Epoch() uint64 { return h.epoch.Load() }
