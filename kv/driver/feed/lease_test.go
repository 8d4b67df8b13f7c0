package feed

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/kv/driver"
)

// A lease is due when its time is up, and again while it can't be removed; it has what
// was attached to it last, and can't be renewed once it is certain to be over.
func TestLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ls Leases
		var calls []time.Duration
		began := time.Now()
		ls.Begin("a", time.Minute, func() error {
			calls = append(calls, time.Since(began))
			if keys, over := ls.End("a", false); len(calls) < 3 || !over || !slices.Equal(keys, []string{"k", "l"}) {
				return errors.New("the disk is full")
			}
			ls.Remove("a")
			return nil
		})
		ls.Begin("b", time.Hour, func() error { return errors.New("never due") })
		for _, s := range []driver.Swap{
			{Key: "k", Lease: "b"},
			{Key: "l", Lease: "a"},
			{Key: "k", Lease: "a"},
			{Key: "m", Lease: "a"},
			{Key: "m"},
			{Key: "n", Lease: "a"},
			{Key: "n", Lease: "a", Remove: true},
		} {
			ls.Attach(&s)
		}
		time.Sleep(30 * time.Second)
		if err := ls.Renew("a"); err != nil {
			t.Error(err)
		}
		if _, over := ls.End("a", false); over {
			t.Error("a lease that was renewed is over")
		}
		time.Sleep(time.Minute + 2*time.Second)
		synctest.Wait()
		if want := []time.Duration{90 * time.Second, 91 * time.Second, 92 * time.Second}; !slices.Equal(calls, want) {
			t.Errorf("due at %v, want %v", calls, want)
		}
		if keys, over := ls.End("b", true); !over || len(keys) != 0 {
			t.Errorf("a lease that is revoked: %q, %v", keys, over)
		}
		if err := ls.Renew("b"); !errors.Is(err, driver.ErrLeaseLost) || ls.Live("b") {
			t.Errorf("renewed once revoked: %v", err)
		}
		ls.Stop()
		if len(ls.attached) != 0 || len(ls.open) != 1 {
			t.Errorf("left: %v, %v", ls.attached, ls.open)
		}
	})
}
