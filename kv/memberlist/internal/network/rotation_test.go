package network

import (
	"fmt"
	"testing"
)

// everybodyTalks sends a frame from each node to all others.
func everybodyTalks(t *testing.T, step string, nodes []node) {
	t.Helper()
	for _, n := range nodes {
		want := map[node]int{}
		for _, other := range nodes {
			want[other] = other.rec.count() + 1
		}
		if err := n.Send([]byte(step), n.Peers()...); err != nil {
			t.Fatal(err)
		}
		for _, other := range nodes {
			if other != n {
				eventually(t, fmt.Sprintf("%s: a frame of %s reaches %s", step, n.self.Name, other.self.Name), func() bool {
					return other.rec.count() >= want[other]
				})
			}
		}
		conn, err := n.Dial(t.Context(), n.Peers()[0])
		if err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		_ = conn.Close()
	}
}

// roll gives all nodes another security, one after the other, and shows after
// each that all still hear each other.
func roll(t *testing.T, steps []Security) {
	t.Helper()
	nodes := cluster(t, func(name string) Config {
		cfg := testConfig(name)
		cfg.Security = steps[0]
		return cfg
	}, 3)
	for i, s := range steps[1:] {
		for k, n := range nodes {
			if err := n.SetSecurity(s); err != nil {
				t.Fatal(err)
			}
			everybodyTalks(t, fmt.Sprintf("step %d, node %d", i+1, k), nodes)
		}
	}
	cfg := testConfig("late")
	cfg.Security = steps[len(steps)-1]
	cfg.Join = []string{nodes[0].Self().Addr.String()}
	awaitPeers(t, 3, start(t, cfg, nil))
	for _, n := range nodes {
		for _, cause := range []Cause{CauseKey, CauseLabel, CausePlaintext} {
			if got := n.Stats().Rejected[cause]; got > 0 {
				t.Errorf("%s refused %d for %s", n.self.Name, got, cause)
			}
		}
		if since := n.Health().FailedSince; !since.IsZero() {
			t.Errorf("%s saw a member fail", n.self.Name)
		}
	}
}

func TestKeysAreExchangedWithoutAGap(t *testing.T) {
	roll(t, []Security{
		{Label: "a", Keys: [][]byte{key(1)}},
		{Label: "a", Keys: [][]byte{key(1), key(2)}},
		{Label: "a", Keys: [][]byte{key(2), key(1)}},
		{Label: "a", Keys: [][]byte{key(2)}},
	})
}

func TestLabelIsExchangedWithoutAGap(t *testing.T) {
	roll(t, []Security{
		{},
		{AcceptLabels: []string{"new"}},
		{Label: "new", AcceptLabels: []string{""}},
		{Label: "new"},
	})
}

func TestEncryptionIsIntroducedWithoutAGap(t *testing.T) {
	keys := [][]byte{key(1)}
	roll(t, []Security{
		{Label: "a"},
		{Label: "a", Keys: keys, AcceptPlaintext: true, SendPlaintext: true},
		{Label: "a", Keys: keys, AcceptPlaintext: true},
		{Label: "a", Keys: keys},
	})
}

func TestClustersWithOtherLabelsOrKeysDontMerge(t *testing.T) {
	for _, other := range []Security{{Label: "other"}, {}, {Label: "test", Keys: [][]byte{key(1)}}} {
		a := start(t, testConfig("a"), nil)
		cfg := testConfig("b")
		cfg.Security = other
		cfg.Join = []string{a.Self().Addr.String()}
		b := start(t, cfg, nil)
		<-b.Joined()
		refused := func(n node) (sum uint64) {
			for _, cause := range []Cause{CauseKey, CauseLabel, CausePlaintext} {
				sum += n.Stats().Rejected[cause]
			}
			return sum
		}
		eventually(t, "it has tried several times", func() bool { return refused(a) >= 3 })
		if len(a.Peers())+len(b.Peers()) != 0 {
			t.Errorf("%+v: peers %v and %v", other, a.Peers(), b.Peers())
		}
		_ = b.Close()
	}
}
