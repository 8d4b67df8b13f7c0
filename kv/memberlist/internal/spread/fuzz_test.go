package spread

import (
	"bytes"
	"errors"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// allocatedBytes returns how much f allocates.
func allocatedBytes(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// FuzzFrame feeds datagrams to their decoders: whatever comes is either
// decoded or malformed.
func FuzzFrame(f *testing.F) {
	f.Add(goldenPush())
	f.Add(goldenRefusal())
	f.Add(appendLastFrames(appendPush(appendHeader(nil, frameTail, 1), 5, pushBehind), []lastFrame{{1, 2}, {3, 4}}))
	f.Add(appendSpan(appendHeader(nil, frameAsk, 1), span{3, 9}))
	f.Add(appendDigestList(appendHeader(nil, frameCheck, 1), goldenList()))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if err := decodeFrame(frame); err != nil && !errors.Is(err, errMalformed) {
			t.Fatalf("not malformed: %v", err)
		}
	})
}

// FuzzItem checks that what was decoded is encoded as an equal item.
func FuzzItem(f *testing.F) {
	for _, it := range goldenItems() {
		f.Add(appendItem(nil, &it, ""), "m")
	}
	f.Fuzz(func(t *testing.T, b []byte, codec string) {
		d := newDecoder(b)
		it := decodeItem(&d, codec, len(b))
		if d.Err != nil {
			return
		}
		again := appendItem(nil, &it, codec)
		if len(again) > itemSize(&it) {
			t.Fatalf("%d bytes, itemSize says at most %d", len(again), itemSize(&it))
		}
		d = newDecoder(again)
		if it2 := decodeItem(&d, codec, len(again)); d.Done() != nil || !sameItem(it, it2) {
			t.Fatalf("%+v came back as %+v, %v", it, it2, d.Err)
		}
	})
}

func sameItem(a, b item) bool {
	return a.Key == b.Key && a.Codec == b.Codec && a.E == b.E && a.V == b.V && a.Partial == b.Partial &&
		a.announced == b.announced && a.size == b.size && bytes.Equal(a.Value, b.Value)
}

// FuzzMessage feeds bodies of messages on a stream to their decoders.
func FuzzMessage(f *testing.F) {
	st, pull := goldenStanding(), goldenPull()
	f.Add(msgBegin, appendStanding(nil, &st))
	f.Add(msgPull, appendPull(nil, &pull))
	f.Add(msgKeys, appendBucketList(nil, "m", []int{1, 2}))
	f.Add(msgBuckets, appendBuckets(nil, &[state.Buckets]state.Digest{}))
	f.Add(msgBusy, appendInstances(nil, []uint64{1, 2}))
	f.Add(msgRead, appendKeyDigest(nil, &pull.have))
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		var err error
		switch kind {
		case msgBegin:
			_, err = decodeStanding(body)
		case msgPull:
			_, err = decodePull(body)
		case msgKeys:
			_, _, err = decodeBucketList(body)
		case msgBuckets:
			_, err = decodeBuckets(body)
		case msgBusy:
			_, err = decodeInstances(body)
		default:
			_, err = decodeKeyDigests(newDecoder(body))
		}
		if err != nil && !errors.Is(err, errMalformed) {
			t.Fatalf("not malformed: %v", err)
		}
	})
}

// bytesConn is a connection on which some bytes have arrived.
type bytesConn struct {
	net.Conn
	*bytes.Reader
}

func (c bytesConn) Read(b []byte) (int, error)       { return c.Reader.Read(b) }
func (c bytesConn) SetReadDeadline(time.Time) error  { return nil }
func (c bytesConn) SetWriteDeadline(time.Time) error { return nil }
func (c bytesConn) Close() error                     { return nil }
func (c bytesConn) Write(b []byte) (int, error)      { return len(b), nil }

// FuzzRecords feeds bytes to the readers of a stream: memory stays within what
// has arrived.
func FuzzRecords(f *testing.F) {
	f.Add([]byte{0, 0, 0, 3, wireVersion, msgData, 2, 0, 1})
	f.Add([]byte{0, 0, 0, 5, wireVersion, msgData, 0x80, 0x80, 0x80, 0x80, 1})
	f.Add([]byte{0, 0, 0, 0, wireVersion, msgEnd})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := recordReader{stream: newStream(bytesConn{Reader: bytes.NewReader(b)}, time.Second)}
		allocated := allocatedBytes(func() {
			for {
				if _, err := r.next(); err != nil {
					break
				}
			}
		})
		if limit := uint64(2*chunkSize + 64*len(b) + 1<<16); allocated > limit {
			t.Fatalf("%d bytes were allocated for %d", allocated, len(b))
		}
	})
}
