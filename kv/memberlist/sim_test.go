package memberlist

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/memberlist/internal/network"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// The simulation runs whole nodes, hashicorp/memberlist included, on a network
// in memory and in virtual time. A plan says what happens to them; afterwards
// all is mended, and the nodes must agree on what the plan's writes and
// deletions lead to. See docs/gossip.md.

// The durations that the plans play around.
const (
	simTimeout   = time.Hour // tombstone_timeout
	simTolerance = 24 * time.Hour
	simPort      = 7946

	simHousekeeping = 10 * time.Minute
)

// simClock is a node's wall clock, which can be stepped, and which stands while
// the node is frozen.
type simClock struct {
	mu     sync.Mutex
	step   time.Duration
	frozen time.Time
}

func (c *simClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.frozen.IsZero() {
		return c.frozen
	}
	return time.Now().Add(c.step)
}

func (c *simClock) freeze() {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frozen = now
}

func (c *simClock) thaw() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frozen = time.Time{}
}

func (c *simClock) set(step time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.step = step
}

// simSlot is a place for a node: a name and an address, under which processes
// follow each other.
type simSlot struct {
	name   string
	addr   netip.AddrPort
	clock  *simClock
	node   *simProcess // nil: none runs
	texts  kv.Client
	maps   kv.Client
	frozen bool
}

// simProcess is a node, whatever its network is.
type simProcess struct {
	instance uint64
	store    *state.Store
	open     func(codec.Codec, kv.Options) (kv.Client, error)
	peers    func() []string // addresses of live ones
	health   func() error
	close    func() error
	crash    func() (rest func()) // ends it without a word; rest waits until all has ended
}

// simCluster is what a plan plays with.
type simCluster struct {
	fabric  *network.Fabric
	slots   []*simSlot
	history history
	log     *slog.Logger
	ending  sync.WaitGroup
	began   time.Time
	most    int        // bytes of tombstones that a node may keep
	broken  state.Rule // on purpose
	stepped bool       // a clock was set far ahead

	light     bool // nodes have a lightNet
	directory lightDirectory
}

func newSimCluster(slots int, seed uint64, log io.Writer) *simCluster {
	c := &simCluster{
		fabric: network.NewFabric(seed), began: time.Now(), most: 64 << 20,
		history:   history{equal: map[[2]uint64]time.Time{}},
		directory: lightDirectory{peers: map[uint64]network.Peer{}},
		log:       slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	c.fabric.SetDelay(time.Millisecond, 20*time.Millisecond)
	for i := range slots {
		ip := netip.AddrFrom4([4]byte{10, 9, 0, byte(i + 1)})
		c.slots = append(c.slots, &simSlot{name: fmt.Sprintf("n%d", i), addr: netip.AddrPortFrom(ip, simPort), clock: &simClock{}})
	}
	return c
}

// config probes seldom, so that a week costs a second.
func (c *simCluster) config(s *simSlot) Config {
	cfg := DefaultConfig()
	cfg.NodeName, cfg.ClusterLabel = s.name, "simulation"
	cfg.AdvertiseAddress, cfg.BindPort = s.addr.Addr().String(), simPort
	for _, other := range c.slots {
		cfg.Join = append(cfg.Join, other.addr.String())
	}
	cfg.ProbeInterval, cfg.ProbeTimeout = 4*time.Minute, 2*time.Second
	cfg.GossipInterval, cfg.PushPullInterval = 2*time.Minute, 30*time.Minute
	cfg.RejoinInterval, cfg.AloneInterval = 15*time.Minute, 5*time.Minute
	cfg.TombstoneTimeout, cfg.PartitionTolerance, cfg.MaxTombstoneBytes = simTimeout, simTolerance, c.most
	return cfg
}

// start starts a process in a slot that has none.
func (c *simCluster) start(i int) error {
	s := c.slots[i]
	if s.node != nil {
		return nil
	}
	begin := c.startFull
	if c.light {
		begin = c.startLight
	}
	node, err := begin(s)
	if err != nil {
		return err
	}
	s.node = node
	opts := kv.DefaultOptions()
	opts.Logger = c.log
	if s.texts, err = node.open(codec.String{}, opts); err != nil {
		return err
	}
	s.maps, err = node.open(counts, opts)
	return err
}

// startFull starts a whole Node.
func (c *simCluster) startFull(s *simSlot) (*simProcess, error) {
	node, err := StartWith(context.Background(), c.config(s), Options{
		Logger: c.log.With("node", s.name), fabric: c.fabric, clock: s.clock.now, housekeeping: simHousekeeping, broken: c.broken,
	}, codec.String{}, counts)
	if err != nil {
		return nil, err
	}
	return &simProcess{
		instance: node.net.Self().Instance, store: node.store, open: node.clients.new,
		peers: node.Peers, health: node.health, close: node.Close,
		crash: func() (rest func()) {
			_ = node.net.Close()
			return func() { _ = node.Close() }
		},
	}, nil
}

// crash ends a process without a word.
func (c *simCluster) crash(i int) {
	s := c.slots[i]
	if s.node == nil {
		return
	}
	c.thaw(i)
	c.history.look(c)
	c.history.crashed(s.node.instance)
	rest := s.node.crash()
	s.node = nil
	c.ending.Go(rest)
}

// leave ends a process as Close does.
func (c *simCluster) leave(i int) {
	s := c.slots[i]
	if s.node == nil || s.frozen {
		return
	}
	node := s.node
	alone := !slices.ContainsFunc(node.peers(), c.runs)
	c.history.look(c)
	err := node.close()
	c.history.look(c)
	s.node = nil
	if err == nil && !alone {
		c.history.handedOn(c, node)
	}
	c.history.crashed(node.instance)
}

// runs reports whether a process runs at an address.
func (c *simCluster) runs(addr string) bool {
	return slices.ContainsFunc(c.slots, func(s *simSlot) bool { return s.node != nil && s.addr.String() == addr })
}

func (c *simCluster) freeze(i int) {
	s := c.slots[i]
	if s.node == nil || s.frozen {
		return
	}
	s.frozen = true
	s.clock.freeze()
	c.fabric.Freeze(s.addr)
}

func (c *simCluster) thaw(i int) {
	s := c.slots[i]
	if !s.frozen {
		return
	}
	s.frozen = false
	s.clock.thaw()
	c.fabric.Thaw(s.addr)
}

// step sets a clock ahead, or back.
func (c *simCluster) step(i int, by time.Duration) {
	c.slots[i].clock.set(by)
	c.stepped = c.stepped || by > simTimeout
}

// partition cuts off the slots whose bit is set in mask.
func (c *simCluster) partition(mask int) {
	c.heal()
	var group []netip.AddrPort
	for i, s := range c.slots {
		if mask&(1<<i) != 0 {
			group = append(group, s.addr)
		}
	}
	c.fabric.Partition(group)
}

func (c *simCluster) heal() { c.fabric.Heal() }

// mend undoes everything that was done to the cluster.
func (c *simCluster) mend() error {
	c.heal()
	c.fabric.SetLoss(0)
	c.fabric.SetRate(0)
	for i, s := range c.slots {
		c.thaw(i)
		s.clock.set(0)
		if err := c.start(i); err != nil {
			return err
		}
	}
	return nil
}

// close ends everything.
func (c *simCluster) close() {
	for i := range c.slots {
		c.thaw(i)
	}
	c.heal()
	for _, s := range c.slots {
		if s.node != nil {
			crash := s.node.crash
			c.ending.Go(func() { crash()() })
		}
	}
	c.ending.Wait()
}

// sleep lets virtual time pass, and takes a look now and then.
func (c *simCluster) sleep(d time.Duration) {
	const step = 30 * time.Minute
	for ; d > step; d -= step {
		time.Sleep(step)
		c.history.look(c)
	}
	time.Sleep(d)
	synctest.Wait()
	c.history.look(c)
}

// running returns the slots of nodes that aren't frozen.
func (c *simCluster) running() (slots []*simSlot) {
	for _, s := range c.slots {
		if s.node != nil && !s.frozen {
			slots = append(slots, s)
		}
	}
	return slots
}

// agree waits until all nodes hold the same, and returns what differs if they
// don't in time.
func (c *simCluster) agree(within time.Duration) error {
	for deadline := time.Now().Add(within); ; c.sleep(5 * time.Minute) {
		running := c.running()
		var differ []string
		first := fmt.Sprint(running[0].node.store.Roots())
		for _, s := range running {
			peers, health := s.node.peers(), s.node.health()
			if len(peers) != len(running)-1 || fmt.Sprint(s.node.store.Roots()) != first || health != nil {
				differ = append(differ, fmt.Sprintf("%s: %d peers, health %v, other states of %v", s.name, len(peers), health, differing(running[0].node.store, s.node.store)))
			}
		}
		if len(differ) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not equal after %v: %s", within, strings.Join(differ, "; "))
		}
	}
}

// differing lists what two stores have otherwise of the keys that differ.
func differing(a, b *state.Store) (keys []string) {
	for _, id := range a.Codecs() {
		for bucket := range state.Buckets {
			theirs := map[string]state.KeyDigest{}
			for _, k := range b.Keys(id, bucket) {
				theirs[k.Key] = k
			}
			for _, k := range a.Keys(id, bucket) {
				if theirs[k.Key] != k {
					keys = append(keys, fmt.Sprintf("%+v, not %+v", theirs[k.Key], k))
				}
				delete(theirs, k.Key)
			}
			for _, k := range theirs {
				keys = append(keys, fmt.Sprintf("%+v, not there", k))
			}
		}
	}
	return keys
}

// nextAddr is an address for one more process of a slot's name.
func nextAddr(s *simSlot) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, 1, s.addr.Addr().As4()[3]}), simPort)
}
