package spread

import (
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

// messageLog is a ring of the messages that were sent and received last.
type messageLog struct {
	mu   sync.Mutex
	ring [recentMessages]Message
	n    int // how many were ever added
}

func (l *messageLog) add(m Message) {
	l.mu.Lock()
	l.ring[l.n%recentMessages] = m
	l.n++
	l.mu.Unlock()
}

// list returns the messages, the newest first.
func (l *messageLog) list() []Message {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(l.n, recentMessages)
	out := make([]Message, 0, n)
	for i := 1; i <= n; i++ {
		out = append(out, l.ring[(l.n-i)%recentMessages])
	}
	return out
}
