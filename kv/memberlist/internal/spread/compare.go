package spread

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/polykv/polykv/kv/memberlist/internal/network"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

const (
	// bucketsAtOnce is how many buckets' keys are asked for in one round trip.
	bucketsAtOnce = 16

	// keysAtOnce is how many keys are read in one round trip.
	keysAtOnce = 1024
)

// compare finds what this node and peer don't have in common, takes what it
// lacks, and gives what peer lacks. found reports whether there was anything.
func (s *Spread) compare(ctx context.Context, peer network.Peer) (found bool, err error) {
	s.count.compares.Add(1)
	c := &comparison{s: s, peer: peer}
	err = s.pool.with(ctx, peer, func(st *stream) error {
		c.stream = st
		return c.run()
	})
	if err == nil && c.complete {
		s.becomeReady()
	}
	m := Message{Time: time.Now(), Sent: true, Peer: peer.Name, Kind: "compare", Outcome: "done"}
	if err != nil {
		m.Outcome = err.Error()
	}
	s.messages.add(m)
	return c.found, err
}

// comparison is one of them, by the side that began it.
type comparison struct {
	s      *Spread
	peer   network.Peer
	stream *stream
	seen   *state.Context // by the peer, when the comparison began

	found    bool // a difference
	complete bool // everything was compared
	refused  refusal
}

func (c *comparison) run() error {
	ours := c.s.standing()
	theirs, err := c.begin(&ours)
	if err != nil {
		return err
	}
	c.s.noteCodecs(theirs.codecs)
	c.seen = &theirs.context
	for _, our := range ours.codecs {
		i := slices.IndexFunc(theirs.codecs, func(their state.CodecDigest) bool { return their.Codec == our.Codec })
		if i < 0 || theirs.codecs[i].Root == our.Root {
			continue
		}
		if err := c.codec(our.Codec); err != nil {
			return err
		}
	}
	if len(c.refused.keys) > 0 {
		c.s.refuse(c.peer, c.refused)
	}
	if c.s.hasTurned(&ours) {
		return errTurned
	}
	if !c.refused.failed {
		c.s.learn(&theirs)
	}
	c.complete = true
	return c.stream.send(msgEnd)
}

func (c *comparison) begin(ours *standing) (theirs standing, err error) {
	if err := c.stream.send(msgBegin, appendStanding(nil, ours)); err != nil {
		return standing{}, err
	}
	kind, body, err := c.stream.receive()
	switch {
	case err != nil:
		return standing{}, err
	case kind == msgBusy:
		return standing{}, errBusy
	case kind != msgBegin:
		return standing{}, malformedKind(kind, "instead of a standing")
	}
	return decodeStanding(body)
}

// codec compares all keys of a codec.
func (c *comparison) codec(codec string) error {
	if err := c.stream.send(msgBuckets, []byte(codec)); err != nil {
		return err
	}
	body, err := c.stream.expect(msgBuckets)
	if err != nil {
		return err
	}
	theirs, err := decodeBuckets(body)
	if err != nil {
		return err
	}
	ours := c.s.store.Buckets(codec)
	var differ []int
	for i := range ours {
		if ours[i] != theirs[i] {
			differ = append(differ, i)
		}
	}
	for some := range slices.Chunk(differ, bucketsAtOnce) {
		if err := c.buckets(codec, some); err != nil {
			return err
		}
	}
	return nil
}

// buckets compares the keys in some buckets.
func (c *comparison) buckets(codec string, buckets []int) error {
	theirs, err := c.keys(codec, buckets)
	if err != nil {
		return err
	}
	var want, give, drop []state.KeyDigest
	for _, bucket := range buckets {
		w, g, d := c.s.store.Compare(codec, bucket, theirs[bucket], c.seen)
		want, give, drop = append(want, w...), append(give, g...), append(drop, d...)
	}
	c.found = c.found || len(want) > 0 || len(give) > 0 || len(drop) > 0
	// What is removed is not to be read as well.
	if err := c.ask(msgDrop, codec, drop, func() error { return nil }); err != nil {
		return err
	}
	err = c.ask(msgRead, codec, want, func() error { return c.s.takeRecords(c.stream, c.seen, &c.refused, nil) })
	if err != nil || len(give) == 0 {
		return err
	}
	return c.give(codec, give)
}

// keys returns the peer's keys, by bucket.
func (c *comparison) keys(codec string, buckets []int) (map[int][]state.KeyDigest, error) {
	if err := c.stream.send(msgKeys, appendBucketList(nil, codec, buckets)); err != nil {
		return nil, err
	}
	theirs := map[int][]state.KeyDigest{}
	for {
		kind, body, err := c.stream.receive()
		switch {
		case err != nil:
			return nil, err
		case kind == msgEnd:
			return theirs, nil
		case kind != msgKeys || len(body) == 0 || !slices.Contains(buckets, int(body[0])):
			return nil, malformedKind(kind, "amid keys")
		}
		keys, err := decodeKeyDigests(newDecoder(body[1:]))
		if err != nil {
			return nil, err
		}
		theirs[int(body[0])] = append(theirs[int(body[0])], keys...)
	}
}

// ask sends keys in messages of the given kind, and calls answered after each.
func (c *comparison) ask(kind byte, codec string, keys []state.KeyDigest, answered func() error) error {
	for len(keys) > 0 {
		body := state.AppendBytes(nil, codec)
		n := 0
		for n < min(len(keys), keysAtOnce) && len(body)+keyDigestSize(&keys[n]) <= chunkSize {
			body = appendKeyDigest(body, &keys[n])
			n++
		}
		if err := c.stream.send(kind, body); err != nil {
			return err
		}
		if err := answered(); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

// learn takes over what a peer had seen, after all that it had then has come
// here. A peer that lacks one of this node's codecs doesn't have the keys of
// that one, whatever it has seen.
func (s *Spread) learn(peer *standing) {
	for _, codec := range s.store.Codecs() {
		if !slices.ContainsFunc(peer.codecs, func(c state.CodecDigest) bool { return c.Codec == codec }) {
			return
		}
	}
	s.store.Learn(&peer.context)
}

// errTurned: what this node said when the comparison began holds no more.
var errTurned = errors.New("a peer has refused what this node wrote")

// hasTurned reports whether this node said what it has seen, and left some of what
// it has out of its answers since, for a peer had refused it, be it for a moment. The
// other one would take that for deleted.
func (s *Spread) hasTurned(ours *standing) bool {
	return len(ours.context.Marks) > 0 && (s.store.Claim().IsZero() || s.store.Refusals() != ours.refusals)
}

// standing returns what this node says about itself when a comparison begins.
func (s *Spread) standing() standing {
	ours := standing{instance: s.self.Instance, name: s.self.Name, refusals: s.store.Refusals()}
	ours.context, ours.codecs = s.store.Context(), s.store.Roots() // in this order
	if s.hasTurned(&ours) {
		ours.context = state.Context{}
	}
	return ours
}

// give sends the keys that peer may lack.
func (c *comparison) give(codec string, keys []state.KeyDigest) error {
	if err := c.stream.send(msgGive); err != nil {
		return err
	}
	if err := c.s.sendRecords(c.stream, codec, keys, nil); err != nil { // run looks at its end
		return err
	}
	body, err := c.stream.expect(msgTaken)
	if err != nil {
		return err
	}
	return c.s.takeRefusal(c.peer, newDecoder(bytes.Clone(body)))
}
