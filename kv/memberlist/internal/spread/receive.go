package spread

import (
	"bytes"
	"fmt"
	"net/netip"
	"time"

	"github.com/polykv/polykv/kv/memberlist/internal/network"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// HandleFrame implements [network.Handler].
func (s *Spread) HandleFrame(_ netip.AddrPort, frame []byte) {
	if !s.up.Load() {
		return
	}
	kind, instance, d := decodeHeader(frame)
	if d.Err != nil {
		s.malformed("frame", d.Err)
		return
	}
	if instance == s.self.Instance { // relayed back to us
		return
	}
	s.count.framesIn.Add(1)
	s.count.bytesIn.Add(uint64(len(frame)))
	var err error
	switch kind {
	case framePush:
		err = s.takePush(instance, d, frame)
	case frameTail:
		err = s.takeTail(instance, d)
	default:
		peer, ok := s.member(instance)
		if !ok {
			s.count.strangers.Add(1)
			return
		}
		err = s.takeFrom(peer, kind, d)
	}
	if err != nil {
		s.malformed("frame", err)
	}
}

// takeFrom handles the kinds of frames that only a member's are answered.
func (s *Spread) takeFrom(peer network.Peer, kind byte, d decoder) error {
	switch kind {
	case frameAsk:
		return s.takeAsk(peer, d)
	case frameGone:
		spans, err := decodeSpans(d)
		for _, sp := range spans {
			s.origins.giveUp(peer.Instance, sp)
		}
		s.logFrame(frameGone, 0, false, &peer)
		s.comparer.soon(peer)
		return err
	case frameCheck, frameRoots:
		return s.takeRoots(peer, kind, d)
	case frameRefused:
		return s.takeRefusal(peer, d)
	default:
		s.count.unknownKind.Add(1) // of a newer version, which knows that we may not
		return nil
	}
}

func (s *Spread) takePush(instance uint64, d decoder, frame []byte) error {
	p, err := decodePush(d)
	if err != nil {
		return err
	}
	if p.seq == 0 {
		return fmt.Errorf("%w: a push with sequence 0", errMalformed)
	}
	now := time.Now()
	fresh, lost := s.origins.mark(instance, p.seq, false, now)
	if !fresh {
		s.count.duplicates.Add(1)
		return nil
	}
	from := s.memberPointer(instance) // nil: it is none
	var refused refusal
	p.items.codecs = s.store.Codecs()
	for {
		it, more, err := p.next()
		if err != nil || !more {
			switch {
			case len(refused.keys) > 0 && from != nil:
				s.refuse(*from, refused)
			case len(refused.keys) == 0 && err == nil && p.flags&pushRelay != 0:
				s.relay(instance, frame)
			}
			if from != nil && (lost || p.flags&pushBehind != 0) {
				s.comparer.soon(*from)
			}
			return err
		}
		s.takeItem(&it, from, p.seq, now, &refused)
	}
}

// takeItem applies one change, or has it pulled if it is only announced. From
// is nil if its origin is no member.
func (s *Spread) takeItem(it *item, from *network.Peer, seq uint64, now time.Time, refused *refusal) {
	if it.announced {
		s.logItem(it, seq, false, from, now, "announced")
		if from != nil {
			s.pulls.announce(it, *from)
		}
		return
	}
	if !it.Partial { // else it is decoded, and what is decoded shares no memory
		it.Value = bytes.Clone(it.Value)
	}
	outcome := s.apply(it.Update, nil, refused)
	s.logItem(it, seq, false, from, now, outcome.String())
}

// apply takes an update into the store and counts what became of it. Peer is
// what its sender has seen, if it is all of a key.
func (s *Spread) apply(u state.Update, peer *state.Context, refused *refusal) state.Outcome {
	applied := s.store.Apply(u, peer)
	s.count.outcomes[applied.Outcome].Add(1)
	switch applied.Outcome {
	case state.Changed:
		newest := u.V
		if newest.IsZero() {
			newest = u.E
		}
		s.lag.add(max(s.cfg.Clock().Sub(newest.Time()), 0))
	case state.Ahead:
		refused.failed = true
		if len(refused.keys) < maxRefused {
			refused.keys = append(refused.keys, refusedKey{u.Key, u.E, u.V})
		}
		s.complain("a change has a version too far ahead of the cluster's clock", "key", u.Key, "err", applied.Err)
	case state.Malformed:
		refused.failed = true
		s.complain("a change is malformed", "key", u.Key, "err", applied.Err)
	case state.UnknownCodec:
		s.missing.add(u.Codec)
		refused.failed = true
		s.complain("a change is left to nodes that have its codec", "key", u.Key, "err", applied.Err)
	}
	return applied.Outcome
}

// relay hands a frame on to some others.
func (s *Spread) relay(origin uint64, frame []byte) {
	to := pick(s.Peers(), s.cfg.RelayFanout, origin)
	s.count.relayed.Add(1)
	s.transmit(frame, to...)
}

func (s *Spread) takeTail(instance uint64, d decoder) error {
	p, err := decodePush(d)
	if err != nil {
		return err
	}
	others, err := p.lastFrames()
	if err != nil {
		return err
	}
	now := time.Now()
	from, known := s.member(instance)
	_, lost := s.origins.mark(instance, p.seq, true, now)
	if known && (lost || p.flags&pushBehind != 0) {
		s.comparer.soon(from)
	}
	for _, f := range others {
		if f.instance == s.self.Instance {
			continue
		}
		if _, lost := s.origins.mark(f.instance, f.seq, true, now); lost && known {
			s.comparer.soon(from)
		}
	}
	return nil
}

// maxResent bounds the frames sent in answer to one frame.
const maxResent = 128

func (s *Spread) takeAsk(peer network.Peer, d decoder) error {
	spans, err := decodeSpans(d)
	if err != nil {
		return err
	}
	s.logFrame(frameAsk, 0, false, &peer)
	resent := 0
	for _, sp := range spans {
		frames, gone := s.history.get(sp)
		if gone.from != 0 {
			frame := appendHeader(make([]byte, 0, 32), frameGone, s.self.Instance)
			s.logFrame(frameGone, gone.from, true, &peer)
			s.transmit(appendSpan(frame, gone), peer)
		}
		for _, frame := range frames {
			if resent++; resent > maxResent {
				return nil // what is still missing is asked for again
			}
			s.count.resent.Add(1)
			s.transmit(frame, peer)
		}
	}
	return nil
}

// refuse tells a node which of its changes were not accepted.
func (s *Spread) refuse(peer network.Peer, r refusal) {
	r.clock = s.cfg.Clock()
	frame := appendHeader(make([]byte, 0, 256), frameRefused, s.self.Instance)
	frame = appendRefusal(frame, r)
	for len(frame) > s.net.MaxFrame() && len(r.keys) > 1 {
		r.keys = r.keys[:len(r.keys)/2]
		frame = appendRefusal(frame[:frameHeader], r)
	}
	s.count.refusals.Add(1)
	s.logFrame(frameRefused, 0, true, &peer)
	s.transmit(frame, peer)
}

func (s *Spread) takeRefusal(peer network.Peer, d decoder) error {
	r, err := decodeRefusal(d)
	if err != nil || len(r.keys) == 0 {
		return err
	}
	s.logFrame(frameRefused, 0, false, &peer)
	s.complain("a member refused changes of this node: its clock is behind ours, or ours ahead",
		"member", peer.Name, "their_clock", r.clock, "our_clock", s.cfg.Clock())
	s.store.Observe(peer.ID, r.clock)
	for _, k := range r.keys {
		s.store.Refused(k.key, k.e, k.v)
	}
	return nil
}
