package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

var testStart = time.UnixMilli(1_900_000_000_000)

func testMembers(configure func(*Config)) *members {
	cfg := DefaultConfig()
	cfg.MaxMembers = 3
	cfg.FailedRetention = time.Hour
	if configure != nil {
		configure(&cfg)
	}
	return newMembers("self/0000000000000001", &cfg, newRejects(discard()), time.Now(), func() bool { return cfg.Label != "" })
}

func listNode(name string, instance uint64, started time.Time) *memberlist.Node {
	return &memberlist.Node{Name: memberID(name, instance), Addr: []byte{10, 0, 0, 1}, Port: 7946, Meta: encodeMeta(started), DCur: 1}
}

func TestMembersAreBounded(t *testing.T) {
	m := testMembers(func(c *Config) { c.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	good := listNode("a", 1, testStart)
	change := func(f func(*memberlist.Node)) *memberlist.Node {
		n := *good
		f(&n)
		return &n
	}
	for what, n := range map[string]*memberlist.Node{
		"name without instance": change(func(n *memberlist.Node) { n.Name = "a" }),
		"long name":             change(func(n *memberlist.Node) { n.Name = memberID(strings.Repeat("x", 129), 1) }),
		"name of rubbish":       change(func(n *memberlist.Node) { n.Name = "\xff/0000000000000001" }),
		"address":               change(func(n *memberlist.Node) { n.Addr = []byte{1, 2, 3} }),
		"unspecified address":   change(func(n *memberlist.Node) { n.Addr = make([]byte, 4) }),
		"multicast":             change(func(n *memberlist.Node) { n.Addr = []byte{224, 0, 0, 1} }),
		"not allowed":           change(func(n *memberlist.Node) { n.Addr = []byte{192, 168, 0, 1} }),
		"port":                  change(func(n *memberlist.Node) { n.Port = 0 }),
		"metadata":              change(func(n *memberlist.Node) { n.Meta = nil }),
	} {
		if err := m.NotifyAlive(n); err == nil {
			t.Errorf("a member is let in with a wrong %s", what)
		}
	}
	for i := range 3 {
		n := listNode(fmt.Sprint("n", i), 1, testStart)
		if err := m.NotifyAlive(n); err != nil {
			t.Fatal(err)
		}
		m.NotifyJoin(n)
	}
	if err := m.NotifyAlive(good); err == nil || !strings.Contains(err.Error(), "more than 3") {
		t.Errorf("a fourth: %v", err)
	}
	if n := m.rejects.counts()[CauseMember]; n != 10 {
		t.Errorf("%d refusals are counted", n)
	}
	m.NotifyLeave(listNode("n0", 1, testStart))
	if err := m.NotifyAlive(good); err != nil {
		t.Errorf("in the place of one that is gone: %v", err)
	}
}

func TestReturningMemberHasJoinedAnew(t *testing.T) {
	m := testMembers(nil)
	n := listNode("a", 1, testStart)
	m.NotifyJoin(n)
	if p := m.publish()[0]; p.Name != "a" || p.Instance != 1 || !p.Started.Equal(testStart) {
		t.Errorf("new: %+v", p)
	}
	m.NotifyLeave(n)
	before := time.Now()
	m.NotifyJoin(n)
	joined := m.publish()[0].Joined
	if joined.Before(before) {
		t.Errorf("back at %v, before %v", joined, before)
	}
	m.NotifyUpdate(n)
	if p := m.publish()[0]; !p.Joined.Equal(joined) {
		t.Errorf("after an update: %+v", p)
	}
}

func TestHealthTellsIsolationAndFailures(t *testing.T) {
	health := func(m *members) Health {
		m.publish()
		return *m.health.Load()
	}
	m := testMembers(nil)
	if h := health(m); h != (Health{}) {
		t.Errorf("a node that is to be alone: %+v", h)
	}
	m.expect(true)
	if h := health(m); !h.IsolatedSince.Equal(m.started) || !h.Unmet {
		t.Errorf("nobody of the list was found: %+v", h)
	}
	a, b := listNode("a", 1, testStart), listNode("b", 1, testStart)
	m.NotifyJoin(a)
	m.NotifyJoin(b)
	if h := health(m); h != (Health{}) {
		t.Errorf("all is well: %+v", h)
	}
	m.NotifyLeave(a)
	if h := health(m); !h.IsolatedSince.IsZero() || h.FailedSince.IsZero() {
		t.Errorf("one failed, one is there: %+v", h)
	}
	m.NotifyLeave(b)
	if h := health(m); h.IsolatedSince.IsZero() || h.FailedSince.IsZero() || h.Unmet {
		t.Errorf("both failed: %+v", h)
	}
	m.NotifyJoin(listNode("a", 2, testStart.Add(time.Minute))) // the same node, started again
	m.NotifyLeave(listNode("a", 2, testStart))
	m.left(memberID("a", 2))
	m.left(b.Name)
	if h := health(m); h != (Health{}) {
		t.Errorf("one came back and left, the other had left after all: %+v", h)
	}
}

func TestLeftMembersStayAway(t *testing.T) {
	m := testMembers(nil)
	n := listNode("a", 1, testStart)
	m.NotifyJoin(n)
	m.left(n.Name) // seen before memberlist has dealt with it
	m.NotifyLeave(n)
	if got := m.list(); len(got) != 1 || got[0].State != Left {
		t.Errorf("members %+v", got)
	}
	if err := m.NotifyAlive(n); err == nil {
		t.Error("a late message brings it back")
	}
}

func TestMembersAreForgotten(t *testing.T) {
	m := testMembers(func(c *Config) { c.MaxMembers = 2000 })
	for i := range maxLeft + 10 {
		n := listNode(fmt.Sprint("left-", i), 1, testStart)
		m.NotifyJoin(n)
		m.left(n.Name)
		m.NotifyLeave(n)
	}
	old := listNode("failed", 1, testStart)
	m.NotifyJoin(old)
	m.NotifyLeave(old)
	m.publish()
	if got := len(m.list()); got != maxLeft+1 {
		t.Errorf("%d are remembered", got)
	}
	m.forget(time.Now().Add(m.cfg.FailedRetention + time.Minute))
	if got := m.list(); len(got) != 0 {
		t.Errorf("%d are never forgotten", len(got))
	}
}

func TestSuspicionShowsAndPasses(t *testing.T) {
	m := testMembers(nil)
	n := listNode("a", 1, testStart)
	m.NotifyJoin(n)
	state := func() State { return m.list()[0].State }
	for _, step := range []struct {
		do   func()
		want State
	}{
		{func() { m.suspected(n.Name) }, Suspect},
		{func() { m.refuted(n.Name) }, Alive},
		{func() { m.suspected(n.Name) }, Suspect},
		{func() { m.acked(n.Name, time.Millisecond) }, Alive},
		{func() { m.NotifyLeave(n) }, Failed},
		{func() { m.suspected(n.Name) }, Failed},
	} {
		step.do()
		if got := state(); got != step.want {
			t.Errorf("%s, want %s", got, step.want)
		}
	}
}

func TestPausedMemberFailsAndComesBack(t *testing.T) {
	f := NewFabric(1)
	nodes := cluster(t, func(name string) Config {
		cfg := testConfig(name)
		cfg.Fabric = f
		return cfg
	}, 3)
	paused := nodes[2].Self()
	f.Partition([]netip.AddrPort{paused.Addr})
	awaitPeers(t, 1, nodes[:2]...)
	awaitPeers(t, 0, nodes[2])
	if nodes[2].Health().IsolatedSince.IsZero() {
		t.Error("the paused node doesn't feel isolated")
	}
	if _, err := nodes[0].Dial(within(t, 50*time.Millisecond), paused); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("dial of a paused node: %v", err)
	}
	f.Heal()
	awaitPeers(t, 2, nodes...)
	if !slices.ContainsFunc(nodes[0].Peers(), func(p Peer) bool { return p.ID == paused.ID }) {
		t.Error("it is taken for new")
	}
	if h := nodes[2].Health(); h != (Health{}) {
		t.Errorf("health %+v", h)
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
