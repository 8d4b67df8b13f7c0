package demo

import (
	"fmt"
	"sync"
)

// Promise is something that polykv promises, and what the demo saw of it.
type Promise struct {
	ID       string // a word for it, such as "counters"
	Text     string // what is promised
	Evidence string // what was compared

	mu     sync.Mutex
	broken int
	first  string
}

// Broken tells how often the promise was broken, and how the first time.
func (p *Promise) Broken() (times int, first string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.broken, p.first
}

// breaks records that the promise was broken. It may be called concurrently.
func (p *Promise) breaks(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken++; p.broken == 1 {
		p.first = fmt.Sprintf(format, args...)
	}
}

// promises are all of them, by what they are about.
type promises struct {
	counters, reads, keys, list, order, pictures, contention, errors Promise

	moved     Promise
	withMoved bool
}

func newPromises(withMoved bool) *promises {
	return &promises{
		withMoved:  withMoved,
		moved:      Promise{ID: "moved", Text: "both stores are equal after the move"},
		counters:   Promise{ID: "counters", Text: "every counter equals its successful updates"},
		reads:      Promise{ID: "reads", Text: "no read is older than an acknowledged write"},
		keys:       Promise{ID: "keys", Text: "created keys exist, deleted keys are gone"},
		list:       Promise{ID: "list", Text: "a listing is sorted and complete"},
		order:      Promise{ID: "order", Text: "watchers see each key's states in order, none twice"},
		pictures:   Promise{ID: "pictures", Text: "every watcher's picture equals the store"},
		contention: Promise{ID: "contention", Text: "no call failed for contention"},
		errors:     Promise{ID: "errors", Text: "no call failed without a cause"},
	}
}

func (p *promises) all() []*Promise {
	all := []*Promise{&p.counters, &p.reads, &p.keys, &p.list, &p.order, &p.pictures, &p.contention, &p.errors}
	if p.withMoved {
		all = append(all, &p.moved)
	}
	return all
}
