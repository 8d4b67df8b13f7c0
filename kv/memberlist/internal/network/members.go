package network

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/memberlist"
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

var (
	_ memberlist.EventDelegate = (*members)(nil)
	_ memberlist.AliveDelegate = (*members)(nil)
	_ memberlist.MergeDelegate = (*members)(nil)
)

func newMembers(self string, cfg *Config, r *rejects, started time.Time, labelled func() bool) (*members, error) {
	m := &members{
		self: self, cfg: cfg, rejects: r, started: started, labelled: labelled, told: true,
		newer: make(chan struct{}, 1), known: map[string]*member{},
	}
	if err := m.found(started); err != nil {
		return nil, err
	}
	m.snapshot.Store(&[]Peer{})
	m.digest.Store(memberHash(self))
	m.health.Store(&Health{})
	return m, nil
}

// memberID is a node's name for memberlist: another one after each start, so
// that a node that comes back at another address is no conflict but new.
func memberID(name string, instance uint64) string {
	return fmt.Sprintf("%s/%016x", name, instance)
}

func parseID(id string) (name string, instance uint64, err error) {
	i := strings.LastIndexByte(id, '/')
	if i <= 0 || len(id)-i != 17 || len(id) > maxMemberID || !utf8.ValidString(id) {
		return "", 0, fmt.Errorf("%.200q is not the name of a node", id)
	}
	instance, err = strconv.ParseUint(id[i+1:], 16, 64)
	if err != nil {
		return "", 0, fmt.Errorf("%.200q is not the name of a node: %w", id, err)
	}
	if name = id[:i]; memberID(name, instance) != id { // else two members could be the same instance
		return "", 0, fmt.Errorf("%.200q is not the name of a node: it should be %.200q", id, memberID(name, instance))
	}
	return name, instance, nil
}

// Metadata of a node: 1 byte version, 8 bytes milliseconds of its start; and its
// founding, if it has no label.
const (
	metaVersion = 1
	metaSize    = 1 + 8
)

func encodeMeta(started time.Time) []byte {
	return binary.BigEndian.AppendUint64([]byte{metaVersion}, uint64(started.UnixMilli()))
}

// peerOf copies a node.
func peerOf(node *memberlist.Node) (Peer, error) {
	name, instance, err := parseID(node.Name)
	if err != nil {
		return Peer{}, err
	}
	ip, ok := netip.AddrFromSlice(node.Addr)
	ip = ip.Unmap()
	if !ok || node.Port == 0 || ip.IsUnspecified() || ip.IsMulticast() {
		return Peer{}, fmt.Errorf("node %q has the address %v:%d", name, node.Addr, node.Port)
	}
	if len(node.Meta) < metaSize || len(node.Meta) > maxMeta || node.Meta[0] != metaVersion {
		return Peer{}, fmt.Errorf("node %q has unknown metadata of %d bytes", name, len(node.Meta))
	}
	addr := netip.AddrPortFrom(ip, node.Port)
	return Peer{
		ID: strings.Clone(node.Name), Name: strings.Clone(name), Instance: instance, Addr: addr, Protocol: node.DCur,
		Started: time.UnixMilli(int64(binary.BigEndian.Uint64(node.Meta[1:]))), wire: wireAddrOf(addr),
	}, nil
}

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
		if old.State == Failed {
			peer.Away = now.Sub(old.Since)
		}
		if !live(old.State) {
			m.alive++
		}
		old.State, old.Since = Alive, now
		m.everJoined, m.lonely = true, time.Time{}
	} else {
		peer.Joined, peer.Away = old.Joined, old.Away
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

// expect is told whether the join list names somebody other than this node.
func (m *members) expect(others bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.expected != others {
		m.expected = others
		m.changed()
	}
}

func (m *members) changed() {
	select {
	case m.newer <- struct{}{}:
	default:
	}
}

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

func allowed(prefixes []netip.Prefix, addr netip.Addr) bool {
	return len(prefixes) == 0 || slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
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
