package conformance

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
)

// clientsOf is h with each client broken. start is called once per case and
// returns what breaks its clients, so that they may share something.
func clientsOf(h Harness, start func() func(b *broken, o kv.Options)) Harness {
	inner := h.New
	h.New = func(t T) Store {
		s := inner(t)
		breakIt := start()
		open, openLine := s.Open, s.OpenLine
		wrap := func(c kv.Client, o kv.Options) kv.Client {
			b := &broken{Forward: kv.Forward{Client: c}}
			breakIt(b, o)
			return b
		}
		s.Open = func(c codec.Codec, o kv.Options) (kv.Client, error) {
			client, err := open(c, o)
			if err != nil {
				return nil, err
			}
			return wrap(client, o), nil
		}
		s.OpenLine = func(c codec.Codec, o kv.Options) (kv.Client, Line, error) {
			client, line, err := openLine(c, o)
			if err != nil {
				return nil, nil, err
			}
			return wrap(client, o), line, nil
		}
		return s
	}
	return h
}

// client is the in-memory store with each client broken.
func client(breakIt func(b *broken, o kv.Options)) Harness {
	return clientsOf(memory(), func() func(*broken, kv.Options) { return breakIt })
}

// clients is client for those that share something, made by start.
func clients(start func() func(b *broken, o kv.Options)) Harness { return clientsOf(memory(), start) }

// settings is h with the options of each client changed.
func settings(h Harness, change func(*kv.Options)) Harness {
	inner := h.New
	h.New = func(t T) Store {
		s := inner(t)
		open, openLine := s.Open, s.OpenLine
		s.Open = func(c codec.Codec, o kv.Options) (kv.Client, error) {
			change(&o)
			return open(c, o)
		}
		s.OpenLine = func(c codec.Codec, o kv.Options) (kv.Client, Line, error) {
			change(&o)
			return openLine(c, o)
		}
		return s
	}
	return h
}

// codecs is the in-memory store with the codec of each client changed.
func codecs(change func(codec.Codec) codec.Codec) Harness {
	h := memory()
	inner := h.New
	h.New = func(t T) Store {
		s := inner(t)
		open, openLine := s.Open, s.OpenLine
		s.Open = func(c codec.Codec, o kv.Options) (kv.Client, error) { return open(change(c), o) }
		s.OpenLine = func(c codec.Codec, o kv.Options) (kv.Client, Line, error) { return openLine(change(c), o) }
		return s
	}
	return h
}

// brokenStore is a driver that does what its functions say, each of which gets
// the sound driver.
type brokenStore struct {
	driver.Store
	get   func(ctx context.Context, req driver.GetRequest) (driver.Entry, error)
	scan  func(ctx context.Context, req driver.ScanRequest) (driver.Page, error)
	swap  func(ctx context.Context, s driver.Swap) (driver.Result, error)
	watch func(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error

	limits func(driver.Limits) driver.Limits
	locate func(ctx context.Context, r driver.Range, from driver.Position) (driver.Position, error)
}

func (b *brokenStore) Limits() driver.Limits {
	if b.limits != nil {
		return b.limits(b.Store.Limits())
	}
	return b.Store.Limits()
}

func (b *brokenStore) Locate(ctx context.Context, r driver.Range, from driver.Position) (driver.Position, error) {
	if b.locate != nil {
		return b.locate(ctx, r, from)
	}
	if l, ok := b.Store.(driver.Locator); ok {
		return l.Locate(ctx, r, from)
	}
	return nil, driver.ErrNotSupported
}

func (b *brokenStore) Get(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
	if b.get != nil {
		return b.get(ctx, req)
	}
	return b.Store.Get(ctx, req)
}

func (b *brokenStore) Scan(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
	if b.scan != nil {
		req.Bare = false // what they change is entries
		return b.scan(ctx, req)
	}
	return b.Store.Scan(ctx, req)
}

func (b *brokenStore) Swap(ctx context.Context, s driver.Swap) (driver.Result, error) {
	if b.swap != nil {
		return b.swap(ctx, s)
	}
	return b.Store.Swap(ctx, s)
}

func (b *brokenStore) Watch(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
	if b.watch != nil {
		return b.watch(ctx, req, emit)
	}
	return b.Store.Watch(ctx, req, emit)
}

// stores is a harness of in-memory stores whose drivers are broken above their
// lines. start is called once per case, breakIt once per handle.
func stores(start func() func(b *brokenStore)) Harness {
	return wrapping(func() (open func() driver.Store, wrap func(driver.Store) driver.Store) {
		breakIt := start()
		return inmemory.NewStore().Open, func(s driver.Store) driver.Store {
			b := &brokenStore{Store: s}
			breakIt(b)
			return b
		}
	})
}

// wrapping is a harness of stores with each handle wrapped, above its line.
// start is called once per case.
func wrapping(start func() (open func() driver.Store, wrap func(driver.Store) driver.Store)) Harness {
	return Harness{New: func(T) Store {
		open, wrap := start()
		return Store{
			Open: func(c codec.Codec, o kv.Options) (kv.Client, error) {
				return kv.New(wrap(open()), c, &o), nil
			},
			OpenLine: func(c codec.Codec, o kv.Options) (kv.Client, Line, error) {
				line := Breakable(open())
				return kv.New(wrap(line), c, &o), line, nil
			},
			OpenDriver: func() (driver.Store, error) { return wrap(open()), nil },
			Plant: func(ctx context.Context, key string, value []byte) error {
				return plant(ctx, func() (driver.Store, error) { return open(), nil }, key, value)
			},
		}
	}}
}

// store is stores for drivers that share nothing.
func store(breakIt func(b *brokenStore)) Harness {
	return stores(func() func(*brokenStore) { return breakIt })
}

// loop is a CAS of its own for broken clients, over single swaps, and right as
// long as nothing is changed in it: TestLoopIsSound runs the suite over it.
type loop struct {
	kv.Forward
	o kv.Options

	// What mutants change.
	read     func(ctx context.Context, key string, attempt int) (any, kv.Version, error)
	write    func(ctx context.Context, key string, prev kv.Version, in, out any) error
	pause    func(ctx context.Context, attempt int) error
	failed   func(err error) error
	declined func(ctx context.Context, key string, in any, version kv.Version) (counts bool, err error)

	conflicts int // after so many it gives up; 0: never
}

func newLoop(c kv.Forward, o kv.Options) *loop {
	l := &loop{Forward: c, o: o}
	if l.o.MaxAttempts == 0 {
		l.o.MaxAttempts = 10
	}
	if l.o.ContentionTimeout == 0 {
		l.o.ContentionTimeout = 30 * time.Second
	}
	l.read = func(ctx context.Context, key string, _ int) (any, kv.Version, error) {
		return l.GetVersion(ctx, key)
	}
	l.write = func(ctx context.Context, key string, prev kv.Version, in, out any) error {
		if out == kv.Remove && prev == 0 {
			return nil
		}
		_, err := l.SwapVersion(ctx, key, prev, out)
		return err
	}
	l.pause = func(ctx context.Context, attempt int) error {
		timer := time.NewTimer(max(l.o.MinBackoff, time.Millisecond))
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	l.failed = func(err error) error { return err }
	l.declined = func(context.Context, string, any, kv.Version) (bool, error) { return true, nil }
	return l
}

// fail is the error of a call on key.
func (l *loop) fail(key string, err error) error {
	return &kv.Error{Op: "CAS", Backend: "loop", Key: key, Err: err}
}

func (l *loop) CAS(ctx context.Context, key string, f casFunc) error {
	refusals, conflicts := 0, 0
	var contended time.Time
	for attempt := 1; ; attempt++ {
		in, version, err := l.read(ctx, key, attempt)
		if err != nil {
			return err
		}
		out, retry, err := f(in)
		switch {
		case err != nil && retry:
			refusals++
			if refusals >= l.o.MaxAttempts {
				return l.fail(key, l.failed(err))
			}
			if err := l.pause(ctx, attempt); err != nil {
				return l.fail(key, err)
			}
			continue
		case err != nil, out == nil:
			counts, e := l.declined(ctx, key, in, version)
			switch {
			case e != nil:
				return l.fail(key, e)
			case !counts:
				continue
			case err != nil:
				return l.fail(key, l.failed(err))
			}
			return nil
		case ctx.Err() != nil:
			return l.fail(key, ctx.Err())
		}
		runtime.Gosched() // for others to get in between
		err = l.write(ctx, key, version, in, out)
		if !errors.Is(err, kv.ErrConflict) {
			return err
		}
		if conflicts++; contended.IsZero() {
			contended = time.Now()
		}
		if conflicts == l.conflicts || time.Since(contended) > l.o.ContentionTimeout {
			return l.fail(key, err)
		}
	}
}

// looping is the in-memory store with each client's CAS done by a loop, which
// breakIt changes.
func looping(breakIt func(l *loop)) Harness {
	return client(func(b *broken, o kv.Options) {
		l := newLoop(b.Forward, o)
		breakIt(l)
		b.cas = l.CAS
	})
}

// cache is what a client has seen of keys, and believes.
type cache[V any] struct {
	mu sync.Mutex
	m  map[string]V
}

func (c *cache[V]) get(key string) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.m[key]
	return v, ok
}

func (c *cache[V]) put(key string, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = map[string]V{}
	}
	c.m[key] = v
}
