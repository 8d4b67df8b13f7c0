package kv

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/polykv/polykv/kv/driver"
)

// LeaseClient is the optional interface behind [Leased].
type LeaseClient interface {
	// Lessor returns what grants the leases of the client's store.
	Lessor() (*Lessor, error)
}

// Lessor is the store of a client as far as leases go.
type Lessor struct {
	engine *engine
	leaser driver.Leaser
}

// LeasedClient grants leases, see [Leased].
type LeasedClient struct {
	client Client
	*Lessor
}

// Leased returns a client that writes keys which vanish with their writer, or
// ErrNotSupported if c's store has no leases. etcd, Consul, PostgreSQL,
// memory and bolt have; NATS, gossip and a client over two stores have none. It contacts nobody.
//
// What is written by [Lease.CAS] is attached to the lease. These rules hold:
//
// E1. A key that is attached stays as long as the lease is kept alive, through
// changes of the leader and restarts of the server.
//
// E2. When the lease ends, the key is gone, and watches tell it as any other
// deletion: at once if the lease is closed, else no earlier than [Lease.TTL] after
// the last renewal, and no later than [Lease.Bound] as long as the store works.
//
// E3. A write without the lease detaches the key, which then stays. A write with
// another lease attaches it to that one.
//
// E4. The owner is told that a lease is lost, by [Lease.Done], before the store may
// drop its keys: by the owner's own clock, with a margin of a tenth of the TTL.
// An owner that is stopped at that moment is told when it goes on.
//
// E5. Nothing is attached to a lease that is over: the write fails with
// [ErrLeaseLost], and nothing is written.
//
// A lease doesn't outlive the cutover of a migration, as versions don't.
func Leased(c Client) (*LeasedClient, error) {
	l, ok := c.(LeaseClient)
	if !ok {
		return nil, notSupported("Leased", "")
	}
	if err := supports(c, Leases); err != nil {
		return nil, inOp("Leased", err)
	}
	lessor, err := l.Lessor()
	if err != nil {
		return nil, err
	}
	return &LeasedClient{c, lessor}, nil
}

var errNoLeases = fmt.Errorf("%w: the store has no leases", ErrNotSupported)

// leaser returns the store's leases, nil if it has none.
func (e *engine) leaser() driver.Leaser {
	if l, ok := e.store.(driver.Leaser); ok && l.MinLease() > 0 {
		return l
	}
	return nil
}

// Lessor implements LeaseClient.
func (c *client) Lessor() (*Lessor, error) {
	if l := c.engine.leaser(); l != nil {
		return &Lessor{c.engine, l}, nil
	}
	return nil, c.fail("Leased", "", errNoLeases)
}

// MinTTL is the shortest TTL that the store gives.
func (l *Lessor) MinTTL() time.Duration { return l.leaser.MinLease() }

// longestLease leaves room for what drivers add to it.
const longestLease = 100 * 365 * 24 * time.Hour

// Grant makes a lease that keeps itself alive until it is closed or lost. Its TTL
// is ttl or more, but 100 years at most, and a day on Consul, see [Lease.TTL]. Close the lease before the client: a lease
// whose client is closed ends, and what is attached to it vanishes after its time.
func (l *LeasedClient) Grant(ctx context.Context, ttl time.Duration) (*Lease, error) {
	fail := func(err error) (*Lease, error) {
		return nil, &Error{Op: "Grant", Backend: l.engine.opts.Backend, Err: err}
	}
	if ttl = min(ttl, longestLease); ttl <= 0 {
		return fail(fmt.Errorf("the TTL %v is not positive", ttl))
	}
	lease := &Lease{client: l.client, Lessor: l.Lessor, done: make(chan struct{}), ended: make(chan struct{})}
	err := l.engine.read(ctx, "grant", Range{}, func(ctx context.Context) (err error) {
		began := time.Now()
		lease.grant, err = l.leaser.Grant(ctx, ttl)
		lease.counts(began)
		return err
	})
	if err != nil {
		return fail(err)
	}
	if !l.engine.gate.enter() {
		return fail(ErrClosed)
	}
	lease.ctx, lease.cancel = context.WithCancel(l.engine.ctx)
	go func() {
		defer l.engine.gate.leave()
		defer close(lease.ended)
		defer lease.cancel()
		lease.keep()
	}()
	return lease, nil
}

// Lease is a lease that keeps itself alive. Its methods may be called
// concurrently.
type Lease struct {
	*Lessor
	client Client
	grant  driver.Grant
	done   chan struct{}
	ctx    context.Context // of keep
	cancel context.CancelFunc
	ended  chan struct{} // closed when keep has ended

	mu    sync.Mutex
	valid time.Time // until when the last renewal counts
	err   error     // why it is over; nil: it isn't
}

type leaseKey struct{}

// leaseIn returns the lease that writes under ctx are attached to. A ctx passes
// every wrapper, and only Lease makes such ones.
func leaseIn(ctx context.Context) driver.LeaseID {
	id, _ := ctx.Value(leaseKey{}).(driver.LeaseID)
	return id
}

// CAS is that of the client, and attaches what it writes to the lease. It fails
// with ErrLeaseLost, and nothing written, if the lease is over. A value has the
// limit of guarded ones (Limits.GuardedValue).
func (l *Lease) CAS(ctx context.Context, key string, f func(in any) (out any, retry bool, err error)) error {
	if err := l.Err(); err != nil {
		return &Error{Op: "CAS", Backend: l.engine.opts.Backend, Key: key, Err: err}
	}
	err := l.client.CAS(context.WithValue(ctx, leaseKey{}, l.grant.ID), key, f)
	if errors.Is(err, ErrLeaseLost) {
		l.end(ErrLeaseLost)
	}
	return err
}

// TTL is what the store gives: for so long after the last renewal, at least, what
// is attached stays.
func (l *Lease) TTL() time.Duration { return l.grant.TTL }

// Bound is how long after the last renewal what is attached is gone at the latest,
// as long as the store works; each change of its leader may add a TTL.
func (l *Lease) Bound() time.Duration { return l.grant.Bound }

// Done returns a channel that is closed when the lease is lost, or closed (E4).
func (l *Lease) Done() <-chan struct{} { return l.done }

// Err returns nil while the lease is kept alive, then an error that matches
// ErrLeaseLost, or ErrClosed after Close of the lease or the client.
func (l *Lease) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// revokeTimeout bounds what Close waits for the store.
const revokeTimeout = 3 * time.Second

// Close revokes the lease: what is attached to it is gone when Close returns nil.
// If the store can't be reached within 3 s it returns an error, and the keys vanish
// after their time. It is idempotent.
func (l *Lease) Close() error {
	if !l.end(ErrClosed) && !errors.Is(l.Err(), ErrLeaseLost) {
		return nil
	}
	l.cancel()
	<-l.ended
	ctx, cancel := context.WithTimeout(context.Background(), revokeTimeout)
	defer cancel()
	err := l.engine.read(ctx, "revoke", Range{}, func(ctx context.Context) error { return l.leaser.Revoke(ctx, l.grant.ID) })
	if err != nil {
		return &Error{Op: "Revoke", Backend: l.engine.opts.Backend, Err: err}
	}
	return nil
}

// end reports whether the lease was not over yet.
func (l *Lease) end(err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return false
	}
	l.err = err
	close(l.done)
	return true
}

// counts notes a renewal, or the grant, that began then.
func (l *Lease) counts(began time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.valid = began.Add(l.grant.TTL - l.grant.TTL/10)
}

// keep renews the lease until it is over.
func (l *Lease) keep() {
	for next := l.grant.TTL / 3; ; {
		l.mu.Lock()
		valid := l.valid
		l.mu.Unlock()
		timer := time.NewTimer(min(next, time.Until(valid)))
		select {
		case <-timer.C:
		case <-l.ctx.Done():
			timer.Stop()
			l.end(ErrClosed) // the client was, if not the lease
			return
		}
		began := time.Now()
		if !began.Before(valid) {
			l.end(fmt.Errorf("%w: it could not be renewed in time", ErrLeaseLost))
			return
		}
		limit := min(time.Until(valid), l.engine.opts.AttemptTimeout)
		err := l.engine.attempt(l.ctx, "renew", Range{}, limit, func(ctx context.Context) error { return l.leaser.Renew(ctx, l.grant.ID) })
		next = l.grant.TTL / 3
		switch {
		case err == nil:
			l.counts(began)
		case errors.Is(err, ErrLeaseLost):
			l.end(ErrLeaseLost)
			return
		default:
			next = l.grant.TTL / 20
		}
	}
}
