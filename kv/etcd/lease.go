package etcd

import (
	"context"
	"errors"
	"strconv"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/polykv/polykv/kv/driver"
)

var _ driver.Leaser = (*store)(nil)

// minLease is the least that a server with the default timing of elections
// grants (server/lease/lessor.go, minLeaseTTL); to a smaller one it gives its own
// minimum.
const minLease = 2 * time.Second

// leaseLag is how long a server takes to end a lease whose time is up: it looks
// every half second, and ends at most 1,000 a second (lessor.go).
const leaseLag = 2 * time.Second

// MinLease implements driver.Leaser.
func (s *store) MinLease() time.Duration { return minLease }

// Grant implements driver.Leaser. Etcd counts in seconds. A new leader gives
// every lease its whole TTL again.
func (s *store) Grant(ctx context.Context, ttl time.Duration) (driver.Grant, error) {
	seconds := int64((max(ttl, minLease) + time.Second - 1) / time.Second)
	resp, err := call(ctx, s.logins, false, func(ctx context.Context) (*pb.LeaseGrantResponse, error) {
		return s.leases.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: seconds}, s.opts...)
	})
	if err == nil && resp.Error != "" {
		err = driver.Permanent(errors.New(resp.Error))
	}
	if err != nil {
		return driver.Grant{}, s.wrapLease(ctx, err)
	}
	granted := time.Duration(resp.TTL) * time.Second
	return driver.Grant{ID: leaseID(resp.ID), TTL: granted, Bound: granted + leaseLag}, nil
}

// Renew implements driver.Leaser.
func (s *store) Renew(ctx context.Context, id driver.LeaseID) error {
	resp, err := call(ctx, s.logins, false, func(ctx context.Context) (*pb.LeaseKeepAliveResponse, error) {
		return s.keepAlives.renew(ctx, leaseOf(id))
	})
	if err == nil && resp.TTL <= 0 {
		return driver.ErrLeaseLost
	}
	return s.wrapLease(ctx, err)
}

// Revoke implements driver.Leaser.
func (s *store) Revoke(ctx context.Context, id driver.LeaseID) error {
	_, err := call(ctx, s.logins, false, func(ctx context.Context) (*pb.LeaseRevokeResponse, error) {
		return s.leases.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: leaseOf(id)}, s.opts...)
	})
	if isLeaseLost(err) {
		return nil
	}
	return s.wrapLease(ctx, err)
}

// wrapLease is wrap for requests that name a lease.
func (s *store) wrapLease(ctx context.Context, err error) error {
	if isLeaseLost(err) {
		return driver.ErrLeaseLost
	}
	return s.wrap(ctx, err)
}

// isLeaseLost recognises the answer to a request that names a lease that is over.
// The applier checks the leases of a transaction before it runs any of it
// (server/etcdserver/txn, checkPut), so nothing was written.
func isLeaseLost(err error) bool {
	return err != nil && errors.Is(rpctypes.Error(err), rpctypes.ErrLeaseNotFound)
}

func leaseID(id int64) driver.LeaseID { return driver.LeaseID(strconv.FormatInt(id, 16)) }

// leaseOf returns the number of a lease, 0 for none; that of another store has
// one that no lease has.
func leaseOf(id driver.LeaseID) int64 {
	if id == "" {
		return 0
	}
	n, err := strconv.ParseInt(string(id), 16, 64)
	if err != nil {
		return -1
	}
	return n
}
