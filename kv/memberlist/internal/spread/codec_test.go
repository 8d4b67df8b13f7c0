package spread

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"testing"
	"time"

	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// decodeFrame decodes a frame of any kind, as HandleFrame does.
func decodeFrame(frame []byte) error {
	kind, _, d := decodeHeader(frame)
	if d.Err != nil {
		return d.Err
	}
	var err error
	switch kind {
	case frameTail:
		var p push
		if p, err = decodePush(d); err == nil {
			_, err = p.lastFrames()
		}
	case framePush:
		var p push
		if p, err = decodePush(d); err != nil {
			return err
		}
		for more := true; more && err == nil; {
			_, more, err = p.next()
		}
	case frameAsk, frameGone:
		_, err = decodeSpans(d)
	case frameRefused:
		_, err = decodeRefusal(d)
	case frameCheck, frameRoots:
		d.digestList()
		err = d.Done()
	}
	return err
}

func TestPushRoundTrip(t *testing.T) {
	kind, instance, d := decodeHeader(goldenPush())
	if kind != framePush || instance != goldenInstance {
		t.Fatalf("kind %d of %x", kind, instance)
	}
	p, err := decodePush(d)
	if err != nil || p.seq != 300 || p.flags != pushRelay {
		t.Fatalf("%+v, %v", p, err)
	}
	var got []item
	for {
		it, more, err := p.next()
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			break
		}
		if len(it.Value) == 0 {
			it.Value = nil
		}
		got = append(got, it)
	}
	if want := goldenItems(); !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

// TestTruncated cuts every message at every place: none of it decodes, but for
// frames whose items end there.
func TestTruncated(t *testing.T) {
	push := goldenPush()
	ends := map[int]bool{pushOverheadOf(push): true}
	b := push[:pushOverheadOf(push)]
	codec := ""
	for _, it := range goldenItems() {
		b = appendItem(bytes.Clone(b), &it, codec)
		codec = it.Codec
		ends[len(b)] = true
	}
	for n := range push {
		if err := decodeFrame(push[:n]); (err == nil) != ends[n] {
			t.Errorf("a push cut after %d bytes: %v", n, err)
		}
	}
	st, pull := goldenStanding(), goldenPull()
	for name, c := range map[string]struct {
		whole  []byte
		decode func([]byte) error
	}{
		"standing": {appendStanding(nil, &st), func(b []byte) error { _, err := decodeStanding(b); return err }},
		"pull":     {appendPull(nil, &pull), func(b []byte) error { _, err := decodePull(b); return err }},
		"buckets":  {appendBuckets(nil, &[state.Buckets]state.Digest{}), func(b []byte) error { _, err := decodeBuckets(b); return err }},
		"digests": {appendDigestList(nil, goldenList()), func(b []byte) error {
			d := newDecoder(b)
			d.digestList()
			return d.Done()
		}},
	} {
		if err := c.decode(c.whole); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for n := range c.whole {
			if err := c.decode(c.whole[:n]); !errors.Is(err, errMalformed) {
				t.Errorf("%s cut after %d bytes: %v", name, n, err)
			}
		}
		if err := c.decode(append(bytes.Clone(c.whole), 0)); !errors.Is(err, errMalformed) {
			t.Errorf("%s with a byte too many: %v", name, err)
		}
	}
}

// pushOverheadOf is the length of a push's header.
func pushOverheadOf(frame []byte) int {
	_, _, d := decodeHeader(frame)
	p, _ := decodePush(d)
	return len(frame) - len(p.items.Rest)
}

func TestDecodersAreBounded(t *testing.T) {
	header := func(kind byte) []byte { return appendHeader(nil, kind, 1) }
	huge := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}
	cases := map[string][]byte{
		"a key of 2^64 bytes":     append(append(append(header(framePush), 1, 0), itemHasV, 1, 'c'), huge...),
		"a codec of 2^64 bytes":   append(append(append(header(framePush), 1, 0), itemHasV), huge...),
		"an empty key":            append(append(header(framePush), 1, 0), itemSameCodec, 0, 0),
		"unknown flags":           append(append(header(framePush), 1, 0), 0xff),
		"too many last frames":    appendLastFrames(append(header(frameTail), 1, 0), make([]lastFrame, maxLastFrames+1)),
		"2^64 digests":            append(append(header(frameCheck), 1, 1), huge...),
		"a clock beyond 48 bits":  append(append(header(frameCheck), huge...), 1, 0),
		"a span of 2^64 frames":   append(append(header(frameAsk), 1), huge...),
		"a span from 0":           append(header(frameAsk), 0, 1),
		"too many spans":          append(header(frameAsk), bytes.Repeat([]byte{1, 1}, maxSpans+1)...),
		"too many refused keys":   append(append(header(frameRefused), 1), bytes.Repeat(append([]byte{1, 'k'}, make([]byte, 32)...), maxRefused+1)...),
		"another version":         {wireVersion + 1, framePush, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0},
		"nothing":                 {},
		"a value beyond the end":  append(append(header(framePush), 1, 0), itemSameCodec, 1, 'k', 5, 1),
		"more digests than eight": appendDigestList(header(frameRoots), digestList{wall: time.UnixMilli(1), roots: make([]codecRoot, maxRoots+1)}),
	}
	for name, frame := range cases {
		var err error
		allocated := testing.AllocsPerRun(1, func() { err = decodeFrame(frame) })
		if !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		if allocated > 100 {
			t.Errorf("%s: %v allocations", name, allocated)
		}
	}
}

// pipe returns both ends of a stream.
func pipe(t testing.TB) (a, b *stream) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	a, b = newStream(dialled, 10*time.Second), newStream(accepted, 10*time.Second)
	t.Cleanup(func() { a.close(); b.close() })
	return a, b
}

// TestRecords sends values of sizes about the borders of messages.
func TestRecords(t *testing.T) {
	var sent []item
	for _, size := range []int{
		0, 1, 100, chunkSize - 60, chunkSize - 45, chunkSize - 44, chunkSize - 43, chunkSize - 42, chunkSize - 1,
		chunkSize, chunkSize + 1, 2 * chunkSize, 0, 3*chunkSize + 17, 8 << 20, 5,
	} {
		value := make([]byte, size)
		for i := range value {
			value[i] = byte(i * 7 / 5)
		}
		sent = append(sent, item{Update: state.Update{Key: "k", Codec: "c", E: goldenE, V: goldenV, Value: value, Partial: size%2 == 1}})
	}
	a, b := pipe(t)
	failed := make(chan error, 1)
	go func() {
		w := recordWriter{stream: a}
		for i := range sent {
			if err := w.write(&sent[i]); err != nil {
				failed <- err
				return
			}
		}
		failed <- w.end()
	}()
	r := recordReader{stream: b}
	for i := range sent {
		got, err := r.next()
		if err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
		if !bytes.Equal(got.Value, sent[i].Value) || got.Key != "k" || got.V != goldenV || got.Partial != sent[i].Partial {
			t.Fatalf("record %d of %d bytes came back with %d bytes, %v", i, len(sent[i].Value), len(got.Value), got.V)
		}
	}
	if _, err := r.next(); !errors.Is(err, io.EOF) {
		t.Fatalf("after the last record: %v", err)
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
}

func TestStreamRefusesForgedLengths(t *testing.T) {
	for name, message := range map[string][]byte{
		"a message over the limit": {0xff, 0xff, 0xff, 0xff, wireVersion, msgData},
		"another version":          {0, 0, 0, 0, wireVersion + 1, msgData},
	} {
		a, b := pipe(t)
		if _, err := a.conn.Write(message); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.receive(); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		if b.body.Cap() != 0 {
			t.Errorf("%s: %d bytes were allocated for it", name, b.body.Cap())
		}
	}
}

// TestLargestStandingFits sends one with all that there may be in it.
func TestLargestStandingFits(t *testing.T) {
	st := standing{context: state.Context{Marks: map[uint64]state.Mark{}, Dots: map[state.Version]struct{}{}}}
	for i := range maxCodecs {
		st.codecs = append(st.codecs, state.CodecDigest{Codec: fmt.Sprintf("%0*d", maxCodec, i)})
	}
	for i := range state.MaxMarks {
		st.context.Marks[uint64(i)] = state.Mark{}
	}
	for i := range state.MaxDots {
		st.context.Dots[state.Version{Wall: uint64(i)}] = struct{}{}
	}
	body := appendStanding(nil, &st)
	if err := newStream(bytesConn{}, time.Second).send(msgBegin, body); err != nil {
		t.Error(err)
	}
	if got, err := decodeStanding(body); err != nil || len(got.context.Dots) != state.MaxDots || len(got.context.Marks) != state.MaxMarks {
		t.Errorf("%d marks, %d dots, error %v", len(got.context.Marks), len(got.context.Dots), err)
	}
}

// TestClaimsCostNothing announces the largest record and sends little of it.
func TestClaimsCostNothing(t *testing.T) {
	a, b := pipe(t)
	w := recordWriter{stream: a}
	w.buf = append(w.buf, 0x80, 0x80, 0x80, 0x80, 0x01) // 256 MiB
	w.buf = append(w.buf, make([]byte, 1000)...)
	if err := w.end(); err != nil {
		t.Fatal(err)
	}
	r := recordReader{stream: b}
	allocated := allocatedBytes(func() {
		if _, err := r.next(); !errors.Is(err, errMalformed) {
			t.Errorf("a record that ends early: %v", err)
		}
	})
	if allocated > 2*chunkSize {
		t.Errorf("%d bytes were allocated for a claim", allocated)
	}
}
