package network

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"time"
)

// repairInterval is how often at most a node exchanges its list of members
// because it differs from another's.
const repairInterval = 3 * time.Second

// repairer keeps the lists of members equal. memberlist's gossip tells most of
// the members of most of the others, and the rest only when two nodes happen to
// exchange their lists, which in a large cluster takes minutes. So each answer to
// a probe carries a digest of who is alive, and two nodes that differ exchange
// their lists.
type repairer struct {
	n *Network

	mu   sync.Mutex
	next time.Time // not before
	busy bool
}

const digestSize = 8

// memberHash is the part of one member in the digest, which is the sum of all.
func memberHash(id string) uint64 {
	sum := sha256.Sum256([]byte(id))
	return binary.BigEndian.Uint64(sum[:])
}

// sign puts the digest in front of an answer's payload.
func (r *repairer) sign(payload []byte) []byte {
	b := make([]byte, digestSize, digestSize+len(payload))
	binary.BigEndian.PutUint64(b, r.n.members.digest.Load())
	return append(b, payload...)
}

// compare takes the digest from an answer, and repairs if it is another than
// this node's. ok is false if there is none.
func (r *repairer) compare(peer Peer, signed []byte) (payload []byte, ok bool) {
	if len(signed) < digestSize {
		return nil, false
	}
	if binary.BigEndian.Uint64(signed) != r.n.members.digest.Load() {
		r.repair(peer)
	}
	return signed[digestSize:], true
}

// repair exchanges lists with peer in the background, unless it was done a
// moment ago.
func (r *repairer) repair(peer Peer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if r.busy || now.Before(r.next) {
		return
	}
	r.busy = true
	r.next = now.Add(repairInterval/2 + rand.N(repairInterval))
	r.n.gate.run(func() { // not once Close waits
		r.n.wg.Go(func() {
			if _, err := r.n.list.Join([]string{peer.Addr.String()}); err != nil {
				r.n.logger.Debug("gossip: exchange the list of members", "peer", peer.Name, "error", err)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.busy = false
		})
	})
}
