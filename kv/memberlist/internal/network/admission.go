package network

import (
	"maps"
	"net"
	"slices"
	"sync"
)

// maxPending is how many connections may be there that haven't yet shown that
// they belong to the cluster.
const maxPending = 128

// admission holds the connections that are open. Of those that still have to
// introduce themselves the oldest goes when there are too many: a member needs
// milliseconds for it, so what lingers is none.
type admission struct {
	mu       sync.Mutex
	closed   bool
	pending  []net.Conn        // oldest first
	admitted map[net.Conn]bool // whether this node opened it
	others   int               // of admitted
	max      int               // of others
}

func newAdmission(maxStreams int) *admission {
	return &admission{admitted: map[net.Conn]bool{}, max: maxStreams}
}

// enter notes a connection that was accepted; evicted is one that was closed in
// its favour, if any. It returns false if everything is closed.
func (a *admission) enter(conn net.Conn) (evicted net.Conn, ok bool) {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return nil, false
	}
	if len(a.pending) >= maxPending {
		evicted = a.pending[0]
		a.pending = a.pending[1:]
	}
	a.pending = append(a.pending, conn)
	a.mu.Unlock()
	if evicted != nil { // whose Close calls leave
		_ = evicted.Close()
	}
	return evicted, true
}

// admit is called for a connection that has introduced itself, or for one that
// this node opened (own), of which there may be any number.
func (a *admission) admit(conn net.Conn, own bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unpend(conn)
	if a.closed || (!own && a.others >= a.max) {
		return false
	}
	if !own {
		a.others++
	}
	a.admitted[conn] = own
	return true
}

func (a *admission) unpend(conn net.Conn) {
	for i, c := range a.pending {
		if c == conn {
			a.pending = append(a.pending[:i], a.pending[i+1:]...)
			return
		}
	}
}

// leave is called when a connection is closed.
func (a *admission) leave(conn net.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unpend(conn)
	if own, ok := a.admitted[conn]; ok && !own {
		a.others--
	}
	delete(a.admitted, conn)
}

// open returns how many admitted connections there are.
func (a *admission) open() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.admitted)
}

// closeAll closes every connection, now and in future.
func (a *admission) closeAll() {
	a.mu.Lock()
	a.closed = true
	all := slices.Concat(a.pending, slices.Collect(maps.Keys(a.admitted)))
	a.mu.Unlock()
	for _, conn := range all { // whose Close calls leave
		_ = conn.Close()
	}
}
