package kv_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// leasing is a store whose leases behave as a test says.
type leasing struct {
	*hooked
	least   time.Duration
	grants  int
	renews  []time.Time
	revokes int
	grant   func() error
	renew   func(ctx context.Context) error
	revoke  func(ctx context.Context) error
}

const leaseTTL = time.Minute

func (s *leasing) MinLease() time.Duration { return s.least }

func (s *leasing) Grant(_ context.Context, ttl time.Duration) (driver.Grant, error) {
	s.grants++
	return driver.Grant{ID: "lease", TTL: max(ttl, s.least), Bound: 2 * ttl}, s.grant()
}

func (s *leasing) Renew(ctx context.Context, _ driver.LeaseID) error {
	s.renews = append(s.renews, time.Now())
	return s.renew(ctx)
}

func (s *leasing) Revoke(ctx context.Context, _ driver.LeaseID) error {
	s.revokes++
	return s.revoke(ctx)
}

// leased runs a test, in virtual time, with a lease that was just granted.
// renew is how the lease is renewed; nil: without trouble.
func leased(t *testing.T, renew func(ctx context.Context, s *leasing) error, f func(t *testing.T, s *leasing, client kv.Client, lease *kv.Lease)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, kv.Options{})
		fine := func(context.Context) error { return nil }
		s := &leasing{hooked: r.store, least: time.Second, grant: func() error { return nil }, renew: fine, revoke: fine}
		if renew != nil {
			s.renew = func(ctx context.Context) error { return renew(ctx, s) }
		}
		client := kv.New(s, stringCodec, &kv.Options{MinBackoff: time.Millisecond, MaxBackoff: time.Second, AttemptTimeout: 2 * time.Second})
		leased, err := kv.Leased(client)
		if err != nil {
			t.Fatal(err)
		}
		lease, err := leased.Grant(t.Context(), leaseTTL)
		if err != nil {
			t.Fatal(err)
		}
		f(t, s, client, lease)
		if err := errors.Join(lease.Close(), client.Close()); err != nil {
			t.Error(err)
		}
	})
}

// over tells whether a lease's owner was told that it is over.
func over(lease *kv.Lease) bool {
	select {
	case <-lease.Done():
		return true
	default:
		return false
	}
}

func TestLeaseIsRenewedByThirds(t *testing.T) {
	leased(t, nil, func(t *testing.T, s *leasing, _ kv.Client, lease *kv.Lease) {
		began := time.Now()
		time.Sleep(3 * leaseTTL)
		synctest.Wait()
		if len(s.renews) != 9 || over(lease) || lease.Err() != nil {
			t.Fatalf("%d renewals in 3 TTLs; %v", len(s.renews), lease.Err())
		}
		for i, at := range s.renews {
			if want := began.Add(time.Duration(i+1) * leaseTTL / 3); !at.Equal(want) {
				t.Errorf("renewal %d after %v", i, at.Sub(began))
			}
		}
		if lease.TTL() != leaseTTL || lease.Bound() != 2*leaseTTL || lease.MinTTL() != time.Second {
			t.Errorf("%v, %v, %v", lease.TTL(), lease.Bound(), lease.MinTTL())
		}
	})
}

// The owner is told a tenth of the TTL before the keys may vanish (E4), counted
// from when the last renewal that succeeded began; until then it is tried again.
func TestLeaseThatCannotBeRenewedIsLost(t *testing.T) {
	for name, hang := range map[string]time.Duration{"it fails": 0, "it hangs": time.Hour} {
		t.Run(name, func(t *testing.T) {
			var lastGood time.Time
			leased(t, func(ctx context.Context, s *leasing) error {
				if len(s.renews) == 1 {
					lastGood = time.Now()
					time.Sleep(time.Second) // on its way
					return nil
				}
				select {
				case <-time.After(hang):
				case <-ctx.Done():
				}
				return errLost
			}, func(t *testing.T, s *leasing, _ kv.Client, lease *kv.Lease) {
				<-lease.Done()
				if valid := time.Since(lastGood); valid != leaseTTL-leaseTTL/10 {
					t.Errorf("lost %v after the last renewal", valid)
				}
				if !errors.Is(lease.Err(), kv.ErrLeaseLost) {
					t.Error(lease.Err())
				}
				if len(s.renews) < 8 {
					t.Errorf("it was tried %d times", len(s.renews))
				}
				for i, at := range s.renews[2:] {
					if since := at.Sub(s.renews[i+1]); since < leaseTTL/20 || since > leaseTTL/20+2*time.Second {
						t.Errorf("renewal %d came %v after one that failed", i+2, since)
					}
				}
			})
		})
	}
}

func TestLeaseThatIsGone(t *testing.T) {
	renew := func(context.Context, *leasing) error { return driver.ErrLeaseLost }
	leased(t, renew, func(t *testing.T, s *leasing, _ kv.Client, lease *kv.Lease) {
		time.Sleep(leaseTTL / 3)
		synctest.Wait()
		if !over(lease) || !errors.Is(lease.Err(), kv.ErrLeaseLost) || len(s.renews) != 1 {
			t.Errorf("%v after %d renewals", lease.Err(), len(s.renews))
		}
		swaps := s.swaps.Load()
		if err := lease.CAS(t.Context(), "k", set("v")); !errors.Is(err, kv.ErrLeaseLost) || s.swaps.Load() != swaps {
			t.Errorf("CAS = %v after %d swaps", err, s.swaps.Load()-swaps)
		}
		if err := lease.Close(); err != nil || s.revokes != 1 { // keys may be left of it
			t.Errorf("Close = %v after %d revocations", err, s.revokes)
		}
	})
}

// A write tells that the lease is over as soon as a renewal does, and carries its id.
func TestWritesUnderALease(t *testing.T) {
	leased(t, nil, func(t *testing.T, s *leasing, client kv.Client, lease *kv.Lease) {
		var ids []driver.LeaseID
		lost := false
		s.onSwap = func(_ context.Context, sw driver.Swap, _ func() (driver.Result, error)) (driver.Result, error) {
			ids = append(ids, sw.Lease)
			if lost {
				return driver.Result{Outcome: driver.NotApplied}, driver.ErrLeaseLost
			}
			return driver.Result{Outcome: driver.Applied}, nil
		}
		if err := lease.CAS(t.Context(), "k", set("v")); err != nil {
			t.Error(err)
		}
		if err := client.CAS(t.Context(), "k", set("v")); err != nil {
			t.Error(err)
		}
		if len(ids) != 2 || ids[0] != "lease" || ids[1] != "" || over(lease) {
			t.Errorf("swaps under %q; %v", ids, lease.Err())
		}
		lost = true
		if err := lease.CAS(t.Context(), "k", set("v")); !errors.Is(err, kv.ErrLeaseLost) || !over(lease) {
			t.Errorf("CAS = %v, and the lease %v", err, lease.Err())
		}
	})
}

// Close waits for 3 s at most, revokes once, and says what it could not do.
func TestLeaseIsClosed(t *testing.T) {
	leased(t, nil, func(t *testing.T, s *leasing, _ kv.Client, lease *kv.Lease) {
		s.revoke = func(ctx context.Context) error { <-ctx.Done(); return errLost }
		began := time.Now()
		err := lease.Close()
		if took := time.Since(began); err == nil || took != 3*time.Second {
			t.Errorf("Close = %v after %v", err, took)
		}
		if !over(lease) || !errors.Is(lease.Err(), kv.ErrClosed) || errors.Is(lease.Err(), kv.ErrLeaseLost) {
			t.Errorf("the lease is %v", lease.Err())
		}
		revokes := s.revokes
		if err := lease.Close(); err != nil || s.revokes != revokes {
			t.Errorf("Close again = %v after %d more revocations", err, s.revokes-revokes)
		}
		if err := lease.CAS(t.Context(), "k", set("v")); !errors.Is(err, kv.ErrClosed) {
			t.Errorf("CAS = %v", err)
		}
	})
}

func TestLeaseOfAClosedClient(t *testing.T) {
	leased(t, nil, func(t *testing.T, _ *leasing, client kv.Client, lease *kv.Lease) {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
		if <-lease.Done(); !errors.Is(lease.Err(), kv.ErrClosed) {
			t.Errorf("the lease is %v", lease.Err())
		}
		l, err := kv.Leased(client)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Grant(t.Context(), leaseTTL); !errors.Is(err, kv.ErrClosed) {
			t.Errorf("Grant = %v", err)
		}
	})
}

func TestLeasesAreRefused(t *testing.T) {
	leased(t, nil, func(t *testing.T, s *leasing, client kv.Client, _ *kv.Lease) {
		l, err := kv.Leased(client)
		if err != nil {
			t.Fatal(err)
		}
		for _, ttl := range []time.Duration{0, -1} {
			if _, err := l.Grant(t.Context(), ttl); err == nil || s.grants != 1 {
				t.Errorf("a lease of %v: %v", ttl, err)
			}
		}
		if _, err := l.Grant(t.Context(), 1); err != nil { // gets more
			t.Error(err)
		}
		if lease, err := l.Grant(t.Context(), math.MaxInt64); err != nil || lease.TTL() < 24*time.Hour || lease.TTL() > 101*365*24*time.Hour {
			t.Errorf("a lease for ever: %v, %v", lease, err)
		}
		s.grant = func() error { return driver.ErrPermission }
		if _, err := l.Grant(t.Context(), leaseTTL); !errors.Is(err, kv.ErrPermission) {
			t.Errorf("Grant = %v", err)
		}
		s.least = 0 // it has none after all
		for name, c := range map[string]kv.Client{"no leases": client, "no such store": plain{client}} {
			if _, err := kv.Leased(c); !errors.Is(err, kv.ErrNotSupported) {
				t.Errorf("%s: Leased = %v", name, err)
			}
		}
	})
}
