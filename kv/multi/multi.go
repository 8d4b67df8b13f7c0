package multi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// Backend is one of the two stores.
type Backend struct {
	// Name tells the store from the other one. With Config.Coordinated it is
	// the name that "polykv migrate start" was told.
	Name string

	// Client reaches the store. It must have the same codec as the other
	// one, and kv.Watch.
	Client kv.Client

	// Gossip: the store is spread over nodes by gossip, and what Client
	// reads may lag behind what others wrote. Then one client of the fleet
	// mirrors for all, see the package documentation, and Config.Coordinated
	// is refused.
	Gossip bool

	// Equal reports whether two encoded values are as good as equal though
	// their bytes differ, for stores whose values merge: memberlist.Equal. Nil:
	// only equal bytes are. That of either backend is used.
	Equal func(a, b []byte) bool
}

// Option is an option of [New].
type Option func(*core)

// WithLogger gives the client a logger. Default: slog.Default().
func WithLogger(l *slog.Logger) Option { return func(c *core) { c.log = l } }

// WithObserver has o told what the client does. Default: nobody.
func WithObserver(o Observer) Option { return func(c *core) { c.observer = o } }

// WithTracer has t there when a key is mirrored. The clients of the two stores
// have tracers of their own, see kv.Options. Default: nobody.
func WithTracer(t kv.Tracer) Option { return func(c *core) { c.tracer = t } }

// WithCodec gives the client the codec of its backends' clients. It is needed
// for those that have no raw view (kv.Raw).
func WithCodec(cdc codec.Codec) Option { return func(c *core) { c.codec = cdc } }

// WithUpdates has the client apply what comes from ch, one update after
// another, until ch or the client is closed. What can't be applied is logged.
func WithUpdates(ch <-chan Update) Option { return func(c *core) { c.updates = ch } }

// Client is a kv.Client over two stores. It offers every optional interface of
// package kv that both stores offer, with these exceptions: when it is
// coordinated it takes one guard less than the stores do, since the record's
// guard is one of theirs; and its versions, those of guards included, hold as
// long as the same store is primary.
type Client struct{ view }

// core is what all views of one client share.
type core struct {
	cfg      Config
	log      *slog.Logger
	observer Observer
	tracer   kv.Tracer // nil: none
	codec    codec.Codec
	updates  <-chan Update
	wanted   func() (Update, error) // nil: nobody says what is wanted

	stores   [2]*store
	selector selector
	mirror   *mirror
	sweeps   *sweeps
	samples  samples
	owner    *owner                 // nil: no store is spread by gossip
	equal    func(a, b []byte) bool // nil: bytes are compared

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // every goroutine of ours

	closeOnce sync.Once
	closeErr  error
}

// store is one of the two.
type store struct {
	name   string
	client kv.Client   // as given
	raw    kv.Client   // its raw view; nil: it has none
	codec  codec.Codec // nil: not known
	coded  codec.Codec // what the client itself says of it; nil: nothing
	side   *side.Side
	gossip bool
}

// New returns a client over two stores, of which the first is primary unless
// cfg.Primary names the other one. It contacts nobody: a coordinated client
// reads the records in the background, and [Client.Ready] waits until it has.
// From then on the client closes the backends' clients.
//
// It fails if cfg is not valid, with a text that begins with the field, and if
// a backend lacks what it needs, with kv.ErrNotSupported.
func New(cfg Config, backends []Backend, options ...Option) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("multi: %w", err)
	}
	c := &core{cfg: cfg, log: slog.Default(), observer: NopObserver{}}
	for _, o := range options {
		o(c)
	}
	if c.wanted != nil {
		if err := c.beginWanted(); err != nil {
			return nil, fmt.Errorf("multi: %w", err)
		}
	}
	first, err := c.cfg.index(backends)
	if err != nil {
		return nil, fmt.Errorf("multi: %w", err)
	}
	for i, b := range backends {
		if c.stores[i], err = newStore(b, c.codec, cfg.Coordinated); err != nil {
			return nil, fmt.Errorf("multi: %w", err)
		}
		if b.Equal != nil {
			c.equal = b.Equal
		}
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.mirror = newMirror(c)
	c.sweeps = &sweeps{core: c, wake: make(chan struct{}, 1)}
	if cfg.Coordinated {
		c.selector = startRecords(c)
	} else {
		c.selector = newManual(c, first)
	}
	c.owner = newOwner(c)
	c.background()
	return &Client{view{core: c, stores: c.stores, clients: [2]kv.Client{c.stores[0].client, c.stores[1].client}}}, nil
}

// newStore finds out what a backend offers.
func newStore(b Backend, cdc codec.Codec, coordinated bool) (*store, error) {
	if _, ok := b.Client.(kv.Watcher); !ok {
		return nil, fmt.Errorf("backend %q: %w: its client has no kv.Watch", b.Name, kv.ErrNotSupported)
	}
	s := &store{name: b.Name, client: b.Client, gossip: b.Gossip}
	var err error
	if s.side, err = side.New(b.Name, b.Client, cdc); err != nil {
		return nil, err
	}
	s.raw, _ = kv.Raw(b.Client) // side.New has refused every error but "not supported"
	if s.coded, err = kv.CodecOf(b.Client); err != nil && !errors.Is(err, kv.ErrNotSupported) {
		return nil, fmt.Errorf("backend %q: %w", b.Name, err)
	}
	if s.codec = cdc; cdc == nil {
		s.codec = s.coded
	}
	if coordinated {
		_, unguarded := kv.Guarded(b.Client)
		_, versioned := b.Client.(kv.VersionedClient)
		if s.raw == nil || unguarded != nil || !versioned || b.Gossip {
			return nil, fmt.Errorf("coordinated: backend %q: %w: its client has no guards, which a coordinated migration needs; "+
				"without coordination there is the simple switch", b.Name, kv.ErrNotSupported)
		}
	}
	return s, nil
}

// background starts what runs until Close.
func (c *core) background() {
	c.start(c.mirror.retries)
	c.start(c.sweeps.run)
	if c.owner != nil {
		c.start(c.owner.run)
	}
	if c.updates != nil {
		c.start(c.applyUpdates)
	}
	c.start(c.sample)
}

// start runs f on a goroutine that Close waits for.
func (c *core) start(f func()) { c.wg.Go(f) }

// Close implements kv.Client: it waits for what is left to mirror, for at most
// Config.DrainTimeout, ends what is under way, waits for the client's own
// goroutines, and closes both stores' clients. What is still left to mirror
// then is logged, and stays undone until somebody's repair.
func (v *view) Close() error { return v.core.close() }

func (c *core) close() error {
	c.closeOnce.Do(func() {
		c.mirror.drainAll()
		c.selector.leave()
		if c.owner != nil {
			c.owner.resign()
		}
		c.cancel()
		c.mirror.abandon()
		// Closing the stores ends what a task of ours is waiting for, so that
		// comes before waiting.
		c.closeErr = errors.Join(c.stores[0].client.Close(), c.stores[1].client.Close())
		c.wg.Wait()
	})
	return c.closeErr
}

// other is the index of the other store.
func other(at int) int { return 1 - at }

// fail gives err the client's context, unless a store's client has done so.
func (c *core) fail(op, key string, err error) error {
	var known *kv.Error
	if err == nil || errors.As(err, &known) && !errors.As(err, new(*recordError)) {
		return err
	}
	return &kv.Error{Op: op, Backend: "multi", Key: key, Err: err}
}
