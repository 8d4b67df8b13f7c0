package memberlist

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// backend is the name of this backend in errors, logs and metrics.
const backend = "memberlist"

// clients are those of one node.
type clients struct {
	store    *state.Store
	maxValue int          // bytes
	health   func() error // why writes here don't reach others, or others' here; nil: they do
	node     *Node        // whose clients they are

	mu     sync.Mutex
	open   map[*client]struct{}
	closed bool
}

func newClients(s *state.Store, maxValue int, health func() error) *clients {
	return &clients{store: s, maxValue: maxValue, health: health, open: map[*client]struct{}{}}
}

// client is one of them: the engine over the node's state, which also tells
// how the node is when it is pinged.
type client struct {
	kv.Views
	backend string
	health  func() error
	node    *Node // nil in tests of the state alone
}

// new opens one more client. It fails if the codec isn't registered or opts
// are not valid.
func (cs *clients) new(c codec.Codec, opts kv.Options) (kv.Client, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	view, err := cs.store.View(c)
	if err != nil {
		return nil, err
	}
	if opts.Backend == "" {
		opts.Backend = backend
	}
	opened := &client{backend: opts.Backend, health: cs.health, node: cs.node}
	opened.Wrap = opened.wrap
	opened.Client = kv.New(newHandle(cs.store, view, cs.maxValue, func() { cs.drop(opened) }), c, &opts)
	if !cs.add(opened) {
		_ = opened.Close() // never fails
	}
	return opened, nil
}

// add reports false if the node is closed.
func (cs *clients) add(c *client) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if !cs.closed {
		cs.open[c] = struct{}{}
	}
	return !cs.closed
}

func (cs *clients) drop(c *client) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	delete(cs.open, c)
}

// close closes every client, and those still to be opened. Afterwards none
// writes.
func (cs *clients) close() {
	cs.mu.Lock()
	cs.closed = true
	open := slices.Collect(maps.Keys(cs.open))
	cs.mu.Unlock()
	for _, c := range open {
		_ = c.Close() // never fails
	}
}

// Ping fails if the client is closed, and if the node can't exchange changes
// with others, for example because it is isolated or its clock is wrong. Reads
// and writes still work then, on this node alone.
func (c *client) Ping(ctx context.Context) error {
	if err := c.Forward.Ping(ctx); err != nil {
		return err
	}
	if err := c.health(); err != nil {
		return &kv.Error{Op: "Ping", Backend: c.backend, Err: fmt.Errorf("%w: %w", kv.ErrUnavailable, err)}
	}
	return nil
}

// wrap returns a view of c, which tells the same when it is pinged.
func (c *client) wrap(view kv.Client) kv.Client {
	return &client{Views: kv.Views{Forward: kv.Forward{Client: view}, Wrap: c.wrap}, backend: c.backend, health: c.health, node: c.node}
}

// Linearizable is false: what other nodes write at the same time is merged, or
// the later write stays.
func (c *client) Linearizable() bool { return false }

// Node returns the node whose client this is. It is how kv.As finds it, by the
// type [Noder].
func (c *client) Node() *Node { return c.node }

// Noder is what every client of a node is inside, for kv.As:
//
//	if c, ok := kv.As[memberlist.Noder](client); ok {
//		peers := c.Node().Peers()
//	}
type Noder interface {
	Node() *Node
}
