package driver

import (
	"context"
	"time"
)

// LeaseID names a lease in its store.
type LeaseID string

// Grant is a lease that was granted.
type Grant struct {
	ID LeaseID

	// TTL is for how long, at least, what is attached stays after the grant or
	// the last renewal. It is no shorter than what was asked for.
	TTL time.Duration

	// Bound is how long after that it is gone at the latest, as long as the
	// store works. Where servers elect a leader, each new one may begin anew.
	Bound time.Duration
}

// Leaser is an optional interface of a Store with leases: what is written by a
// Swap that names one vanishes with it. Rules E1 to E5 of package kv say what
// holds of them.
//
// A lease that is over is ErrLeaseLost, from Renew, and from Swap with the
// outcome NotApplied. Errors are those of Store, and the engine repeats.
type Leaser interface {
	// MinLease is the shortest TTL that Grant gives; 0: there are no leases
	// after all. It does no I/O.
	MinLease() time.Duration

	// Grant makes a lease. One whose answer is lost ends by itself.
	Grant(ctx context.Context, ttl time.Duration) (Grant, error)

	// Renew begins the lease's TTL anew.
	Renew(ctx context.Context, id LeaseID) error

	// Revoke ends a lease and removes what is attached. One that is over is no
	// error.
	Revoke(ctx context.Context, id LeaseID) error
}
