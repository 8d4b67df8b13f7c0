package memberlist

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// tally is a Mergeable that has none of the optional interfaces: counters of
// which the highest wins. It has no removals.
type tally map[string]int

var tallies = codec.JSON[tally]{ID: "tally"}

func (c tally) Merge(other Mergeable, _ bool) (Mergeable, error) {
	o, ok := other.(tally)
	if !ok {
		return nil, fmt.Errorf("can't merge a %T into a tally", other)
	}
	change := tally{}
	for name, n := range o {
		if n > c[name] {
			c[name], change[name] = n, n
		}
	}
	if len(change) == 0 {
		return nil, nil
	}
	return change, nil
}

func (c tally) MergeContent() (names []string) {
	for name := range c {
		names = append(names, name)
	}
	return names
}

func (c tally) RemoveTombstones(time.Time) (total, removed int) { return 0, 0 }

func (c tally) Clone() Mergeable {
	o := tally{}
	for name, n := range c {
		o[name] = n
	}
	return o
}

// wireCluster is some nodes between which nothing travels unless the test says so.
type wireCluster struct {
	nodes []*loopback
	now   time.Time
	log   []state.Update // everything written anywhere
	wire  []parcel       // what is under way
}

type parcel struct {
	to     int
	update state.Update
}

func clusterCodecs() []codec.Codec { return []codec.Codec{codec.String{}, counts, tallies} }

func newWireCluster(tb testing.TB, size int) *wireCluster {
	c := &wireCluster{now: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)}
	for i := range size {
		n := newLoopback(tb, func() time.Time { return c.now }, clusterCodecs()...)
		c.nodes = append(c.nodes, n)
		n.store.OnLocal(func(u state.Update) {
			c.log = append(c.log, u)
			for to := range c.nodes {
				if to != i {
					c.wire = append(c.wire, parcel{to, u})
				}
			}
		})
	}
	return c
}

// close closes what the nodes opened.
func (c *wireCluster) close() {
	for _, n := range c.nodes {
		n.clients.close()
	}
}

func (c *wireCluster) open(node int, cdc codec.Codec) kv.Client {
	client, err := c.nodes[node].clients.new(cdc, kv.Options{})
	if err != nil {
		panic(err) // the codec is not among clusterCodecs
	}
	return client
}

// deliver takes what is in one place of the wire to its node; it stays on the
// wire if twice.
func (c *wireCluster) deliver(at int, twice bool) state.Applied {
	p := c.wire[at]
	if !twice {
		c.drop(at)
	}
	return c.nodes[p.to].store.Apply(p.update, nil)
}

func (c *wireCluster) drop(at int) { c.wire = slices.Delete(c.wire, at, at+1) }

// deliverAll delivers everything in a random order.
func (c *wireCluster) deliverAll(rnd *rand.Rand) {
	for len(c.wire) > 0 {
		c.deliver(rnd.IntN(len(c.wire)), false)
	}
}

// nothingSeen is what nodes know of each other in a comparison: the versions decide.
var nothingSeen state.Context

// compare has node a compare with node b and exchange what differs, and
// returns how many updates travelled.
func (c *wireCluster) compare(a, b int) (sent int) {
	ours, theirs := c.nodes[a].store, c.nodes[b].store
	rootsA, rootsB := ours.Roots(), theirs.Roots()
	for i, id := range ours.Codecs() {
		if rootsA[i] == rootsB[i] {
			continue
		}
		bucketsA, bucketsB := ours.Buckets(id), theirs.Buckets(id)
		for bucket := range bucketsA {
			if bucketsA[bucket] == bucketsB[bucket] {
				continue
			}
			want, give, _ := ours.Compare(id, bucket, theirs.Keys(id, bucket), &nothingSeen)
			for _, kd := range give {
				if u, ok := ours.Read(id, kd); ok {
					theirs.Apply(u, &nothingSeen)
					sent++
				}
			}
			for _, kd := range want {
				if u, ok := theirs.Read(id, kd); ok {
					ours.Apply(u, &nothingSeen)
					sent++
				}
			}
		}
	}
	return sent
}

// settle compares nodes with each other until none has anything new.
func (c *wireCluster) settle() error {
	for range 4 {
		sent := 0
		for a := range c.nodes {
			for b := range c.nodes {
				if a != b {
					sent += c.compare(a, b)
				}
			}
		}
		if sent == 0 {
			return c.differs()
		}
	}
	return fmt.Errorf("nodes go on exchanging updates: %w", c.differs())
}

// differs says in what the nodes differ, by their digests and by what clients
// see; nil if in nothing.
func (c *wireCluster) differs() error {
	first := c.nodes[0]
	for i, n := range c.nodes[1:] {
		if a, b := first.view(), n.view(); a != b {
			return fmt.Errorf("node 0 has\n%s\nnode %d has\n%s", a, i+1, b)
		}
		if a, b := first.store.Roots(), n.store.Roots(); !slices.Equal(a, b) {
			return fmt.Errorf("the nodes have the same values, and the digests %v and %v", a, b)
		}
	}
	return nil
}

// view is what clients see of a node.
func (l *loopback) view() (all string) {
	l.store.Snapshot().From("", "", func(r *state.Record) bool {
		encoded, err := r.Encoded()
		if err != nil {
			encoded = []byte(err.Error())
		}
		if m, ok := r.Mergeable().(*Map[string, int]); ok {
			encoded, _ = m.MarshalJSON()
		}
		all += fmt.Sprintf("%s (%s) = %q\n", r.Key(), r.Codec(), encoded)
		return true
	})
	return all
}

// set makes an entry of a map.
func set(ctx context.Context, c kv.Client, key, entry string, n int) error {
	return c.CAS(ctx, key, func(in any) (any, bool, error) {
		m, _ := in.(*Map[string, int])
		if m == nil {
			m = NewMap[string, int]()
		}
		m.Set(entry, n)
		return m, false, nil
	})
}

// put writes a string.
func put(ctx context.Context, c kv.Client, key, value string) error {
	return c.CAS(ctx, key, func(any) (any, bool, error) { return value, false, nil })
}
