package contestant

import (
	"context"
	"fmt"
	"sync"

	"github.com/polykv/polykv/bench/workload"
)

// Raw opens a store through its vendor's client.
func Raw(t workload.Target) (workload.Store, error) {
	of := map[string]func(workload.Target) (rawClient, error){
		"etcd": openRawEtcd, "consul": openRawConsul, "bolt": openRawBolt, "nats": openRawNATS, "postgres": openRawPostgres,
	}[t.Backend]
	if of == nil {
		return nil, fmt.Errorf("there is no raw client of backend %q", t.Backend)
	}
	open := func() (rawClient, error) { return of(t) }
	if t.Backend == "bolt" { // a file that is open can't be opened again
		open = sync.OnceValues(open)
	}
	return &rawStore{open: open}, nil
}

// rawClient is a vendor's client, with one request for each operation.
type rawClient interface {
	read(ctx context.Context, key string) (state, error)
	// swap writes if the key is at a version, 0 if it is absent. If it isn't, what
	// it is at comes along, or is read.
	swap(ctx context.Context, key, value string, version uint64) (now state, ok bool, err error)
	List(ctx context.Context, prefix string) ([]string, error)
	// watch tells of writes of a key, or of all that begin with it, until f is false.
	watch(ctx context.Context, key string, prefix bool, f func(key string, value any) bool)
	Close() error
}

// state is what there is of a key.
type state struct {
	value   any // nil: absent
	version uint64
}

type rawStore struct {
	open    func() (rawClient, error)
	clients []rawClient
}

// Client implements workload.Store.
func (s *rawStore) Client() (workload.Client, error) {
	c, err := s.open()
	if err != nil {
		return nil, err
	}
	s.clients = append(s.clients, c)
	return &raw{rawClient: c}, nil
}

// Close implements workload.Store.
func (s *rawStore) Close() error {
	return closeAll(s.clients)
}

// raw implements workload.Client. It knows what it last saw of each key, so that
// its CAS is a single request, as polykv's is.
type raw struct {
	rawClient
	known sync.Map // of state, by key
}

// Get implements workload.Client.
func (c *raw) Get(ctx context.Context, key string) (any, error) {
	s, err := c.read(ctx, key)
	return s.value, err
}

// CAS implements workload.Client.
func (c *raw) CAS(ctx context.Context, key string, f func(any) (any, bool, error)) (err error) {
	var old state
	if seen, ok := c.known.Load(key); ok {
		old = seen.(state)
	} else if old, err = c.read(ctx, key); err != nil {
		return err
	}
	for done := false; !done; c.known.Store(key, old) {
		out, _, err := f(old.value)
		if err != nil || out == nil {
			return err
		}
		if old, done, err = c.swap(ctx, key, out.(string), old.version); err != nil {
			return err
		}
	}
	return nil
}

// WatchKey implements workload.Client.
func (c *raw) WatchKey(ctx context.Context, key string, f func(any) bool) {
	c.watch(ctx, key, false, func(_ string, value any) bool { return f(value) })
}

// WatchPrefix implements workload.Client.
func (c *raw) WatchPrefix(ctx context.Context, prefix string, f func(string, any) bool) {
	c.watch(ctx, prefix, true, f)
}
