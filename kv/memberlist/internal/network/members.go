package network

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polykv/polykv/internal/wait"
)

// Versions of the frames and streams of the layer above, which memberlist
// compares before it lets two nodes join.
const (
	protocolMin = 1
	protocolMax = 1
	protocolCur = 1
)

// Bounds of what is remembered of members that are gone.
const (
	leftRetention = 10 * time.Minute
	maxLeft       = 256
)

// members is what this node knows of the others. It copies what it needs from
// memberlist's callbacks, which run under memberlist's lock and hand out
// memory that memberlist goes on writing to.
type members struct {
	self        string
	cfg         *Config
	rejects     *rejects
	started     time.Time
	newer       chan struct{} // has room for one: something changed
	snapshot    atomic.Pointer[[]Peer]
	digest      atomic.Uint64 // of who is alive, this node included
	health      atomic.Pointer[Health]
	mu          sync.Mutex
	known       map[string]*member // by ID
	alive       int
	everJoined  bool
	expected    bool        // the join list names somebody else
	labelled    func() bool // whether this node has a label
	founding    founding
	founded     time.Time // when this node began to wait for it to settle
	aloneSince  time.Time // zero: it isn't
	told        bool      // others know it
	warned      bool      // of clusters without a label
	foreignAt   time.Time // when a node of another cluster was met; zero: never
	foreignAddr string
	lonely      time.Time // since when the last peer is gone by failure
}

type member struct {
	Member
	goodbye bool      // it has said that it leaves
	doubted time.Time // since when it didn't answer, if it failed
}

func newMembers(self string, cfg *Config, r *rejects, started time.Time, labelled func() bool) *members {
	m := &members{
		self: self, cfg: cfg, rejects: r, started: started, labelled: labelled, told: true,
		newer: make(chan struct{}, 1), known: map[string]*member{},
	}
	m.found(started)
	m.snapshot.Store(&[]Peer{})
	m.digest.Store(memberHash(self))
	m.health.Store(&Health{})
	return m
}

// expect is told whether the join list names somebody other than this node.
func (m *members) expect(others bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.expected != others {
		m.expected = others
		m.changed()
	}
}

func (m *members) changed() { wait.Signal(m.newer) }

// publish makes the snapshots that are read without a lock.
func (m *members) publish() []Peer {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(time.Now())
	peers := make([]Peer, 0, m.alive)
	var health Health
	for _, known := range m.known {
		switch {
		case live(known.State):
			peers = append(peers, known.Peer)
		case known.State == Failed && (health.FailedSince.IsZero() || known.Since.Before(health.FailedSince)):
			health.FailedSince = known.Since
		}
	}
	slices.SortFunc(peers, func(a, b Peer) int { return cmp.Compare(a.ID, b.ID) })
	switch {
	case m.alive > 0:
	case m.everJoined && !m.lonely.IsZero() && !health.FailedSince.IsZero():
		health.IsolatedSince = m.lonely
	case !m.everJoined && m.expected:
		health.IsolatedSince, health.Unmet = m.started, true
	}
	if !m.foreignAt.IsZero() && time.Since(m.foreignAt) < foreignFor {
		health.Foreign = m.foreignAddr
	}
	digest := memberHash(m.self)
	for i := range peers {
		digest += memberHash(peers[i].ID)
	}
	m.digest.Store(digest)
	m.snapshot.Store(&peers)
	m.health.Store(&health)
	return peers
}

// forget drops members that are gone for long, and failed ones that have been
// started again under the same name: what the old process knew is lost.
func (m *members) forget(now time.Time) {
	newest := map[string]time.Time{}
	for _, known := range m.known {
		if known.Started.After(newest[known.Name]) {
			newest[known.Name] = known.Started
		}
	}
	var left []*member
	for id, known := range m.known {
		switch {
		case known.State == Failed && (now.Sub(known.Since) > m.cfg.FailedRetention || known.Started.Before(newest[known.Name])):
			delete(m.known, id)
		case known.State == Left && now.Sub(known.Since) > leftRetention:
			delete(m.known, id)
		case known.State == Left:
			left = append(left, known)
		}
	}
	if len(left) > maxLeft {
		slices.SortFunc(left, func(a, b *member) int { return a.Since.Compare(b.Since) })
		for _, known := range left[:len(left)-maxLeft] {
			delete(m.known, known.ID)
		}
	}
}

// list returns all members but this node.
func (m *members) list() []Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]Member, 0, len(m.known)+1)
	for _, known := range m.known {
		all = append(all, known.Member)
	}
	return all
}

// failedAddrs returns where the members were that failed.
func (m *members) failedAddrs() []netip.AddrPort {
	m.mu.Lock()
	defer m.mu.Unlock()
	var addrs []netip.AddrPort
	for _, known := range m.known {
		if known.State == Failed {
			addrs = append(addrs, known.Addr)
		}
	}
	return addrs
}

// HasLeft reports whether a member that was known has said that it leaves.
func (n *Network) HasLeft(id string) bool {
	m := n.members
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.known[id]
	return known != nil && known.goodbye
}

// Standing reports whether the member with that ID is there, if it is known at
// all. One that failed still counts as there until another one has answered this
// node since it did not: before, this node itself may be the one that is cut off.
func (n *Network) Standing(id string) (there, known bool) {
	if id == n.self.ID {
		return true, true
	}
	m := n.members
	m.mu.Lock()
	defer m.mu.Unlock()
	one := m.known[id]
	switch {
	case one == nil:
		return false, false
	case live(one.State):
		return true, true
	case one.State == Left:
		return false, true
	}
	for _, witness := range m.known {
		if live(witness.State) && witness.Acked.After(one.doubted) {
			return false, true
		}
	}
	return true, true
}
