package network

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
)

// unlabelled is the configuration of a node without a label, whose founding
// settles soon.
func unlabelled(f *Fabric, name string, join ...string) Config {
	cfg := testConfig(name)
	cfg.Fabric, cfg.Label, cfg.Join = f, "", join
	cfg.Settle = 100 * time.Millisecond
	return cfg
}

func (n node) founding() founding {
	n.members.mu.Lock()
	defer n.members.mu.Unlock()
	return n.members.founding
}

// awaitFounding waits until all have the same settled founding.
func awaitFounding(t *testing.T, nodes ...node) founding {
	t.Helper()
	eventually(t, "all have one founding, and it has settled", func() bool {
		for _, n := range nodes {
			if f := n.founding(); !f.settled || f.id != nodes[0].founding().id {
				return false
			}
		}
		return true
	})
	return nodes[0].founding()
}

func TestClustersWithoutLabelStayApart(t *testing.T) { synctest.Test(t, clustersStayApart) }

func clustersStayApart(t *testing.T) {
	f := NewFabric(1)
	var ours []node
	for _, name := range []string{"a", "b", "e"} {
		cfg := unlabelled(f, name)
		if name != "a" {
			cfg.Join = []string{ours[0].Self().Addr.String()}
		}
		ours = append(ours, start(t, cfg, nil))
	}
	awaitPeers(t, 2, ours...)
	awaitFounding(t, ours...)
	gone, third := ours[1].Self().Addr, ours[2]
	_ = ours[1].Close() // and its address is given to a node of another cluster
	awaitPeers(t, 1, ours[0], third)

	// That one is found only once it has settled: before, it would join.
	f.Partition([]netip.AddrPort{ours[0].Self().Addr, third.Self().Addr})
	other := start(t, unlabelled(f, "c"), nil)
	cfg := unlabelled(f, "d", other.Self().Addr.String())
	cfg.AdvertiseAddress = gone.Addr().String()
	recycled := start(t, cfg, nil)
	if recycled.Self().Addr != gone {
		t.Fatalf("it has %s, not %s", recycled.Self().Addr, gone)
	}
	awaitPeers(t, 1, other, recycled)
	awaitFounding(t, other, recycled)
	f.Heal()

	// One of the two is found by the other, and both say so.
	eventually(t, "the two clusters have met", func() bool {
		return ours[0].Stats().Rejected[CauseCluster]+third.Stats().Rejected[CauseCluster] > 0 && recycled.Stats().Rejected[CauseCluster] > 0
	})
	for _, n := range []node{ours[0], third, other, recycled} {
		if len(n.Peers()) != 1 {
			t.Errorf("%s has the peers %v", n.self.Name, idsOf(n.Peers()))
		}
	}
	if ours[0].founding().id == other.founding().id {
		t.Error("the two clusters have one founding")
	}
	eventually(t, "its health tells of the other cluster", func() bool { return recycled.Health().Foreign != "" })
	if _, err := ours[0].list.Join([]string{gone.String()}); err == nil || !strings.Contains(err.Error(), "give each cluster a cluster_label") {
		t.Errorf("a join says %v", err)
	}
}

// A young node whose list has nodes of two clusters joins one of them: in both it
// would carry the changes of each to the other.
func TestYoungNodeJoinsOneCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFabric(1)
		two := func(name string) node { // one that is never alone
			n := start(t, unlabelled(f, name), nil)
			awaitFounding(t, n, start(t, unlabelled(f, name+" 2", n.Self().Addr.String()), nil))
			return n
		}
		one, other := two("one"), two("other")
		cfg := unlabelled(f, "young", one.Self().Addr.String(), other.Self().Addr.String())
		cfg.Settle = time.Hour
		for range 8 {
			young := start(t, cfg, nil)
			<-young.Joined()
			time.Sleep(time.Second)
			if n := len(one.Peers()) + len(other.Peers()); n != 3 {
				t.Errorf("the two clusters have %d peers, want 3", n)
			}
			if err := young.Leave(t.Context()); err != nil {
				t.Fatal(err)
			}
			_ = young.Close()
			awaitPeers(t, 1, one, other)
		}
	})
}

// A cluster that starts in parts is one, and remains one.
func TestNodesThatStartApartBecomeOne(t *testing.T) {
	f := NewFabric(1)
	cfg := func(name string, join ...string) Config {
		c := unlabelled(f, name, join...)
		c.Settle = time.Hour
		return c
	}
	var nodes []node
	a := start(t, cfg("a"), nil)
	b := start(t, cfg("b", a.Self().Addr.String()), nil)
	c := start(t, cfg("c"), nil)
	d := start(t, cfg("d", c.Self().Addr.String(), a.Self().Addr.String()), nil)
	nodes = append(nodes, a, b, c, d)
	awaitPeers(t, 3, nodes...)
	eventually(t, "all have the first one's founding", func() bool {
		for _, n := range nodes {
			if n.founding().id != a.founding().id {
				return false
			}
		}
		return true
	})
	for _, n := range nodes { // as if an hour had passed
		n.members.mu.Lock()
		n.members.founded = time.Now().Add(-2 * time.Hour)
		n.members.mu.Unlock()
		n.members.settle(time.Now())
	}
	var left, right []netip.AddrPort
	for i, n := range nodes {
		if i < 2 {
			left = append(left, n.Self().Addr)
		} else {
			right = append(right, n.Self().Addr)
		}
	}
	f.Partition(left, right)
	awaitPeers(t, 1, nodes...)
	f.Heal()
	awaitPeers(t, 3, nodes...)
	for _, n := range nodes {
		if count := n.Stats().Rejected[CauseCluster]; count != 0 {
			t.Errorf("%s refused others %d times", n.self.Name, count)
		}
	}
}

// Who was cut off alone while all others were started anew gives way to them.
func TestWhoWasAloneGivesWay(t *testing.T) {
	f := NewFabric(1)
	alone := start(t, unlabelled(f, "a"), nil)
	seed := alone.Self().Addr.String()
	before := start(t, unlabelled(f, "b", seed), nil)
	awaitPeers(t, 1, alone)
	old := awaitFounding(t, alone, before)
	f.Partition([]netip.AddrPort{alone.Self().Addr})
	_ = before.Close()
	b := start(t, unlabelled(f, "b", seed), nil)
	c := start(t, unlabelled(f, "c", seed, b.Self().Addr.String()), nil)
	awaitPeers(t, 1, b, c)
	anew := awaitFounding(t, b, c)
	eventually(t, "the one that is alone may give way", func() bool { f := alone.founding(); return !f.settled && f.id != old.id })
	f.Heal()
	awaitPeers(t, 2, alone, b, c)
	if got := awaitFounding(t, alone, b, c); got.id != anew.id {
		t.Errorf("the founding is %x, was %x for the two", got.id, anew.id)
	}
}

func TestFoundingsAreDecided(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_000)
	young, younger := founding{id: 2, at: at}, founding{id: 1, at: at.Add(time.Millisecond)}
	settled, other := founding{id: 3, at: at.Add(time.Hour), settled: true}, founding{id: 4, at: at, settled: true}
	for name, test := range map[string]struct {
		label       string
		own, theirs founding
		want        founding
		foreign     bool
	}{
		"the older stays":             {own: younger, theirs: young, want: young},
		"the older is kept":           {own: young, theirs: younger, want: young},
		"at the same time":            {own: young, theirs: founding{id: 1, at: at}, want: founding{id: 1, at: at}},
		"the settled stays":           {own: young, theirs: settled, want: settled},
		"the settled is kept":         {own: settled, theirs: young, want: settled},
		"two settled":                 {own: settled, theirs: other, want: settled, foreign: true},
		"the same, settled elsewhere": {own: young, theirs: founding{id: 2, at: at, settled: true}, want: founding{id: 2, at: at, settled: true}},
		"none":                        {own: settled, want: settled},
		"a label says it":             {label: "x", own: settled, theirs: other, want: settled},
	} {
		m := testMembers(func(c *Config) { c.Label = test.label })
		m.founding = test.own
		if got := m.foreign(test.theirs); got != test.foreign {
			t.Errorf("%s: foreign is %v", name, got)
		}
		node := listNode("a", 1, at)
		node.Meta = test.theirs.append(node.Meta)
		if err := m.NotifyAlive(node); (err != nil) != test.foreign {
			t.Errorf("%s: word of a node: %v", name, err)
		}
		if err := m.NotifyMerge([]*memberlist.Node{node}); (err != nil) != test.foreign {
			t.Errorf("%s: a list of nodes: %v", name, err)
		}
		m.adopt(test.theirs)
		if m.founding != test.want || m.told == (test.want != test.own) {
			t.Errorf("%s: %+v, told %v, want %+v", name, m.founding, m.told, test.want)
		}
		if back := decodeFounding(test.own.append(nil)); back != test.own {
			t.Errorf("%+v reads as %+v", test.own, back)
		}
	}
}

func TestJoiningWithoutALabelWarnsOnce(t *testing.T) {
	for label, want := range map[string]int{"": 1, "x": 0} {
		f := NewFabric(1)
		var log bytes.Buffer
		cfg := unlabelled(f, "a")
		cfg.Label = label
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		a := start(t, cfg, nil)
		for _, name := range []string{"b", "c"} {
			cfg := unlabelled(f, name, a.Self().Addr.String())
			cfg.Label = label
			n := start(t, cfg, nil)
			awaitPeers(t, 1, a, n)
			_ = n.Leave(t.Context())
			_ = n.Close()
			awaitPeers(t, 0, a)
		}
		_ = a.Close() // so that the log is complete
		if got := strings.Count(log.String(), "without a cluster_label"); got != want {
			t.Errorf("label %q: %d warnings\n%s", label, got, &log)
		}
	}
}
