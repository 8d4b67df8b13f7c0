package spread

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/memberlist/internal/network"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// patience is how long a test waits for what must happen.
const patience = 60 * time.Second

// node is a store, a network and what this package puts between them.
type node struct {
	name   string
	store  *state.Store
	net    *network.Network
	spread *Spread
	view   *state.View // of codec.String
	maps   *state.View // of maxMaps
	close  func()
}

// cluster starts nodes that differ in nothing but their names.
type cluster struct {
	t         testing.TB
	network   network.Config
	state     state.Config
	config    Config
	noStrings bool

	mu    sync.Mutex
	nodes []*node
	seeds []string
}

// newCluster returns a cluster over fabric, or over loopback if that is nil.
func newCluster(t testing.TB, fabric *network.Fabric) *cluster {
	t.Helper()
	c := &cluster{t: t, network: network.DefaultConfig(), config: DefaultConfig()}
	c.network.Fabric = fabric
	c.network.BindAddress, c.network.BindPort = "127.0.0.1", 0
	c.network.Label = "test"
	c.network.AloneInterval = 500 * time.Millisecond
	c.network.Logger = slog.New(slog.DiscardHandler)
	c.state = state.Config{
		Codecs:             []codec.Codec{codec.String{}, maxMaps{}},
		MaxClockSkew:       time.Minute,
		TombstoneTimeout:   time.Hour,
		PartitionTolerance: 24 * time.Hour,
	}
	return c
}

// start adds a node.
func (c *cluster) start(name string) *node {
	c.t.Helper()
	cfg := c.state
	cfg.Instance = rand.Uint64() | 1
	store, err := state.New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	n := &node{name: name, store: store}
	if !c.noStrings {
		if n.view, err = store.View(codec.String{}); err != nil {
			c.t.Fatal(err)
		}
	}
	if n.maps, err = store.View(maxMaps{}); err != nil {
		c.t.Fatal(err)
	}
	n.spread = New(store, c.config)
	netcfg := c.network
	netcfg.Name = name
	netcfg.Join = c.join()
	if n.net, err = network.Start(c.t.Context(), netcfg, n.spread); err != nil {
		c.t.Fatalf("start %s: %v", name, err)
	}
	n.spread.Attach(n.net)
	n.close = sync.OnceFunc(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // a test that wants a clean end closes by itself
		_ = n.spread.Close(ctx)
		_ = n.net.Close()
	})
	c.t.Cleanup(n.close)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = append(c.nodes, n)
	if len(c.seeds) < 3 {
		c.seeds = append(c.seeds, n.net.Self().Addr.String())
	}
	return n
}

func (c *cluster) join() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.seeds...)
}

// grow starts count nodes and waits until all know each other.
func (c *cluster) grow(count int) []*node {
	c.t.Helper()
	for i := range count {
		c.start(fmt.Sprintf("n%03d", len(c.nodes)))
		_ = i
	}
	c.awaitMembers()
	return c.nodes
}

func (c *cluster) awaitMembers() {
	c.t.Helper()
	for _, n := range c.nodes {
		if waitFor(patience, func() bool { return len(n.spread.Peers()) == len(c.nodes)-1 }) != nil {
			c.t.Fatalf("%s knows %d of %d members, its network %d", n.name, len(n.spread.Peers()), len(c.nodes)-1, len(n.net.Peers()))
		}
	}
}

// withoutComparisons keeps all nodes from comparing themselves with others until
// resume is called: what they get they were sent, or have pulled. Else a probe
// that is answered late may have them compare first.
func (c *cluster) withoutComparisons() (resume func()) {
	c.t.Helper()
	for _, n := range c.nodes {
		comparer := n.spread.comparer
		c.eventually("no comparison is under way", func() bool {
			comparer.mu.Lock()
			defer comparer.mu.Unlock()
			if comparer.running > 0 {
				return false
			}
			comparer.running = maxComparing
			return true
		})
	}
	return func() {
		for _, n := range c.nodes {
			n.spread.comparer.mu.Lock()
			n.spread.comparer.running -= maxComparing
			n.spread.comparer.mu.Unlock()
			n.spread.comparer.wake()
		}
	}
}

// eventually waits until cond is true.
func (c *cluster) eventually(what string, cond func() bool) {
	c.t.Helper()
	if err := waitFor(patience, cond); err != nil {
		c.t.Fatalf("not within %v: %s", patience, what)
	}
}

func waitFor(limit time.Duration, cond func() bool) error {
	for deadline := time.Now().Add(limit); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			return context.DeadlineExceeded
		}
	}
	return nil
}

// awaitEqual waits until all nodes have the same digests.
func awaitEqual(t testing.TB, limit time.Duration, nodes ...*node) {
	t.Helper()
	begin := time.Now()
	if waitFor(limit, func() bool { return allEqual(nodes) }) != nil {
		for _, n := range nodes {
			t.Logf("%s: %d keys, %v, %+v", n.name, n.store.Snapshot().Len(), n.store.Roots(), n.spread.Stats())
		}
		t.Fatalf("%d nodes were not equal within %v", len(nodes), limit)
	}
	t.Logf("%d nodes were equal after %v", len(nodes), time.Since(begin).Round(time.Millisecond))
}

func allEqual(nodes []*node) bool {
	first := fmt.Sprint(nodes[0].store.Roots())
	for _, n := range nodes[1:] {
		if fmt.Sprint(n.store.Roots()) != first {
			return false
		}
	}
	return true
}

// put writes a string, whatever is there.
func (n *node) put(t testing.TB, key, value string) {
	t.Helper()
	n.update(t, key, n.view, func(any) any { return value })
}

// delete removes a key.
func (n *node) delete(t testing.TB, key string) {
	t.Helper()
	n.update(t, key, n.view, func(any) any { return nil })
}

// raise sets an entry of a map that merges.
func (n *node) raise(t testing.TB, key, entry string, to int64) {
	t.Helper()
	n.update(t, key, n.maps, func(old any) any {
		m, ok := old.(*maxMap)
		if !ok {
			m = &maxMap{M: map[string]int64{}}
		}
		m.M[entry] = max(m.M[entry], to)
		return m
	})
}

// update is a CAS without retries of its own but for conflicts.
func (n *node) update(t testing.TB, key string, view *state.View, f func(any) any) {
	t.Helper()
	if err := n.tryUpdate(key, view, f); err != nil {
		t.Fatalf("%s writes %s: %v", n.name, key, err)
	}
}

func (n *node) tryUpdate(key string, view *state.View, f func(any) any) error {
	for {
		var prev driver.Version
		var object, value any
		if r := n.store.Get(key); r != nil {
			var err error
			prev, object = r.Seq(), r
			if value, err = view.Value(r, true); err != nil {
				return err
			}
		}
		var next any
		if out := f(value); out != nil {
			var err error
			if next, err = view.Object(key, object, out, 0); err != nil {
				return err
			}
		}
		_, ok, err := n.store.Swap(key, prev, next)
		if ok || err != nil {
			return err
		}
	}
}

// get returns a string, "" if the key is absent.
func (n *node) get(key string) string {
	r := n.store.Get(key)
	if r == nil {
		return ""
	}
	v, err := n.view.Value(r, false)
	if err != nil {
		return err.Error()
	}
	return v.(string)
}

// entries returns how many entries a map has.
func (n *node) entries(key string) int {
	r := n.store.Get(key)
	if r == nil {
		return 0
	}
	m, ok := r.Mergeable().(*maxMap)
	if !ok {
		return 0
	}
	return len(m.M)
}

// both runs a test over loopback and over a Fabric.
func both(t *testing.T, test func(t *testing.T, c *cluster)) {
	t.Run("loopback", func(t *testing.T) { test(t, newCluster(t, nil)) })
	t.Run("fabric", func(t *testing.T) { test(t, newCluster(t, network.NewFabric(1))) })
}

// maxMap is a simple Mergeable: of each entry the largest value counts.
type maxMap struct{ M map[string]int64 }

var errType = errors.New("not a maxMap")

func (m *maxMap) Merge(other state.Mergeable, _ bool) (state.Mergeable, error) {
	o, ok := other.(*maxMap)
	if !ok {
		return nil, errType
	}
	change := &maxMap{M: map[string]int64{}}
	for k, v := range o.M {
		if v > m.M[k] {
			m.M[k], change.M[k] = v, v
		}
	}
	if len(change.M) == 0 {
		return nil, nil
	}
	return change, nil
}

func (m *maxMap) MergeContent() []string                          { return nil }
func (m *maxMap) RemoveTombstones(time.Time) (total, removed int) { return 0, 0 }

func (m *maxMap) Clone() state.Mergeable {
	c := &maxMap{M: make(map[string]int64, len(m.M))}
	for k, v := range m.M {
		c.M[k] = v
	}
	return c
}

// maxMaps is their codec.
type maxMaps struct{}

var jsonMaps = codec.JSON[*maxMap]{}

func (maxMaps) CodecID() string              { return "maxmap" }
func (maxMaps) Encode(v any) ([]byte, error) { return jsonMaps.Encode(v) }
func (maxMaps) Decode(b []byte) (any, error) { return jsonMaps.Decode(b) }
