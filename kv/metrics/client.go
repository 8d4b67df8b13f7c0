package metrics

import (
	"context"
	"iter"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/polykv/polykv/kv"
)

// Wrap returns a client that measures c, its [kv.Raw] and [kv.WithCodec] views
// included, under the name backend. It offers every optional interface that c
// offers and closes c.
func (m *Metrics) Wrap(c kv.Client, backend string) kv.Client {
	return m.operations(backend).wrap(c)
}

func (o *operations) wrap(c kv.Client) kv.Client {
	return &client{Views: kv.Views{Forward: kv.Forward{Client: c}, Wrap: o.wrap}, ops: o}
}

type client struct {
	kv.Views
	ops *operations
}

// operations are what a client and its views share.
type operations struct {
	list, get, del, cas, entries, ping operation
	getGuarded, casGuarded, delGuarded operation
	getVersion, swapVersion            operation
	watch, watchKey, watchPrefix       prometheus.Gauge
	watchErrors                        *prometheus.CounterVec
}

func (m *Metrics) operations(backend string) *operations {
	o := &operations{
		watch:       m.watchesRunning.WithLabelValues(backend, "watch"),
		watchKey:    m.watchesRunning.WithLabelValues(backend, "watch_key"),
		watchPrefix: m.watchesRunning.WithLabelValues(backend, "watch_prefix"),
		watchErrors: m.operationErrors.MustCurryWith(prometheus.Labels{"backend": backend, "operation": "watch"}),
	}
	for name, op := range map[string]*operation{
		"list": &o.list, "get": &o.get, "delete": &o.del, "cas": &o.cas, "entries": &o.entries, "ping": &o.ping,
		"get_guarded": &o.getGuarded, "cas_guarded": &o.casGuarded, "delete_guarded": &o.delGuarded,
		"get_version": &o.getVersion, "swap_version": &o.swapVersion,
	} {
		op.durations = m.operationDuration.MustCurryWith(prometheus.Labels{"backend": backend})
		op.errors = m.operationErrors.MustCurryWith(prometheus.Labels{"backend": backend, "operation": name})
		op.name = name
	}
	return o
}

// operation measures one method.
type operation struct {
	name      string
	durations prometheus.ObserverVec
	errors    *prometheus.CounterVec

	// duration is that of durations for name, looked up by the first call and
	// not before: a method that nobody calls exports nothing.
	duration atomic.Pointer[prometheus.Observer]
}

// done is to be deferred, so that it counts also a call whose callback
// panicked.
func (o *operation) done(start time.Time, err *error) {
	o.took(time.Since(start))
	if *err != nil {
		o.failed(*err)
	}
}

func (o *operation) took(d time.Duration) {
	duration := o.duration.Load()
	if duration == nil {
		found := o.durations.WithLabelValues(o.name)
		duration = &found
		o.duration.Store(duration)
		// A single one of these matters, and an increase is seen only of a counter that was there before.
		o.errors.WithLabelValues("indeterminate")
	}
	(*duration).Observe(d.Seconds())
}

func (o *operation) failed(err error) { o.errors.WithLabelValues(kv.Reason(err)).Inc() }

func (c *client) List(ctx context.Context, prefix string) (_ []string, err error) {
	defer c.ops.list.done(time.Now(), &err)
	return c.Forward.List(ctx, prefix)
}

func (c *client) Get(ctx context.Context, key string) (_ any, err error) {
	defer c.ops.get.done(time.Now(), &err)
	return c.Forward.Get(ctx, key)
}

func (c *client) Delete(ctx context.Context, key string) (err error) {
	defer c.ops.del.done(time.Now(), &err)
	return c.Forward.Delete(ctx, key)
}

func (c *client) CAS(ctx context.Context, key string, f func(in any) (out any, retry bool, err error)) (err error) {
	defer c.ops.cas.done(time.Now(), &err)
	return c.Forward.CAS(ctx, key, f)
}

func (c *client) WatchKey(ctx context.Context, key string, f func(any) bool) {
	c.ops.watchKey.Inc()
	defer c.ops.watchKey.Dec()
	c.Forward.WatchKey(ctx, key, f)
}

func (c *client) WatchPrefix(ctx context.Context, prefix string, f func(key string, value any) bool) {
	c.ops.watchPrefix.Inc()
	defer c.ops.watchPrefix.Dec()
	c.Forward.WatchPrefix(ctx, prefix, f)
}

func (c *client) Watch(ctx context.Context, r kv.Range, f func(kv.Event) bool) error {
	c.ops.watch.Inc()
	defer c.ops.watch.Dec()
	err := c.Forward.Watch(ctx, r, f)
	if err == nil {
		return nil
	}
	// The end of its ctx is how a watch is meant to end.
	if why := kv.Reason(err); why != "canceled" && why != "deadline" {
		c.ops.watchErrors.WithLabelValues(why).Inc()
	}
	return err
}

// Entries leaves out the time that the loop's body takes.
func (c *client) Entries(ctx context.Context, prefix string) iter.Seq2[kv.Entry, error] {
	entries := c.Forward.Entries(ctx, prefix)
	return func(yield func(kv.Entry, error) bool) {
		var inBody time.Duration
		start := time.Now()
		defer func() { c.ops.entries.took(time.Since(start) - inBody) }()
		for entry, err := range entries {
			if err != nil {
				c.ops.entries.failed(err)
			}
			entered := time.Now()
			more := yield(entry, err)
			inBody += time.Since(entered)
			if !more {
				return
			}
		}
	}
}

func (c *client) Ping(ctx context.Context) (err error) {
	defer c.ops.ping.done(time.Now(), &err)
	return c.Forward.Ping(ctx)
}

func (c *client) GetGuarded(ctx context.Context, key string, guards ...kv.Guard) (_ any, err error) {
	defer c.ops.getGuarded.done(time.Now(), &err)
	return c.Forward.GetGuarded(ctx, key, guards...)
}

func (c *client) CASGuarded(ctx context.Context, key string, f func(any) (any, bool, error), guards ...kv.Guard) (err error) {
	defer c.ops.casGuarded.done(time.Now(), &err)
	return c.Forward.CASGuarded(ctx, key, f, guards...)
}

func (c *client) DeleteGuarded(ctx context.Context, key string, guards ...kv.Guard) (err error) {
	defer c.ops.delGuarded.done(time.Now(), &err)
	return c.Forward.DeleteGuarded(ctx, key, guards...)
}

func (c *client) GetVersion(ctx context.Context, key string, guards ...kv.Guard) (_ any, _ kv.Version, err error) {
	defer c.ops.getVersion.done(time.Now(), &err)
	return c.Forward.GetVersion(ctx, key, guards...)
}

func (c *client) SwapVersion(ctx context.Context, key string, prev kv.Version, value any, guards ...kv.Guard) (_ kv.Version, err error) {
	defer c.ops.swapVersion.done(time.Now(), &err)
	return c.Forward.SwapVersion(ctx, key, prev, value, guards...)
}
