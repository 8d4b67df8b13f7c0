package spread

import (
	"encoding/binary"
	"hash/fnv"
	"time"

	"github.com/polykv/polykv/kv/memberlist/internal/network"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// A digest list tells what a node holds, short enough for the answer to a
// probe. It is the body of frameCheck and frameRoots, of probe answers and of
// the local state of memberlist's exchanges.
type digestList struct {
	wall  time.Time
	seq   uint64        // of the node's last frame
	claim state.Version // up to this one the node's writes are in the digests; see state.Store.Claim
	roots []codecRoot
}

// codecRoot stands for all keys of a codec, which a hash of its id names.
type codecRoot struct {
	codec uint64
	root  state.Digest
}

// maxRoots is how many codecs one list tells of. A node with more tells of
// others each time.
const maxRoots = 8

const codecRootSize = 8 + state.DigestSize

func hashCodec(id string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(id))
	return h.Sum64()
}

func appendDigestList(b []byte, l digestList) []byte {
	b = binary.AppendUvarint(b, uint64(l.wall.UnixMilli())) //nolint:gosec // after 1970
	b = binary.AppendUvarint(b, l.seq)
	b = l.claim.Append(b)
	b = binary.AppendUvarint(b, uint64(len(l.roots)))
	for _, r := range l.roots {
		b = r.root.Append(binary.BigEndian.AppendUint64(b, r.codec))
	}
	return b
}

func (d *decoder) digestList() digestList {
	l := digestList{wall: d.wall("clock"), seq: d.Uvarint("sequence"), claim: d.Version("claim")}
	n := d.Count(codecRootSize, "digests")
	if n > maxRoots {
		d.Fail("digests")
		return l
	}
	for range n {
		l.roots = append(l.roots, codecRoot{d.Uint64("codec"), d.Digest("root")})
	}
	return l
}

// digests returns this node's list.
func (s *Spread) digests() digestList {
	refusals := s.store.Refusals()
	l := digestList{wall: s.cfg.Clock(), seq: s.sequence.Load(), claim: s.store.Claim()}
	roots := s.store.Roots()
	if s.store.Claim().IsZero() || s.store.Refusals() != refusals { // what a peer has refused meanwhile is not in the digests
		l.claim = state.Version{}
	}
	first := 0
	if len(roots) > maxRoots {
		first = int(s.rotate.Add(maxRoots)) % len(roots)
	}
	for i := range min(len(roots), maxRoots) {
		r := roots[(first+i)%len(roots)]
		l.roots = append(l.roots, codecRoot{s.codecHash[r.Codec], r.Root})
	}
	return l
}

// equal reports whether this node holds the same as the list says, of the
// codecs that both have. If that is all of this node's codecs, then this node
// has seen what the list's node has written.
func (s *Spread) equal(l digestList) bool {
	all := true
	for _, ours := range s.store.Roots() {
		hash := s.codecHash[ours.Codec]
		found := false
		for _, theirs := range l.roots {
			if theirs.codec == hash && theirs.root != ours.Root {
				return false
			}
			found = found || theirs.codec == hash
		}
		all = all && found
	}
	if all && !l.claim.IsZero() {
		s.store.Learn(&state.Context{Marks: map[uint64]state.Mark{l.claim.Instance: {UpTo: l.claim}}})
	}
	return true
}

// AckPayload implements [network.Handler].
func (s *Spread) AckPayload() []byte {
	if !s.up.Load() {
		return nil
	}
	return appendDigestList(append(make([]byte, 0, network.MaxAckPayload), wireVersion), s.digests())
}

// HandleAck implements [network.Handler].
func (s *Spread) HandleAck(peer network.Peer, rtt time.Duration, payload []byte) {
	if len(payload) == 0 || !s.up.Load() {
		return
	}
	d := newDecoder(payload)
	if d.Byte("version") != wireVersion {
		d.Fail("version")
	}
	l := d.digestList()
	if err := d.Done(); err != nil {
		s.malformed("probe answer", err)
		return
	}
	s.store.Observe(peer.ID, l.wall.Add(rtt/2))
	if _, lost := s.origins.mark(peer.Instance, l.seq, true, time.Now()); lost {
		s.comparer.soon(peer)
	}
	if s.equal(l) {
		s.becomeReadyAfter(l, peer)
		return
	}
	s.count.mismatches.Add(1)
	s.comparer.doubt(peer, time.Now())
}

// takeRoots handles the question whether two nodes still differ, and its
// answer.
func (s *Spread) takeRoots(peer network.Peer, kind byte, d decoder) error {
	l := d.digestList()
	if err := d.Done(); err != nil {
		return err
	}
	s.store.Observe(peer.ID, l.wall)
	if kind == frameCheck {
		s.sendRoots(frameRoots, peer)
		return nil
	}
	s.comparer.answered(peer, s.equal(l))
	return nil
}

func (s *Spread) sendRoots(kind byte, peer network.Peer) {
	frame := appendHeader(make([]byte, 0, 256), kind, s.self.Instance)
	s.transmit(appendDigestList(frame, s.digests()), peer)
}

// LocalState implements [network.Handler].
func (s *Spread) LocalState(bool) []byte {
	if !s.up.Load() {
		return nil
	}
	b := appendHeader(make([]byte, 0, 512), 0, s.self.Instance)
	b = state.AppendBytes(b, s.self.Name)
	return appendDigestList(b, s.digests())
}

// MergeRemoteState implements [network.Handler].
func (s *Spread) MergeRemoteState(buf []byte, join bool) {
	if len(buf) == 0 || !s.up.Load() {
		return
	}
	_, instance, d := decodeHeader(buf)
	d.Bytes(maxName, "name")
	l := d.digestList()
	if err := d.Done(); err != nil {
		s.malformed("state of a member", err)
		return
	}
	if instance == s.self.Instance {
		return
	}
	if s.equal(l) && !s.unheard(l) {
		s.becomeReady()
		return
	}
	if peer, ok := s.member(instance); ok {
		s.comparer.soon(peer)
	} else if join { // the members are merged only after this
		s.comparer.expect(instance)
	}
}
