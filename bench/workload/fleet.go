package workload

import (
	"context"
	"time"
)

// Follower is a client that keeps a copy of a prefix.
type Follower interface {
	// Follow returns once the copy is complete. get reads from it, until ctx ends.
	Follow(ctx context.Context, prefix string) (get func(key string) any, err error)

	// Own returns what writes a key and then waits until a copy of it shows that.
	Own(ctx context.Context, key string) (write func(value string) error, err error)
}

// outage is how long a server is away.
const outage = 2 * time.Second

// crowded has Watchers watches of a prefix of Keys keys on one client, and all
// of them up.
func (e *env) crowded(ctx context.Context) (Client, *crowd, int64, error) {
	clients, err := e.filled(ctx, e.Keys)
	if err != nil {
		return nil, nil, 0, err
	}
	c, all, key := clients[0], newCrowd(e.Watchers), e.key(0)
	for range e.Watchers {
		take := all.member()
		e.background.Go(func() {
			c.WatchPrefix(ctx, e.Prefix+"/", func(k string, v any) bool { return k != key || take(v) })
		})
	}
	n, err := e.warmUp(ctx, c, key, 0, all.reached)
	return c, all, n, err
}

// restartWork: what Watchers watches of one prefix of Keys keys of ValueBytes, on
// one client, read after their server was away, until all have shown a change
// that was made then.
func restartWork(ctx context.Context, e *env) (Sampler, error) {
	c, all, n, err := e.crowded(ctx)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (Sample, error) {
		return measure(func() (Sample, error) {
			before := e.line.received.Load()
			e.line.interrupt(outage)
			start := time.Now()
			var err error
			if n, err = e.warmUp(ctx, c, e.key(0), n, all.reached); err != nil {
				return Sample{}, err
			}
			return Sample{Calls: 1, Values: map[string]float64{
				"bytes": float64(e.line.received.Load() - before), "total": time.Since(start).Seconds(),
			}}, nil
		})
	}, nil
}

// sessionsWork: how many watches an etcd server has of Watchers watches of one
// prefix of Keys keys, on one client. A second sample shows the same.
func sessionsWork(ctx context.Context, e *env) (Sampler, error) {
	const name = "etcd_debugging_mvcc_watcher_total"
	before, err := e.ofEtcd(ctx, name)
	if err != nil {
		return nil, err
	}
	if _, _, _, err := e.crowded(ctx); err != nil {
		return nil, err
	}
	after, err := e.ofEtcd(ctx, name) // now, before the next contestant's are there, too
	return func(context.Context) (Sample, error) {
		return Sample{Calls: 1, Seconds: 1, Values: map[string]float64{"sessions": after - before}}, nil
	}, err
}

// followedWork: Callers goroutines read Keys keys of a prefix that the client
// follows; who can't follow asks the server.
func followedWork(ctx context.Context, e *env) (Sampler, error) {
	clients, err := e.filled(ctx, e.Keys)
	if err != nil {
		return nil, err
	}
	read := func(ctx context.Context, _ int, key string) (any, error) { return clients[0].Get(ctx, key) }
	if f, ok := clients[0].(Follower); ok {
		get, err := f.Follow(ctx, e.Prefix+"/")
		if err != nil {
			return nil, err
		}
		read = func(_ context.Context, _ int, key string) (any, error) { return get(key), nil }
	}
	return e.reads(read), nil
}

// ownWork: one caller writes a key and waits until a copy of it in the same
// client, or a watch, shows what it wrote.
func ownWork(ctx context.Context, e *env) (Sampler, error) {
	clients, err := e.filled(ctx, 1)
	if err != nil {
		return nil, err
	}
	key := e.key(0)
	f, ok := clients[0].(Follower)
	if !ok {
		w := newWatcher()
		e.background.Go(func() { clients[0].WatchKey(ctx, key, w.take) })
		return e.deliveries(ctx, clients[0], key, func(n int64) bool { return w.seen.Load() >= n }, w.await)
	}
	write, err := f.Own(ctx, key)
	if err != nil {
		return nil, err
	}
	n := int64(0)
	return func(context.Context) (Sample, error) {
		return e.oneByOne(func() error {
			n++
			return write(e.value(n))
		})
	}, nil
}
