package kv

import "time"

// QueueLen tells tests how many calls wait for their turn on key.
func QueueLen(c Client, key string) int {
	cl, ok := c.(*client)
	if !ok {
		return -1
	}
	id := cellID{key: key}
	sh := cl.engine.cells.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.cells[id] == nil {
		return 0
	}
	return len(sh.cells[id].queue)
}

// Remembered tells how many entries of how many bytes the client remembers.
func Remembered(c Client) (entries, bytes int) {
	cl, ok := c.(*client)
	if !ok {
		return -1, -1
	}
	m := cl.engine.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lru.Len(), m.bytes
}

// LoneTries is how often a call tries in its turn while nobody waits for it.
const LoneTries = loneTries

// LineLen tells how many calls are in the line of key, with the one whose turn
// it is; -1: there is no line.
func LineLen(c Client, key string) int {
	cl, ok := c.(*client)
	if !ok {
		return -1
	}
	sh := cl.engine.cells.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if l := sh.lines[key]; l != nil {
		return int(l.users.Load())
	}
	return -1
}

// Pauses returns the first n pauses of one failing call.
func Pauses(first, longest time.Duration, n int) []time.Duration {
	p := newPauses(first, longest)
	pauses := make([]time.Duration, n)
	for i := range pauses {
		pauses[i] = p.next
		p.next = p.backoff.NextBackOff()
	}
	return pauses
}
