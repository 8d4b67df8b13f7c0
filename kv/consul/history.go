package consul

import "sync"

// history notices when the versions that were handed out lost their meaning,
// because the servers were replaced or set back. It numbers the histories
// from 1.
//
// Consul's index grows with every write. A restored snapshot does not lower
// it (github.com/hashicorp/raft, restoreUserSnapshot), but brings back old
// states of the keys; another cluster has an index of its own. Consul has no
// cluster id to compare. What can't be noticed is another cluster whose index
// is at least as high.
type history struct {
	mu   sync.Mutex
	gen  uint64
	high uint64 // the highest index that is known to have been reached
}

// mark is what was known when a request started.
type mark struct{ gen, high uint64 }

func newHistory() *history { return &history{gen: 1} }

func (h *history) mark() mark {
	h.mu.Lock()
	defer h.mu.Unlock()
	return mark{h.gen, h.high}
}

// saw takes in an index that an answer shows to have been reached.
func (h *history) saw(m mark, index uint64) (gen uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gen == m.gen {
		h.high = max(h.high, index)
	}
	return m.gen
}

// current takes in an index that was the highest of all keys when a request
// that began at m was served, linearizably. If it is lower than what was known
// then, a new history has begun, and the answer is the first of it.
func (h *history) current(m mark, index uint64) (gen uint64) {
	if index < m.high {
		return h.fell(m, index)
	}
	return h.saw(m, index)
}

// fell begins a new history, unless that happened since m.
func (h *history) fell(m mark, index uint64) (gen uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gen == m.gen {
		h.gen++
		h.high = index
	}
	return h.gen
}
