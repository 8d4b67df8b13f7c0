package network

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"testing"
	"time"
)

func TestNodesFindEachOtherAndExchangeFrames(t *testing.T) {
	both(t, func(t *testing.T, config func(string) Config) {
		nodes := cluster(t, config, 3)
		frame := bytes.Repeat([]byte("x"), nodes[0].MaxFrame())
		if err := nodes[0].Send(frame, nodes[0].Peers()...); err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes[1:] {
			eventually(t, "the frame arrives", func() bool { return n.rec.count() == 1 })
			if n.rec.frames[0] != string(frame) {
				t.Errorf("%s got %d other bytes", n.self.Name, len(n.rec.frames[0]))
			}
		}
		if err := nodes[0].Send(append(frame, 'x'), nodes[0].Peers()...); !errors.Is(err, ErrFrameTooLarge) {
			t.Errorf("a frame of one byte too many: %v", err)
		}
		if n := nodes[0].rec.count(); n != 0 {
			t.Errorf("the sender got %d frames of its own", n)
		}
	})
}

func TestStreamsCarryBytesBothWays(t *testing.T) {
	both(t, func(t *testing.T, config func(string) Config) {
		for _, keys := range [][][]byte{nil, {bytes.Repeat([]byte("k"), 32)}} {
			nodes := cluster(t, func(name string) Config {
				cfg := config(name)
				cfg.Keys = keys
				return cfg
			}, 2)
			conn, err := nodes[0].Dial(t.Context(), nodes[0].Peers()[0])
			if err != nil {
				t.Fatal(err)
			}
			sent := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // 1 MiB
			go func() {
				for rest := sent; len(rest) > 0; {
					n, err := conn.Write(rest[:min(len(rest), 100_000)])
					if err != nil {
						t.Errorf("write: %v", err)
						return
					}
					rest = rest[n:]
				}
			}()
			got := make([]byte, len(sent))
			if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("read %d bytes back, equal: %v, error %v", len(got), bytes.Equal(got, sent), err)
			}
			if counted := nodes[0].Stats().StreamBytes; counted < 2*uint64(len(sent)) {
				t.Errorf("%d bytes are counted", counted)
			}
			_ = conn.Close()
			eventually(t, "the stream is gone at both ends", func() bool {
				return nodes[0].Stats().OpenStreams == 0 && nodes[1].Stats().OpenStreams == 0
			})
			for _, n := range nodes {
				_ = n.Close()
			}
		}
	})
}

func TestLeaveIsToldAtOnceAndIsNoFailure(t *testing.T) {
	both(t, func(t *testing.T, config func(string) Config) {
		nodes := cluster(t, func(name string) Config {
			cfg := config(name)
			cfg.ProbeInterval, cfg.GossipInterval = time.Hour, time.Hour
			cfg.PushPullInterval, cfg.RejoinInterval = 200*time.Millisecond, 0
			return cfg
		}, 5)
		before := nodes[4].Stats().MembershipSent
		if err := nodes[4].Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		if sent := nodes[4].Stats().MembershipSent - before; sent < 4 { // one to each, and the ping
			t.Errorf("it has told %d", sent)
		}
		_ = nodes[4].Close()
		awaitPeers(t, 3, nodes[:4]...)
		for _, n := range nodes[:4] {
			for _, m := range n.Members() {
				if m.Name == "node-4" && m.State != Left {
					t.Errorf("%s takes it for %s", n.self.Name, m.State)
				}
			}
			if since := n.Health().FailedSince; !since.IsZero() {
				t.Errorf("%s counts a failure since %v", n.self.Name, since)
			}
		}
	})
}

func TestCrashIsAFailureAndANewRunReplacesIt(t *testing.T) {
	both(t, func(t *testing.T, config func(string) Config) {
		nodes := cluster(t, config, 3)
		_ = nodes[2].Close()
		awaitPeers(t, 1, nodes[:2]...)
		for _, n := range nodes[:2] {
			if n.Health().FailedSince.IsZero() {
				t.Errorf("%s counts no failure", n.self.Name)
			}
			if !n.Health().IsolatedSince.IsZero() {
				t.Errorf("%s feels isolated with a peer", n.self.Name)
			}
		}
		cfg := config("node-2")
		cfg.Join = []string{nodes[0].Self().Addr.String()}
		again := start(t, cfg, nil)
		awaitPeers(t, 2, again, nodes[0], nodes[1])
		for _, n := range nodes[:2] {
			eventually(t, "the failure is over", func() bool { return n.Health().FailedSince.IsZero() })
		}
	})
}

func TestAckCarriesThePayload(t *testing.T) {
	both(t, func(t *testing.T, config func(string) Config) {
		a := start(t, config("a"), &recorder{payload: "from a", local: "state of a"})
		cfg := config("b")
		cfg.Join = []string{a.Self().Addr.String()}
		b := start(t, cfg, &recorder{payload: "from b", local: "state of b"})
		eventually(t, "acks both ways", func() bool {
			a.rec.mu.Lock()
			b.rec.mu.Lock()
			defer a.rec.mu.Unlock()
			defer b.rec.mu.Unlock()
			return a.rec.acks["b"] == "from b" && b.rec.acks["a"] == "from a"
		})
		b.rec.mu.Lock()
		defer b.rec.mu.Unlock()
		if len(b.rec.merged) == 0 || b.rec.merged[0] != "state of a true" {
			t.Errorf("b merged %q", b.rec.merged)
		}
	})
}

func TestListsOfMembersBecomeEqualAfterGossipIsOver(t *testing.T) {
	f := NewFabric(1)
	config := func(name string, probes bool, join ...string) Config {
		cfg := testConfig(name)
		cfg.Fabric, cfg.Join = f, join
		cfg.GossipInterval, cfg.PushPullInterval, cfg.RejoinInterval = 10*time.Millisecond, time.Hour, 0
		cfg.SuspicionMult = 1000
		if !probes {
			cfg.ProbeInterval = time.Hour
		}
		return cfg
	}
	a := start(t, config("a", false), nil)
	deaf := start(t, config("deaf", true, a.Self().Addr.String()), nil)
	awaitPeers(t, 1, a, deaf)
	f.Partition([]netip.AddrPort{deaf.Self().Addr})
	c := start(t, config("c", false, a.Self().Addr.String()), nil)
	awaitPeers(t, 2, a, c)
	sent := func() uint64 { return a.Stats().MembershipSent + c.Stats().MembershipSent }
	quiet, last := time.Now(), sent()
	eventually(t, "all is said", func() bool {
		if now := sent(); now != last {
			quiet, last = time.Now(), now
		}
		return time.Since(quiet) > 300*time.Millisecond
	})
	if len(deaf.Peers()) != 1 {
		t.Fatal("it has heard all the same")
	}
	f.Heal()
	awaitPeers(t, 2, deaf)
}
