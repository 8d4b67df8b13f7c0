package spread

import (
	"bytes"
	"context"
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
	s.logMessage(Message{
		Time: time.Now(), Sent: true, Peer: peer.Name, Kind: "compare",
		Bytes: c.taken + c.given, Outcome: describe(err),
	})
	return c.found, err
}

func describe(err error) string {
	if err == nil {
		return "done"
	}
	return err.Error()
}

// comparison is one of them, by the side that began it.
type comparison struct {
	s      *Spread
	peer   network.Peer
	stream *stream

	found        bool // a difference
	complete     bool // everything was compared
	taken, given int  // bytes of values
	refused      refusal
}

func (c *comparison) run() error {
	ours := c.s.standing()
	theirs, err := c.begin(&ours)
	if err != nil {
		return err
	}
	c.s.noteCodecs(theirs.codecs)
	switch tolerance := c.s.cfg.PartitionTolerance; {
	case ours.yieldsTo(&theirs, tolerance):
		return c.yield(&ours, &theirs)
	case theirs.yieldsTo(&ours, tolerance): // which it does when it begins
		c.s.count.stale.Add(1)
		return c.stream.send(msgEnd)
	}
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
	var want, give []state.KeyDigest
	for _, bucket := range buckets {
		w, g := c.s.store.Compare(codec, bucket, theirs[bucket])
		want, give = append(want, w...), append(give, g...)
	}
	c.found = c.found || len(want) > 0 || len(give) > 0
	for some := range slices.Chunk(want, keysAtOnce) {
		if err := c.read(codec, some); err != nil {
			return err
		}
	}
	if len(give) == 0 {
		return nil
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
		keys, err := decodeKeyDigests(decoder{rest: body[1:]})
		if err != nil {
			return nil, err
		}
		theirs[int(body[0])] = append(theirs[int(body[0])], keys...)
	}
}

// read takes the keys that peer may have newer.
func (c *comparison) read(codec string, want []state.KeyDigest) error {
	body := appendString(nil, codec)
	for i := range want {
		body = appendKeyDigest(body, &want[i])
	}
	if len(body) > chunkSize { // keys of the longest sort
		half := len(want) / 2
		if err := c.read(codec, want[:half]); err != nil {
			return err
		}
		return c.read(codec, want[half:])
	}
	if err := c.stream.send(msgRead, body); err != nil {
		return err
	}
	return c.s.takeRecords(c.stream, false, &c.refused, nil)
}

// give sends the keys that peer may lack.
func (c *comparison) give(codec string, keys []state.KeyDigest) error {
	if err := c.stream.send(msgGive); err != nil {
		return err
	}
	if err := c.s.sendRecords(c.stream, codec, keys); err != nil {
		return err
	}
	body, err := c.stream.expect(msgTaken)
	if err != nil {
		return err
	}
	return c.s.takeRefusal(c.peer, decoder{rest: bytes.Clone(body)})
}
