package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
)

var (
	_ memberlist.EventDelegate = (*members)(nil)
	_ memberlist.AliveDelegate = (*members)(nil)
	_ memberlist.MergeDelegate = (*members)(nil)
)

// NotifyAlive refuses members that break the bounds. memberlist's lock is held.
func (m *members) NotifyAlive(node *memberlist.Node) error {
	err := m.check(node)
	switch {
	case errors.Is(err, errForeign):
		m.rejects.add(CauseCluster, addrOf(node), err.Error())
	case err != nil:
		m.rejects.add(CauseMember, "", err.Error())
	}
	return err
}

func (m *members) check(node *memberlist.Node) error {
	peer, err := peerOf(node)
	if err != nil {
		return err
	}
	if !allowed(m.cfg.AllowedCIDRs, peer.Addr.Addr()) {
		return fmt.Errorf("node %q has the address %s, which is not allowed", peer.Name, peer.Addr)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if peer.ID == m.self {
		return nil
	}
	if old := m.known[peer.ID]; old != nil && old.goodbye {
		return errors.New("a message about a node that has left since")
	}
	if known := m.known[peer.ID]; (known == nil || !live(known.State)) && m.foreign(decodeFounding(node.Meta[metaSize:])) {
		m.stranger(node)
		return fmt.Errorf("node %q: %w", peer.Name, errForeign)
	}
	if m.known[peer.ID] == nil && m.alive >= m.cfg.MaxMembers {
		return fmt.Errorf("node %q would be more than %d members", peer.Name, m.cfg.MaxMembers)
	}
	return nil
}

// NotifyJoin is called when a node is alive that wasn't.
func (m *members) NotifyJoin(node *memberlist.Node) { m.seen(node, true) }

// NotifyUpdate is called when a node's metadata changed.
func (m *members) NotifyUpdate(node *memberlist.Node) { m.seen(node, false) }

func (m *members) seen(node *memberlist.Node, joined bool) {
	peer, err := peerOf(node)
	if err != nil || peer.ID == m.self { // NotifyAlive has refused it
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	old := m.known[peer.ID]
	if old == nil {
		old = &member{}
		m.known[peer.ID] = old
	}
	if joined || old.State == "" {
		peer.Joined = now
		if !live(old.State) {
			m.alive++
		}
		old.State, old.Since = Alive, now
		m.everJoined, m.lonely = true, time.Time{}
	} else {
		peer.Joined = old.Joined
	}
	old.Peer = peer
	m.adopt(decodeFounding(node.Meta[metaSize:]))
	m.changed()
}

func live(s State) bool { return s == Alive || s == Suspect }

// NotifyLeave is called when a node left or failed.
func (m *members) NotifyLeave(node *memberlist.Node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.known[node.Name]
	if known == nil || !live(known.State) {
		return
	}
	m.alive--
	known.doubted = known.Since
	if known.State == Alive {
		known.doubted = time.Now()
	}
	known.State, known.Since = Failed, time.Now()
	if known.goodbye {
		known.State = Left
	}
	if m.alive == 0 && known.State == Failed {
		m.lonely = known.Since
	}
	m.changed()
}

// left is called when a node's own word that it leaves is seen: possibly
// before memberlist takes note of it, or after it took the node for failed.
func (m *members) left(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.known[id]
	if known == nil || known.goodbye {
		return
	}
	known.goodbye = true
	if known.State == Failed {
		known.State = Left
		m.changed()
	}
}

// suspected is called when anybody's word that a node doesn't answer is seen.
func (m *members) suspected(id string) { m.setSuspect(id, true) }

// refuted is called when anybody's word that a node is alive is seen.
func (m *members) refuted(id string) { m.setSuspect(id, false) }

// acked is called when a node has answered.
func (m *members) acked(id string, rtt time.Duration) (Peer, bool) {
	m.setSuspect(id, false)
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.known[id]
	if known == nil || !live(known.State) {
		return Peer{}, false
	}
	known.RTT, known.Acked = rtt, time.Now()
	return known.Peer, true
}

func (m *members) setSuspect(id string, suspect bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.known[id]
	switch {
	case known == nil:
	case suspect && known.State == Alive:
		known.State, known.Since = Suspect, time.Now()
	case !suspect && known.State == Suspect:
		known.State, known.Since = Alive, time.Now()
	}
}

func allowed(prefixes []netip.Prefix, addr netip.Addr) bool {
	return len(prefixes) == 0 || slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}
