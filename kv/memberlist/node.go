package memberlist

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/memberlist/internal/network"
	"github.com/polykv/polykv/kv/memberlist/internal/spread"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// Node is one member of a gossip cluster. It holds a copy of everything, which
// its clients read and write. Its methods may be called concurrently.
type Node struct {
	cfg     Config
	logger  *slog.Logger
	codecs  map[string]codec.Codec // by id, for people who look at values
	store   *state.Store
	spread  *spread.Spread
	net     *network.Network
	clients *clients
	started time.Time

	peersMu sync.Mutex
	peers   chan struct{} // closed, and replaced, when members come or go

	closing   context.Context // ends when Close begins
	stop      context.CancelFunc
	wg        sync.WaitGroup
	closeOnce sync.Once
	closeErr  error
}

// Options is what a program gives to [StartWith] beside the configuration.
type Options struct {
	Logger *slog.Logger // nil: slog.Default()

	// In memory, for tests of this package.
	fabric       *network.Fabric
	clock        func() time.Time
	housekeeping time.Duration
	broken       state.Rule
}

// Start starts a node whose clients will use these codecs. All nodes of a
// cluster should be given the same: a node keeps and passes on only values whose
// codec it has. [codec.Bytes] and [codec.String] are always there.
//
// Start opens the node's ports, UDP and TCP. It doesn't wait for other nodes,
// which it joins in the background and again and again, unless
// Config.RequirePeers says so; see [Node.WaitReady]. ctx bounds Start alone.
func Start(ctx context.Context, cfg Config, codecs ...codec.Codec) (*Node, error) {
	return StartWith(ctx, cfg, Options{}, codecs...)
}

// StartWith is [Start] with options.
func StartWith(ctx context.Context, cfg Config, opts Options, codecs ...codec.Codec) (*Node, error) {
	n, err := start(ctx, cfg, opts, codecs)
	if err != nil {
		return nil, fmt.Errorf("memberlist: %w", err)
	}
	return n, nil
}

func start(ctx context.Context, cfg Config, opts Options, codecs []codec.Codec) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	instance := network.RandomInstance()
	codecs = cfg.withKept(withBuiltin(codecs))
	store, err := state.New(state.Config{
		Instance: instance, Codecs: codecs, Clock: opts.clock,
		MaxClockSkew: cfg.MaxClockSkew, TombstoneTimeout: cfg.TombstoneTimeout,
		PartitionTolerance: cfg.PartitionTolerance, MaxTombstoneBytes: cfg.MaxTombstoneBytes, Broken: opts.broken,
	})
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, logger: opts.Logger, codecs: byID(codecs), store: store,
		started: time.Now(), peers: make(chan struct{}),
	}
	n.closing, n.stop = context.WithCancel(context.Background())
	n.clients = newClients(store, cfg.MaxValueBytes, n.health)
	n.clients.node = n
	if err := n.connect(ctx, instance, opts); err != nil {
		return nil, err
	}
	if err := n.require(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// withBuiltin adds codecs that cost nothing, so that nodes that were started for
// plain values understand each other.
func withBuiltin(codecs []codec.Codec) []codec.Codec {
	has := byID(codecs)
	if _, ok := has[codec.String{}.CodecID()]; ok {
		return codecs
	}
	return append(slices.Clone(codecs), codec.String{})
}

func byID(codecs []codec.Codec) map[string]codec.Codec {
	m := map[string]codec.Codec{codec.Bytes{}.CodecID(): codec.Bytes{}}
	for _, c := range codecs {
		m[c.CodecID()] = c
	}
	return m
}

// connect makes the node reachable.
func (n *Node) connect(ctx context.Context, instance uint64, opts Options) error {
	netCfg, spreadCfg := n.cfg.network(), n.cfg.spread()
	netCfg.Instance, netCfg.Fabric = instance, opts.fabric
	spreadCfg.Clock, spreadCfg.Housekeeping = opts.clock, cmp.Or(opts.housekeeping, spreadCfg.Housekeeping)
	netCfg.Logger, spreadCfg.Logger = n.logger, n.logger
	var err error
	if netCfg.Security, err = n.cfg.security(); err != nil {
		return err
	}
	n.spread = spread.New(n.store, spreadCfg)
	if n.net, err = network.Start(ctx, netCfg, handler{n.spread, n}); err != nil {
		return err
	}
	n.spread.Attach(n.net)
	if n.cfg.EncryptionKeysFile != "" {
		n.wg.Go(func() { n.watchKeys(n.closing, netCfg.Security, keysInterval) })
	}
	return nil
}

// require waits for the peers that the configuration wants.
func (n *Node) require(ctx context.Context) error {
	if n.cfg.RequirePeers == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.RequirePeersTimeout)
	defer cancel()
	if err := n.waitPeers(ctx, n.cfg.RequirePeers); err != nil {
		return fmt.Errorf("require_peers: %w", err)
	}
	return nil
}

// handler is the spread, and tells those who wait for peers.
type handler struct {
	*spread.Spread
	node *Node
}

func (h handler) PeersChanged(peers []network.Peer) {
	h.Spread.PeersChanged(peers)
	h.node.peersMu.Lock()
	defer h.node.peersMu.Unlock()
	close(h.node.peers)
	h.node.peers = make(chan struct{})
}

// Client opens a client of the node. Its values are those of c, whose id must
// be one of Start's. opts may be nil; its Backend defaults to "memberlist". Any
// number of clients may be open; Close of a client leaves the node alone, and
// Close of the node closes them.
func (n *Node) Client(c codec.Codec, opts *kv.Options) (kv.Client, error) {
	o := kv.DefaultOptions()
	o.Logger = n.logger
	if opts != nil {
		o = *opts
	}
	client, err := n.clients.new(c, o)
	if err != nil {
		return nil, fmt.Errorf("memberlist: %w", err)
	}
	return client, nil
}

// WaitReady waits until the node has at least minPeers live peers, and everything
// that one of them had when they met. With minPeers 0 a node that has tried its
// join list and found nobody is ready as well. It ends with ctx's error, or
// kv.ErrClosed when the node is closed.
func (n *Node) WaitReady(ctx context.Context, minPeers int) error {
	if err := n.waitPeers(ctx, minPeers); err != nil {
		return fmt.Errorf("memberlist: %w", err)
	}
	if minPeers == 0 {
		select {
		case <-n.net.Joined():
		case <-ctx.Done():
			return fmt.Errorf("memberlist: wait for other nodes to answer: %w", context.Cause(ctx))
		case <-n.closing.Done():
			return fmt.Errorf("memberlist: %w", kv.ErrClosed)
		}
	}
	for {
		changed := n.changed()
		if len(n.net.Peers()) == 0 && minPeers == 0 {
			return nil
		}
		select {
		case <-n.spread.Ready():
			return nil
		case <-changed: // the only peer may be gone
		case <-ctx.Done():
			return fmt.Errorf("memberlist: wait for what other nodes have: %w", context.Cause(ctx))
		case <-n.closing.Done():
			return fmt.Errorf("memberlist: %w", kv.ErrClosed)
		}
	}
}

func (n *Node) changed() <-chan struct{} {
	n.peersMu.Lock()
	defer n.peersMu.Unlock()
	return n.peers
}

func (n *Node) waitPeers(ctx context.Context, count int) error {
	for {
		changed := n.changed()
		have := len(n.net.Peers())
		if have >= count {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for %d peers, have %d: %w", count, have, context.Cause(ctx))
		case <-n.closing.Done():
			return kv.ErrClosed
		}
	}
}

// Name returns the node's name.
func (n *Node) Name() string { return n.net.Self().Name }

// Address returns where other nodes reach this one, as host:port.
func (n *Node) Address() string { return n.net.Self().Addr.String() }

// Peers returns the addresses of the other live members, sorted by the
// members' names.
func (n *Node) Peers() []string {
	peers := n.net.Peers()
	addrs := make([]string, len(peers))
	for i, p := range peers {
		addrs[i] = p.Addr.String()
	}
	return addrs
}

// MissingCodecs returns the ids of the codecs that this node lacks and that
// other nodes have keys of, or had since it began, sorted: those keys it doesn't
// have. [Config].KeepValues and KeepMaps are for them.
func (n *Node) MissingCodecs() []string { return n.spread.MissingCodecs() }

// Ping fails if the node is closed, if it has had peers and all of them are
// gone without a word, and if its writes don't reach others because its clock is
// wrong. Reads and writes still work then, on this node alone; what was written
// spreads as soon as it can. A node that has met nobody yet is well, since it
// may be the first: [Node.Notes] tells of it, and Config.RequirePeers is for
// nodes that must not begin alone. Nor does it fail where datagrams get no answer
// and changes travel by TCP; Notes tells that too.
func (n *Node) Ping(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("memberlist: %w", err)
	}
	if n.closing.Err() != nil {
		return fmt.Errorf("memberlist: %w", kv.ErrClosed)
	}
	if err := n.health(); err != nil {
		return fmt.Errorf("memberlist: %w: %w", kv.ErrUnavailable, err)
	}
	return nil
}

// health says why changes don't travel.
func (n *Node) health() error {
	if h := n.net.Health(); !h.IsolatedSince.IsZero() && !h.Unmet {
		return fmt.Errorf("node %s has been without any live peer since %s", n.Name(), h.IsolatedSince.UTC().Format(time.RFC3339))
	}
	return n.store.Health()
}

// Notes returns what an operator should know although changes travel and Ping
// succeeds, one sentence each; none if all is as it should be.
func (n *Node) Notes() []string {
	var notes []string
	if h := n.net.Health(); h.Unmet {
		note := fmt.Sprintf("no node of the join list has been met since %s", h.IsolatedSince.UTC().Format(time.RFC3339))
		if problem := n.net.JoinProblem(); problem != "" {
			note += "; the last attempt: " + problem
		}
		notes = append(notes, note)
	}
	if s := n.net.Stats(); s.ByStreamPeers > 0 {
		notes = append(notes, fmt.Sprintf("datagrams (UDP) get no answer from %d of %d peers, so changes and probes go to them by TCP", s.ByStreamPeers, len(n.net.Peers())))
	}
	if where := n.net.Health().Foreign; where != "" {
		notes = append(notes, fmt.Sprintf("another cluster without a cluster_label was met at %s, and not joined: give each cluster one, or both the same if they are to be one", where))
	}
	return notes
}

// Close closes the clients, hands on what no other node has yet, tells the
// others that this node leaves, and ends it. It takes no longer than
// Config.CloseTimeout; its error says what could not be done by then. It is
// idempotent.
func (n *Node) Close() error {
	n.closeOnce.Do(func() {
		n.stop()
		n.clients.close()
		ctx, cancel := context.WithTimeout(context.Background(), n.cfg.CloseTimeout)
		defer cancel()
		err := n.spread.Close(ctx)
		if err == nil { // else there is no time left, which leaving needs least
			err = n.net.Leave(ctx)
		} else {
			err = errors.Join(err, n.leaveAnyway())
		}
		if err != nil {
			n.closeErr = fmt.Errorf("memberlist: close: %w", err)
		}
		n.closeErr = errors.Join(n.closeErr, n.net.Close())
		n.wg.Wait()
	})
	return n.closeErr
}

// leaveAnyway tells the others that this node leaves although it has used up its
// time: a moment more, or it would count as failed.
func (n *Node) leaveAnyway() error {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	return n.net.Leave(ctx)
}
