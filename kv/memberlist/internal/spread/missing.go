package spread

import (
	"maps"
	"slices"
	"sync"

	"github.com/polykv/polykv/kv/memberlist/internal/network"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// missing are the codecs that others have keys of and this node lacks.
type missing struct {
	mu  sync.Mutex
	ids map[uint64]string // by their hashes; at most maxCodecs
}

func (m *missing) add(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ids == nil {
		m.ids = map[uint64]string{}
	}
	if len(m.ids) < maxCodecs {
		m.ids[hashCodec(id)] = id
	}
}

// unheard reports whether a peer has keys of a codec whose id this node has
// never heard. A comparison tells it.
func (s *Spread) unheard(l digestList) bool {
	s.missing.mu.Lock()
	defer s.missing.mu.Unlock()
	return len(s.missing.ids) < maxCodecs && slices.ContainsFunc(l.roots, func(theirs codecRoot) bool {
		_, known := s.missing.ids[theirs.codec]
		return !known && !s.ours[theirs.codec] && !theirs.root.IsZero()
	})
}

// becomeReadyAfter makes the node ready that holds the same as a peer, but
// first compares the two if the peer has codecs whose ids are to be learnt.
func (s *Spread) becomeReadyAfter(l digestList, peer network.Peer) {
	if s.unheard(l) {
		s.comparer.soon(peer)
		return
	}
	s.becomeReady()
}

// noteCodecs looks at what a peer has.
func (s *Spread) noteCodecs(theirs []state.CodecDigest) {
	for _, c := range theirs {
		if _, ours := s.codecHash[c.Codec]; !ours && !c.Root.IsZero() {
			s.missing.add(c.Codec)
		}
	}
}

// MissingCodecs returns the ids of the codecs that others have had keys of since
// this node began, and that it lacks, sorted.
func (s *Spread) MissingCodecs() []string {
	s.missing.mu.Lock()
	defer s.missing.mu.Unlock()
	return slices.Sorted(maps.Values(s.missing.ids))
}
