package spread

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polykv/polykv/kv/memberlist/internal/network"
)

// members is the newest snapshot of the live members.
type members struct {
	mu  sync.Mutex // held by the one that changes it
	now atomic.Pointer[memberSet]
}

type memberSet struct {
	list       []network.Peer
	byInstance map[uint64]*network.Peer // into list
}

// Peers returns the live members other than this node. The slice must not be
// modified.
func (s *Spread) Peers() []network.Peer { return s.members.now.Load().list }

// member returns the live member of an instance.
func (s *Spread) member(instance uint64) (network.Peer, bool) {
	if p := s.memberPointer(instance); p != nil {
		return *p, true
	}
	return network.Peer{}, false
}

// memberPointer is member without a copy; nil: it is none. What it points to
// must not be modified.
func (s *Spread) memberPointer(instance uint64) *network.Peer {
	return s.members.now.Load().byInstance[instance]
}

// PeersChanged implements [network.Handler].
func (s *Spread) PeersChanged([]network.Peer) {
	if !s.up.Load() {
		return // Attach asks for the members
	}
	s.members.mu.Lock()
	defer s.members.mu.Unlock()
	peers := s.net.Peers() // never older than what came, whoever calls
	set := &memberSet{list: peers, byInstance: make(map[uint64]*network.Peer, len(peers))}
	for i := range peers {
		set.byInstance[peers[i].Instance] = &peers[i]
	}
	before := s.members.now.Swap(set)
	var joined []network.Peer
	for _, p := range peers {
		if old := before.byInstance[p.Instance]; old == nil || !old.Joined.Equal(p.Joined) {
			joined = append(joined, p)
		}
	}
	for _, p := range before.list {
		if _, ok := set.byInstance[p.Instance]; !ok {
			s.store.Forget(p.ID)
			s.pool.drop(p.ID)
			s.comparer.left(p)
			if s.net.HasLeft(p.ID) {
				s.store.Left(p.Instance)
			}
		}
	}
	for _, p := range joined {
		s.comparer.joined(p)
	}
	s.greet(joined)
}

// helpers remembers who pulled a large value from this node, so that others
// can be sent to them.
type helpers struct {
	mu    sync.Mutex
	byKey map[string]*helper
}

type helper struct {
	instances []uint64 // the newest last
	used      time.Time
}

// maxHelped bounds the keys that are remembered.
const maxHelped = 256

func (h *helpers) add(key string, instance uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.byKey[key]
	if e == nil {
		if h.byKey == nil || len(h.byKey) >= maxHelped {
			h.byKey = map[string]*helper{} // they are hints
		}
		e = &helper{}
		h.byKey[key] = e
	}
	e.used = time.Now()
	e.instances = append(slices.DeleteFunc(e.instances, func(i uint64) bool { return i == instance }), instance)
	if len(e.instances) > maxHelpers {
		e.instances = e.instances[1:]
	}
}

// list returns who has the value of a key, apart from an instance itself. What
// was pulled a while ago is probably another value by now.
func (h *helpers) list(key string, without uint64) []uint64 {
	const fresh = 10 * time.Second
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.byKey[key]
	if e == nil || time.Since(e.used) > fresh {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(e.instances), func(i uint64) bool { return i == without })
}
