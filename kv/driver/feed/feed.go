// Package feed hands the changes of a store that is inside the process to its
// watches, at a cost that depends on the watches concerned alone, and keeps
// account of its leases.
package feed

import "github.com/polykv/polykv/kv/driver"

// Feed knows the watches of one store. The zero value is ready to use.
type Feed struct {
	watches registry
	told    []*watch // the watches that the current change concerns
}

// Tell gives e, the new state of a key, to the watches of the key. It is called
// under the store's lock, so the order of the writes is that of the events.
func (f *Feed) Tell(e driver.Entry) {
	f.told = f.watches.appendTo(f.told[:0], e.Key)
	for _, w := range f.told {
		w.notify(e)
	}
	clear(f.told) // don't keep watches that have ended
}

// Watches returns the number of watches under way.
func (f *Feed) Watches() int { return int(f.watches.size.Load()) }

// Backlog returns how many changes wait for watches of key that have not
// caught up yet. It is called under the store's lock, or when nobody writes.
func (f *Feed) Backlog(key string) (n int) {
	for _, w := range f.watches.appendTo(nil, key) {
		w.mu.Lock()
		n += len(w.pending)
		w.mu.Unlock()
	}
	return n
}
