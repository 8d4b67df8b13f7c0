package spread

import (
	"context"
	"errors"
	"io"
	"net"
	"os"

	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// HandleStream implements [network.Handler].
func (s *Spread) HandleStream(ctx context.Context, conn net.Conn) {
	if !s.up.Load() {
		return
	}
	s.count.streams.Add(1)
	defer s.count.streams.Add(-1)
	// Whatever read or write is under way ends with the network, or this node.
	for _, end := range []context.Context{ctx, s.ctx} {
		stop := context.AfterFunc(end, func() { _ = conn.Close() })
		defer stop()
	}
	srv := &server{s: s, stream: newStream(conn, s.cfg.StreamTimeout)}
	defer srv.release()
	err := srv.serve()
	switch {
	case err == nil, ctx.Err() != nil, s.ctx.Err() != nil:
	case errors.Is(err, errMalformed):
		s.malformed("stream", err)
	default:
		s.count.streamFailures.Add(1)
	}
}

// server answers one stream.
type server struct {
	s      *Spread
	stream *stream
	slot   bool // one of MaxServed is ours
	ours   standing
	theirs standing
	failed bool // something that the peer gave was not taken
}

// serve answers messages until the peer closes the stream or lets it idle.
func (v *server) serve() error {
	for {
		kind, body, err := v.stream.receive()
		if errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) && !v.slot {
			return nil
		}
		if err != nil {
			return err
		}
		if err := v.answer(kind, body); err != nil {
			return err
		}
	}
}

func (v *server) answer(kind byte, body []byte) error {
	switch kind {
	case msgBegin:
		return v.begin(body)
	case msgPull:
		return v.pull(body)
	}
	if !v.slot {
		return malformedKind(kind, "before a comparison has begun")
	}
	switch kind {
	case msgBuckets:
		return v.buckets(body)
	case msgKeys:
		return v.keys(body)
	case msgRead:
		return v.read(body)
	case msgGive:
		return v.take()
	case msgDrop:
		return v.drop(body)
	case msgEnd:
		if !v.failed {
			v.s.learn(&v.theirs) // since it has given all that was lacking here
		}
		v.release()
		return nil
	default:
		return malformedKind(kind, "in a comparison")
	}
}

// acquire takes a slot of those that serve, if one is free.
func (v *server) acquire() bool {
	if v.slot {
		return true
	}
	select {
	case v.s.serving <- struct{}{}:
		v.slot = true
	default:
		v.s.count.turnedAway.Add(1)
	}
	return v.slot
}

func (v *server) release() {
	if v.slot {
		<-v.s.serving
		v.slot = false
	}
}

func (v *server) begin(body []byte) error {
	theirs, err := decodeStanding(body)
	if err != nil {
		return err
	}
	if !v.acquire() {
		return v.stream.send(msgBusy)
	}
	v.s.noteCodecs(theirs.codecs)
	ours := v.s.standing()
	v.ours, v.theirs, v.failed = ours, theirs, false
	v.s.count.served.Add(1)
	return v.stream.send(msgBegin, appendStanding(nil, &ours))
}

func (v *server) buckets(body []byte) error {
	digests := v.s.store.Buckets(string(body))
	if v.s.hasTurned(&v.ours) {
		return errTurned
	}
	return v.stream.send(msgBuckets, appendBuckets(nil, &digests))
}

func (v *server) keys(body []byte) error {
	codec, buckets, err := decodeBucketList(body)
	if err != nil {
		return err
	}
	for _, bucket := range buckets {
		buf := []byte{byte(bucket)} //nolint:gosec // below state.Buckets
		for _, key := range v.s.store.Keys(codec, bucket) {
			if len(buf)+keyDigestSize(&key) > chunkSize {
				if err := v.stream.send(msgKeys, buf); err != nil {
					return err
				}
				buf = buf[:1]
			}
			buf = appendKeyDigest(buf, &key)
		}
		if err := v.stream.send(msgKeys, buf); err != nil {
			return err
		}
	}
	if v.s.hasTurned(&v.ours) {
		return errTurned
	}
	return v.stream.send(msgEnd)
}

func (v *server) read(body []byte) error {
	d := newDecoder(body)
	codec := string(d.Bytes(maxCodec, "codec"))
	keys, err := decodeKeyDigests(d)
	if err != nil {
		return err
	}
	return v.s.sendRecords(v.stream, codec, keys, &v.ours)
}

// sendRecords sends what a peer lacks that has keys as they say. Ours is what
// this node said when a comparison began, if the peer counts on it from here on.
func (s *Spread) sendRecords(st *stream, codec string, keys []state.KeyDigest, ours *standing) error {
	out := recordWriter{stream: st}
	for _, key := range keys {
		u, ok := s.store.Read(codec, key)
		if !ok {
			continue
		}
		s.count.recordsOut.Add(1)
		s.count.recordBytesOut.Add(uint64(len(u.Value)))
		if err := out.write(&item{Update: u}); err != nil {
			return err
		}
	}
	if ours != nil && s.hasTurned(ours) {
		return errTurned
	}
	return out.end()
}

// take reads records into the store and answers which were refused.
func (v *server) take() error {
	v.s.given.Store(true)
	var refused refusal
	if err := v.s.takeRecords(v.stream, &v.theirs.context, &refused, nil); err != nil {
		return err
	}
	v.failed = v.failed || refused.failed
	refused.clock = v.s.cfg.Clock()
	return v.stream.send(msgTaken, appendRefusal(nil, refused))
}

// takeRecords reads records into the store and calls came, if it isn't nil,
// with each. Peer is what the sender had seen when a comparison began.
func (s *Spread) takeRecords(st *stream, peer *state.Context, refused *refusal, came func(*item)) error {
	in := recordReader{stream: st}
	for {
		it, err := in.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if came != nil {
			came(&it)
		}
		s.count.recordsIn.Add(1)
		s.count.recordBytesIn.Add(uint64(len(it.Value)))
		s.apply(it.Update, peer, refused)
	}
}

// drop removes what the peer has seen and lacks.
func (v *server) drop(body []byte) error {
	d := newDecoder(body)
	codec := string(d.Bytes(maxCodec, "codec"))
	keys, err := decodeKeyDigests(d)
	if err == nil {
		v.s.store.Drop(codec, keys, &v.theirs.context)
	}
	return err
}

// pull sends one value. Of large ones only so many are sent at once; the
// others are sent to those who have it by now.
func (v *server) pull(body []byte) error {
	p, err := decodePull(body)
	if err != nil {
		return err
	}
	if p.size > chunkSize {
		if !v.acquire() {
			return v.stream.send(msgBusy, appendInstances(nil, v.s.helpers.list(p.have.Key, p.instance)))
		}
		defer v.release()
	}
	err = v.s.sendRecords(v.stream, p.codec, []state.KeyDigest{p.have}, nil)
	if err == nil && p.size > chunkSize {
		v.s.helpers.add(p.have.Key, p.instance)
	}
	return err
}
