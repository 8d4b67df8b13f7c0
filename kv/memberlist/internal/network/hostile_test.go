package network

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// logLines counts the lines of a log.
type logLines struct {
	mu    sync.Mutex
	lines []string
}

func (l *logLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(b))
	return len(b), nil
}

func (l *logLines) with(text string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func hostileTarget(t *testing.T, keys ...[]byte) (node, *logLines) {
	t.Helper()
	lines := &logLines{}
	cfg := testConfig("target")
	cfg.Keys = keys
	cfg.Logger = slog.New(slog.NewTextHandler(lines, nil))
	return start(t, cfg, nil), lines
}

// stillWorks shows that a node can be joined and talked to.
func stillWorks(t *testing.T, n node, keys ...[]byte) {
	t.Helper()
	cfg := testConfig("friend")
	cfg.Keys = keys
	cfg.Join = []string{n.Self().Addr.String()}
	friend := start(t, cfg, nil)
	awaitPeers(t, 1, friend, n)
	before := n.rec.count()
	eventually(t, "a frame gets through", func() bool {
		if err := friend.Send([]byte("frame"), friend.Peers()...); err != nil {
			t.Fatal(err)
		}
		return n.rec.count() > before
	})
}

func TestHostilePacketsAreCountedAndLoggedOncePerCause(t *testing.T) {
	n, lines := hostileTarget(t, key(1))
	conn, err := net.Dial("udp", n.Self().Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	good := bytes.Clone(ringOf(t, Security{Label: "test", Keys: [][]byte{key(1)}}).sealPacket(&cryptBuf{}, kindMembership, []byte{8, 1}))
	random := rand.New(rand.NewPCG(1, 1))
	rubbish := make([]byte, 1400)
	send := map[Cause][]byte{
		CauseShort:      {1, 2, 3},
		CauseForeign:    rubbish,
		CauseLabel:      bytes.Clone(ringOf(t, Security{Label: "other"}).sealPacket(&cryptBuf{}, kindData, []byte("x"))),
		CausePlaintext:  bytes.Clone(ringOf(t, Security{Label: "test"}).sealPacket(&cryptBuf{}, kindData, []byte("x"))),
		CauseKey:        bytes.Clone(ringOf(t, Security{Label: "test", Keys: [][]byte{key(2)}}).sealPacket(&cryptBuf{}, kindData, []byte("x"))),
		CauseMembership: good, // from somebody with the key, but nothing for memberlist
	}
	const each = 20
	for range each {
		for i := range rubbish {
			rubbish[i] = byte(random.Uint32())
		}
		rubbish[0] = 0
		for cause, packet := range send {
			before := n.Stats().Rejected[cause]
			eventually(t, fmt.Sprintf("%s is counted", cause), func() bool { // the kernel may drop some
				if _, err := conn.Write(packet); err != nil {
					t.Fatal(err)
				}
				return n.Stats().Rejected[cause] > before
			})
		}
	}
	for cause := range send {
		if got := lines.with("cause=" + string(cause)); got != 1 {
			t.Errorf("%s is logged %d times", cause, got)
		}
	}
	if frames := n.rec.count(); frames != 0 {
		t.Errorf("%d hostile frames reached the handler", frames)
	}
	stillWorks(t, n, key(1))
}

// bombs are beginnings of streams by which stock memberlist allocates what
// they announce.
func bombs(t *testing.T) [][]byte {
	t.Helper()
	msg := func(kind byte, v any) []byte {
		var body []byte
		if err := codec.NewEncoderBytes(&body, &codec.MsgpackHandle{}).Encode(v); err != nil {
			t.Fatal(err)
		}
		return append([]byte{kind}, body...)
	}
	members := msg(msgPushPull, &pushPullHead{Nodes: 1 << 20})
	state := msg(msgPushPull, &pushPullHead{UserStateLen: 20 << 20})
	user := msg(8, &struct{ UserMsgLen int }{20 << 20})
	encrypted := []byte{10, 0x01, 0x3f, 0xff, 0xff}
	compressed := msg(9, &struct {
		Algo uint8
		Buf  []byte
	}{0, bytes.Repeat([]byte{0x80}, 100)})
	return [][]byte{members, state, user, encrypted, compressed, {244, 255}, {}, []byte("GET / HTTP/1.1\r\n\r\n")}
}

func TestHostileConnectionsCostNoMemory(t *testing.T) {
	n, lines := hostileTarget(t, key(1))
	var all []func(net.Conn)
	for _, said := range append(
		bombs(t),
		[]byte{tlsHandshake, 3, 1}, // goes silent
		[]byte{tlsHandshake, 3, 1, 0x3f, 0xff, 1, 0, 0xff, 0xff}, // and announces what TLS takes at most
		[]byte{tlsHandshake, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff},    // or more
	) {
		all = append(all, func(conn net.Conn) { _, _ = conn.Write(said) })
	}
	for _, s := range []Security{
		{Label: "other", Keys: [][]byte{key(1)}}, {Label: "test", Keys: [][]byte{key(2)}}, {Label: "test"}, {Label: "test", Keys: [][]byte{key(1)}},
	} {
		r := ringOf(t, s)
		all = append(all, func(conn net.Conn) {
			if _, err := r.openStream(conn, kindMembership, 1); err == nil {
				_, _ = conn.Write([]byte("no TLS any more"))
			}
		})
	}
	before := heap()
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	var highest uint64
	for i := range 1000 {
		conn, err := net.DialTimeout("tcp", n.Self().Addr.String(), patience)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
		all[i%len(all)](conn)
		if i%100 == 99 {
			highest = max(highest, heap())
		}
	}
	eventually(t, "all are refused", func() bool {
		highest = max(highest, heap())
		s := n.Stats()
		sum := uint64(0)
		for _, c := range []Cause{CauseHello, CauseForeign, CauseLabel, CauseKey, CausePlaintext, CauseConnections, CauseRecord} {
			sum += s.Rejected[c]
		}
		return sum >= 900 && s.OpenStreams == 0
	})
	if growth := int64(highest) - int64(before); growth > 64<<20 {
		t.Errorf("the heap grew by %d MiB", growth>>20)
	}
	for _, cause := range []Cause{CauseHello, CauseForeign, CauseLabel, CauseKey, CausePlaintext} {
		if got := lines.with("cause=" + string(cause)); got > 1 {
			t.Errorf("%s is logged %d times", cause, got)
		}
		if n.Stats().Rejected[cause] == 0 {
			t.Errorf("%s is not counted", cause)
		}
	}
	stillWorks(t, n, key(1))
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestMembershipBombsOfInsidersAreRefused(t *testing.T) {
	n, _ := hostileTarget(t)
	r := ringOf(t, Security{Label: "test"})
	before := heap()
	for round := range 40 {
		for _, bomb := range bombs(t) {
			raw, err := net.DialTimeout("tcp", n.Self().Addr.String(), patience)
			if err != nil {
				t.Fatal(err)
			}
			opened, err := r.openStream(raw, kindMembership, 1)
			if err != nil {
				t.Fatal(err)
			}
			conn := newStreamConn(opened, raw)
			if err := conn.writeMessage(bomb); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Read(make([]byte, 1)); err == nil {
				t.Errorf("round %d: %q is answered", round, bomb)
			}
			_ = conn.Close()
		}
	}
	if growth := int64(heap()) - int64(before); growth > 16<<20 {
		t.Errorf("the heap grew by %d MiB", growth>>20)
	}
	if got := n.Stats().Rejected[CauseMembership]; got < 40*7 {
		t.Errorf("%d are counted", got)
	}
	stillWorks(t, n)
}

func TestStreamsOfOthersAreLimited(t *testing.T) {
	lines := &logLines{}
	cfg := testConfig("target")
	cfg.MaxStreams = 3
	cfg.Logger = slog.New(slog.NewTextHandler(lines, nil))
	n := start(t, cfg, nil)
	r := ringOf(t, Security{Label: "test"})
	open := func() net.Conn {
		raw, err := net.DialTimeout("tcp", n.Self().Addr.String(), patience)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.openStream(raw, kindData, 1); err != nil {
			t.Fatal(err)
		}
		return raw
	}
	for range 3 {
		c := open()
		defer func() { _ = c.Close() }()
	}
	eventually(t, "three are open", func() bool { return n.Stats().OpenStreams == 3 })
	c := open()
	defer func() { _ = c.Close() }()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a fourth stream is served")
	}
	eventually(t, "it is counted", func() bool { return n.Stats().Rejected[CauseConnections] > 0 })
}

func TestCountersOfRecordsAreOfTheStream(t *testing.T) {
	n, _ := hostileTarget(t, key(1))
	raw, err := net.DialTimeout("tcp", n.Self().Addr.String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	if _, err := ringOf(t, Security{Label: "test", Keys: [][]byte{key(1)}}).openStream(raw, kindData, 1); err != nil {
		t.Fatal(err)
	}
	forged := append([]byte{23, 3, 3, 0, 20}, make([]byte, 20)...) // as a record of TLS looks
	if _, err := raw.Write(forged); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the forged record is counted", func() bool { return n.Stats().Rejected[CauseRecord] == 1 })
}

func TestSlowStrangersGiveWayToMembers(t *testing.T) {
	n, _ := hostileTarget(t, key(1))
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for range maxPending { // silent: each could stay for helloTimeout
		conn, err := net.DialTimeout("tcp", n.Self().Addr.String(), patience)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	begin := time.Now()
	stillWorks(t, n, key(1))
	if n.Stats().Rejected[CauseConnections] == 0 && time.Since(begin) < helloTimeout {
		t.Error("no stranger was closed")
	}
}
