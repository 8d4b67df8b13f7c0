package coordination_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/coordination"
	"github.com/polykv/polykv/kv/inmemory"
)

func TestElection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := inmemory.NewStore()
		candidate := func(c kv.Client) *coordination.Election {
			e, err := coordination.NewElection(c, "leader", coordination.Options{TTL: ttl, Logger: quiet})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = e.Close() })
			return e
		}
		c, line := hung(t, s)
		a, b, watcher := candidate(c), candidate(open(t, s.Open())), candidate(open(t, s.Open()))
		var seen []string
		watching, stop := context.WithCancel(t.Context())
		watched := make(chan error)
		go func() {
			var last error
			for leader, err := range watcher.Observe(watching) {
				if last = err; err == nil {
					seen = append(seen, leader.Value)
				}
			}
			watched <- last
		}()
		synctest.Wait() // it has been told that nobody leads
		if _, exists, err := watcher.Leader(t.Context()); exists || err != nil {
			t.Errorf("before anybody leads: %v, %v", exists, err)
		}
		first, err := a.Campaign(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		work, cancel := first.Context(t.Context())
		defer cancel()
		won := make(chan *coordination.Held)
		go func() {
			held, err := b.Campaign(t.Context(), "b")
			if err != nil {
				t.Error(err)
			}
			won <- held
		}()
		time.Sleep(2 * ttl)
		if leader, exists, err := watcher.Leader(t.Context()); !exists || err != nil || leader.Value != "a" || leader.ID != first.ID() {
			t.Errorf("the leader is %+v, %v, %v", leader, exists, err)
		}
		line.Hang() // the leader is stopped
		second := <-won
		if work.Err() == nil || !errors.Is(context.Cause(work), coordination.ErrLost) {
			t.Errorf("the former leader's ctx ended with %v", context.Cause(work))
		}
		synctest.Wait()
		line.Mend()
		if err := act(t, first); !errors.Is(err, kv.ErrFenced) {
			t.Errorf("a late act of the former leader: %v", err)
		}
		if err := act(t, second); err != nil {
			t.Error(err)
		}
		unlock(t, second)
		synctest.Wait()
		stop()
		if err := <-watched; !errors.Is(err, context.Canceled) {
			t.Errorf("Observe ended with %v", err)
		}
		if !slices.Equal(seen, []string{"", "a", "b", ""}) {
			t.Errorf("Observe told of %q", seen)
		}
	})
}
