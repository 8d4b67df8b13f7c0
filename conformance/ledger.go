package conformance

import "sync"

// ledger is every state that a key went through, in order, beginning behind
// its first absence. Values are unique in it.
type ledger []any

func (l *ledger) add(state any) { *l = append(*l, state) }

// next returns the position of state behind position after, or -1.
func (l ledger) next(after int, state any) int {
	for i := after + 1; i < len(l); i++ {
		if l[i] == state {
			return i
		}
	}
	return -1
}

// checkOrder wants the states that a watch delivered of key to be part of its
// ledger, in order, none twice in a row.
func (t *trial) checkOrder(w *watcher, key string, l ledger) {
	t.Helper()
	at := -1
	states := w.of(key)
	for i, state := range states {
		next := l.next(at, state)
		switch {
		case next >= 0:
			at = next
		case l.next(-1, state) >= 0:
			t.Fatalf("a watch delivered %s of %q after a newer state: %s", show(state), key, showAll(states[:i+1]))
		default:
			t.Fatalf("a watch delivered %s of %q, which was never written", show(state), key)
		}
		if i > 0 && states[i-1] == nil && state == nil || i == 0 && state == nil {
			t.Fatalf("a watch delivered a deletion of %q without a state before it: %s", key, showAll(states[:i+1]))
		}
	}
}

// chainOf collects writes of one key that each name what they replaced.
type chainOf struct {
	mu   sync.Mutex
	next map[string]string
}

func (c *chainOf) add(saw, wrote string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == nil {
		c.next = map[string]string{}
	}
	c.next[saw] = wrote
}

// ledger puts the writes in order.
func (c *chainOf) ledger(t *trial) ledger {
	t.Helper()
	var l ledger
	for at, ok := c.next[""]; ok; at, ok = c.next[at] {
		if len(l) > len(c.next) {
			break
		}
		l.add(at)
	}
	if len(l) != len(c.next) {
		t.Fatalf("%d writes replaced each other in no single order", len(c.next))
	}
	return l
}
