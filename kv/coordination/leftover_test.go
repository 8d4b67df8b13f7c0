package coordination_test

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/coordination"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
)

func wantKeys(t *testing.T, c kv.Client, prefix string, want int) {
	t.Helper()
	if keys, err := c.List(t.Context(), prefix); err != nil || len(keys) != want {
		t.Errorf("below %q are %q, %v; want %d", prefix, keys, err, want)
	}
}

// The beats of processes that were killed when they neither waited nor held don't
// pile up: a holder removes them.
func TestBeatsOfTheDeadAreRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := inmemory.NewStore()
		c := open(t, s.Open())
		held := lock(t, newLock(t, c, nil))
		for range 5 {
			dying, line := hung(t, s)
			if _, err := newLock(t, dying, nil).TryLock(t.Context()); !errors.Is(err, coordination.ErrHeld) {
				t.Fatal(err)
			}
			line.Cut() // and never mended
		}
		wantKeys(t, c, "locks/job/beats/", 6)
		time.Sleep(10 * ttl)
		wantKeys(t, c, "locks/job/beats/", 1)
		unlock(t, held)
	})
}

// Locks and presences may lie below one another, whatever their names are: nobody
// takes the keys of another one for its own.
func TestNamesBelowOthers(t *testing.T) {
	bothWays(t, func(t *testing.T, way func(kv.Client) kv.Client) {
		s := inmemory.NewStore()
		c := way(open(t, s.Open()))
		opts := coordination.Options{TTL: ttl, Logger: quiet}
		outer := newPresence(t, c, nil)
		join(t, outer, "a", "")
		var helds []*coordination.Held
		for _, name := range []string{"ring", "ring/members", "ring/beats", "ring/queue", "ring/members/a"} {
			l, err := coordination.NewLock(c, name, opts)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			helds = append(helds, lock(t, l))
			p, err := coordination.NewPresence(c, name, opts)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = p.Close() }()
			if name != "ring" {
				join(t, p, "b", "")
				wantMembers(t, p, "b=")
			}
		}
		time.Sleep(10 * ttl)
		wantMembers(t, outer, "a=")
		for _, held := range helds {
			if err := held.Err(); err != nil {
				t.Errorf("%s: %v", held.Guard().Key, err)
			}
			unlock(t, held)
		}
	})
}

// denied is a store that takes leases away, and then grants no more.
type denied struct {
	driver.Store
	driver.Leaser
	now atomic.Bool
}

func (d *denied) Grant(ctx context.Context, ttl time.Duration) (driver.Grant, error) {
	if d.now.Load() {
		return driver.Grant{}, driver.ErrPermission
	}
	return d.Leaser.Grant(ctx, ttl)
}

func (d *denied) Renew(ctx context.Context, id driver.LeaseID) error {
	if d.now.Load() {
		return driver.ErrPermission
	}
	return d.Leaser.Renew(ctx, id)
}

// A member whose user loses the right to leases goes on with beats.
func TestMemberThatMayHaveNoMoreLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := inmemory.NewStore()
		h := s.Open()
		d := &denied{Store: h, Leaser: h.(driver.Leaser)}
		observer := newPresence(t, open(t, s.Open()), nil)
		p := newPresence(t, open(t, d), nil)
		me := join(t, p, "me", "first")
		wantMembers(t, observer, "me=first")
		d.now.Store(true)
		time.Sleep(5 * ttl)
		wantMembers(t, observer, "me=first")
		if err := me.Update(t.Context(), "second"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		wantMembers(t, observer, "me=second")
		if err := me.Leave(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		wantMembers(t, observer, "")
	})
}

// A program that is there many times, and whose store is away, ends soon.
func TestCloseOfManyMembersWithoutTheStore(t *testing.T) {
	bothWays(t, func(t *testing.T, way func(kv.Client) kv.Client) {
		c, line := hung(t, inmemory.NewStore())
		p := newPresence(t, way(c), nil)
		for i := range 30 {
			join(t, p, strconv.Itoa(i), "")
		}
		line.Hang()
		defer line.Mend()
		began := time.Now()
		if err := p.Close(); err != nil || time.Since(began) > 10*time.Second {
			t.Errorf("Close took %v: %v", time.Since(began), err)
		}
	})
}
