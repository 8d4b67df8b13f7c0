package memberlist

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// schedule is a random run of a cluster: writes anywhere, and updates that are
// lost, repeated and overtaken.
type schedule struct {
	*wireCluster
	ctx     context.Context //nolint:containedctx // lives as long as one run
	clients [][]kv.Client   // by node and codec
}

// TestConvergence: after writes stop, all nodes become equal, whatever was
// lost, and equal to a node that got every write in order.
func TestConvergence(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := &schedule{wireCluster: newWireCluster(t, rapid.IntRange(2, 5).Draw(rt, "nodes")), ctx: t.Context()}
		defer s.close()
		for i := range s.nodes {
			var open []kv.Client
			for _, cdc := range clusterCodecs() {
				open = append(open, s.open(i, cdc))
			}
			s.clients = append(s.clients, open)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"text":      s.text,
			"entry":     s.entry,
			"no entry":  s.removeEntry,
			"count":     s.count,
			"delete":    s.remove,
			"remove":    s.removeInCAS,
			"deliver":   s.deliverOne,
			"repeat":    s.repeat,
			"lose":      s.lose,
			"compare":   s.comparePair,
			"time":      s.pass,
			"forwarded": s.forward,
		})
		if err := s.settle(); err != nil {
			rt.Fatal(err)
		}
		ideal := newLoopback(t, func() time.Time { return s.now }, clusterCodecs()...)
		defer ideal.clients.close()
		for _, u := range s.log {
			if a := ideal.store.Apply(u, &nothingSeen); a.Err != nil {
				rt.Fatalf("update %+v: %v", u, a.Err)
			}
		}
		if got, want := s.nodes[0].view(), ideal.view(); got != want {
			rt.Fatalf("the cluster has\n%s\na node that lost nothing has\n%s", got, want)
		}
	})
}

func (s *schedule) client(rt *rapid.T, codec int) kv.Client {
	return s.clients[rapid.IntRange(0, len(s.nodes)-1).Draw(rt, "node")][codec]
}

func key(rt *rapid.T) string { return rapid.SampledFrom([]string{"a", "b", "c/d"}).Draw(rt, "key") }

func (s *schedule) text(rt *rapid.T) {
	if err := put(s.ctx, s.client(rt, 0), "text/"+key(rt), rapid.StringN(0, 2, -1).Draw(rt, "value")); err != nil {
		rt.Fatal(err)
	}
}

func (s *schedule) entry(rt *rapid.T) {
	if err := set(s.ctx, s.client(rt, 1), "map/"+key(rt), key(rt), rapid.Int().Draw(rt, "n")); err != nil {
		rt.Fatal(err)
	}
}

func (s *schedule) removeEntry(rt *rapid.T) {
	entry := key(rt)
	err := s.client(rt, 1).CAS(s.ctx, "map/"+key(rt), func(in any) (any, bool, error) {
		m, _ := in.(*Map[string, int])
		if m == nil {
			return nil, false, nil
		}
		m.Delete(entry)
		return m, false, nil
	})
	if err != nil {
		rt.Fatal(err)
	}
}

func (s *schedule) count(rt *rapid.T) {
	name := key(rt)
	err := s.client(rt, 2).CAS(s.ctx, "tally/"+key(rt), func(in any) (any, bool, error) {
		c, _ := in.(tally)
		if c == nil {
			c = tally{}
		}
		c[name]++
		return c, false, nil
	})
	if err != nil {
		rt.Fatal(err)
	}
}

func anyKey(rt *rapid.T) string {
	return rapid.SampledFrom([]string{"text/", "map/", "tally/"}).Draw(rt, "kind") + key(rt)
}

func (s *schedule) remove(rt *rapid.T) {
	if err := s.client(rt, 0).Delete(s.ctx, anyKey(rt)); err != nil {
		rt.Fatal(err)
	}
}

func (s *schedule) removeInCAS(rt *rapid.T) {
	kind := rapid.IntRange(0, 2).Draw(rt, "codec")
	err := s.client(rt, kind).CAS(s.ctx, []string{"text/", "map/", "tally/"}[kind]+key(rt), func(any) (any, bool, error) {
		return kv.Remove, false, nil
	})
	if err != nil {
		rt.Fatal(err)
	}
}

func (s *schedule) under(rt *rapid.T) int {
	if len(s.wire) == 0 {
		rt.Skip("nothing is under way")
	}
	return rapid.IntRange(0, len(s.wire)-1).Draw(rt, "at")
}

func (s *schedule) deliverOne(rt *rapid.T) { s.check(rt, s.deliver(s.under(rt), false)) }
func (s *schedule) repeat(rt *rapid.T)     { s.check(rt, s.deliver(s.under(rt), true)) }
func (s *schedule) lose(rt *rapid.T)       { s.drop(s.under(rt)) }

func (s *schedule) check(rt *rapid.T, a state.Applied) {
	if a.Err != nil {
		rt.Fatalf("an update of a node was refused: %v", a.Err)
	}
}

// forward delivers an update and has the receiver hand it on to another node.
func (s *schedule) forward(rt *rapid.T) {
	at := s.under(rt)
	update := s.wire[at].update
	a := s.deliver(at, false)
	s.check(rt, a)
	if a.Outcome == state.Changed {
		s.wire = append(s.wire, parcel{rapid.IntRange(0, len(s.nodes)-1).Draw(rt, "to"), update})
	}
}

func (s *schedule) comparePair(rt *rapid.T) {
	a := rapid.IntRange(0, len(s.nodes)-1).Draw(rt, "a")
	b := rapid.IntRange(0, len(s.nodes)-1).Draw(rt, "b")
	if a != b {
		s.compare(a, b)
	}
}

func (s *schedule) pass(rt *rapid.T) {
	s.now = s.now.Add(time.Duration(rapid.IntRange(1, 20).Draw(rt, "ms")) * time.Millisecond)
}

// each runs f for random orders of delivery.
func each(t *testing.T, f func(t *testing.T, c *wireCluster, rnd *rand.Rand)) {
	t.Helper()
	for seed := range uint64(50) {
		c := newWireCluster(t, 5)
		f(t, c, rand.New(rand.NewPCG(seed, 1)))
		c.close()
		if t.Failed() {
			t.Fatalf("with the order of seed %d", seed)
		}
	}
}

func (c *wireCluster) wantEqual(t *testing.T) {
	t.Helper()
	if err := c.differs(); err != nil {
		t.Error(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A deletion reaches all, whatever it overtakes.
func TestDeletionReachesAll(t *testing.T) {
	each(t, func(t *testing.T, c *wireCluster, rnd *rand.Rand) {
		for i := range 4 {
			must(t, put(t.Context(), c.open(i, codec.String{}), "text", fmt.Sprint(i)))
			must(t, set(t.Context(), c.open(i, counts), "map", fmt.Sprint(i), i))
			c.deliver(rnd.IntN(len(c.wire)), false)
		}
		c.deliverAll(rnd)
		deleter := c.open(4, codec.String{})
		must(t, deleter.Delete(t.Context(), "text"))
		must(t, deleter.Delete(t.Context(), "map"))
		for _, u := range c.log { // everything comes once more, in any order
			for to := range c.nodes {
				c.wire = append(c.wire, parcel{to, u})
			}
		}
		c.deliverAll(rnd)
		c.wantEqual(t)
		if v := c.nodes[0].view(); v != "" {
			t.Errorf("after the deletions there is still\n%s", v)
		}
	})
}

// A key that was created again survives its deletion, and holds what was
// written since then only.
func TestRecreatedKeySurvives(t *testing.T) {
	each(t, func(t *testing.T, c *wireCluster, rnd *rand.Rand) {
		a, b := c.open(0, counts), c.open(1, counts)
		must(t, set(t.Context(), a, "k", "before", 1))
		c.deliverAll(rnd)
		must(t, b.Delete(t.Context(), "k"))
		must(t, set(t.Context(), b, "k", "after", 2))
		must(t, set(t.Context(), b, "k", "later", 3))
		c.deliverAll(rnd)
		if err := c.settle(); err != nil {
			t.Error(err)
		}
		if v := c.nodes[3].view(); v != `k (counts) = "{\"after\":2,\"later\":3}"`+"\n" {
			t.Errorf("a node has %s", v)
		}
	})
}

// Simultaneous first writers of a Map all keep their entries, and so do
// simultaneous later ones.
func TestConcurrentWritersOfMapMerge(t *testing.T) {
	each(t, func(t *testing.T, c *wireCluster, rnd *rand.Rand) {
		for round := range 2 {
			for i := range c.nodes {
				must(t, set(t.Context(), c.open(i, counts), "k", fmt.Sprintf("%d/%d", round, i), i))
			}
			c.deliverAll(rnd)
			c.wantEqual(t)
		}
		m, _ := c.nodes[2].store.Get("k").Mergeable().(*Map[string, int])
		if m.Len() != 2*len(c.nodes) {
			t.Errorf("of %d entries %v are left", 2*len(c.nodes), m.MergeContent())
		}
	})
}

// Of simultaneous writers of a value that doesn't merge one wins, everywhere
// the same.
func TestConcurrentWritersPickOneWinner(t *testing.T) {
	each(t, func(t *testing.T, c *wireCluster, rnd *rand.Rand) {
		for i := range c.nodes {
			must(t, put(t.Context(), c.open(i, codec.String{}), "k", fmt.Sprintf("of node %d", i)))
		}
		c.deliverAll(rnd)
		c.wantEqual(t)
		if got, err := c.nodes[0].store.Get("k").Encoded(); err != nil || !slices.Contains([]string{
			"of node 0", "of node 1", "of node 2", "of node 3", "of node 4",
		}, string(got)) {
			t.Errorf("the winner is %q, %v", got, err)
		}
	})
}

// A Delete that races with CAS ends equal everywhere: either the key is gone,
// or what is left was written after the deletion.
func TestDeleteRacingCAS(t *testing.T) {
	each(t, func(t *testing.T, c *wireCluster, rnd *rand.Rand) {
		must(t, set(t.Context(), c.open(0, counts), "k", "old", 1))
		c.deliverAll(rnd)
		for i := range c.nodes {
			if rnd.IntN(2) == 0 {
				must(t, c.open(i, counts).Delete(t.Context(), "k"))
			}
			if rnd.IntN(2) == 0 {
				must(t, set(t.Context(), c.open(i, counts), "k", fmt.Sprint("new", i), i))
			}
			if len(c.wire) > 0 {
				c.deliver(rnd.IntN(len(c.wire)), false)
			}
		}
		deleted := slices.ContainsFunc(c.log, func(u state.Update) bool { return !u.E.IsZero() })
		c.deliverAll(rnd)
		if err := c.settle(); err != nil {
			t.Error(err)
		}
		if r := c.nodes[0].store.Get("k"); r != nil && deleted {
			m, _ := r.Mergeable().(*Map[string, int])
			if _, ok := m.Get("old"); ok {
				t.Error("an entry of before the deletion is back")
			}
		}
	})
}
