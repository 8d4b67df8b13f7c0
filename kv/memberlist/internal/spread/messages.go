package spread

import (
	"slices"
	"sync"
	"time"
)

// A Message is one line of the status page's list of recent messages.
type Message struct {
	Time     time.Time `json:"time"`
	Sent     bool      `json:"sent"`           // else received
	Peer     string    `json:"peer,omitempty"` // name; empty: all members
	Kind     string    `json:"kind"`
	Codec    string    `json:"codec,omitempty"`
	Key      string    `json:"key,omitempty"`
	Bytes    int       `json:"bytes,omitempty"` // of the value
	Sequence uint64    `json:"sequence,omitempty"`
	Outcome  string    `json:"outcome,omitempty"`
}

// recentMessages is how many messages are kept for the status page.
const recentMessages = 256

// ring keeps what was added last, up to a number.
type ring[T any] struct {
	size int

	mu    sync.Mutex
	items []T
	next  int // of items, once there are enough
}

func (r *ring[T]) add(item T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.items) < r.size {
		r.items = append(r.items, item)
		return
	}
	r.items[r.next] = item
	r.next = (r.next + 1) % r.size
}

// list returns the items, the oldest first.
func (r *ring[T]) list() []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Concat(r.items[r.next:], r.items[:r.next])
}
