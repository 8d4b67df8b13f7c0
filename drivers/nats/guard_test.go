package nats

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver"
)

// Guards are judged with the write, before what else is wrong with it; writes with
// guards take turns, and others don't wait for them.
func TestGuardedWrites(t *testing.T) {
	n := start(t, nil)
	s := open(t, n.config())
	guard := drivertest.Put(t, s, "guard", "v")
	holds := []driver.Guard{{Key: "guard", Version: guard.Version}, {Key: "absent"}}
	broken := []driver.Guard{holds[0], {Key: "absent", Version: 1}}
	one := drivertest.Swap(t, s, driver.Swap{Key: "k", Value: []byte("1"), Guards: holds}, driver.Applied).Entry
	two := drivertest.Swap(t, s, driver.Swap{Key: "k", Prev: one, Value: []byte("2"), Guards: holds}, driver.Applied).Entry
	for name, test := range map[string]struct {
		swap driver.Swap
		want driver.Outcome
	}{
		"broken":                     {driver.Swap{Prev: two, Guards: broken}, driver.GuardBroken},
		"broken, and of another":     {driver.Swap{Prev: one, Guards: broken}, driver.GuardBroken},
		"broken, and of what exists": {driver.Swap{Guards: broken}, driver.GuardBroken},
		"of another":                 {driver.Swap{Prev: one, Guards: holds}, driver.Conflict},
		"of what exists":             {driver.Swap{Guards: holds}, driver.Conflict},
		"unguarded, of what exists":  {driver.Swap{}, driver.Conflict},
	} {
		test.swap.Key, test.swap.ID = "k", 9
		r, err := s.Swap(t.Context(), test.swap)
		if err != nil || r.Outcome != test.want || r.Known != (test.want == driver.Conflict) || r.Known && (r.Entry.Version != two.Version || string(r.Entry.Value) != "2") {
			t.Errorf("%s: %+v, %v; want %v", name, r, err, test.want)
		}
	}
	for _, test := range []struct {
		guards []driver.Guard
		want   error
	}{{holds, nil}, {broken, driver.ErrFenced}} {
		if e, err := s.Get(t.Context(), driver.GetRequest{Key: "k", Guards: test.guards}); !errors.Is(err, test.want) || err == nil && e.Version != two.Version {
			t.Errorf("a read: %+v, %v; want %v", e, err, test.want)
		}
	}

	s.batch <- struct{}{} // as another write with guards
	drivertest.Put(t, s, "other", "v")
	r, err := s.Swap(drivertest.WithTimeout(t, 100*time.Millisecond), driver.Swap{Key: "k", Prev: two, Guards: holds, ID: 10})
	if r.Outcome != driver.NotApplied || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("out of turn: %v, %v", r.Outcome, err)
	}
	<-s.batch
}

// What may not be read is not taken for absent.
func TestReadsThatAreRefused(t *testing.T) {
	n := start(t, func(o *server.Options) {
		users(o)
		o.Users = append(o.Users, &server.User{Username: "writer", Password: "secret", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Deny: []string{"$JS.API.STREAM.MSG.GET.>"}},
		}})
	})
	as := func(user string) *store {
		cfg := n.config()
		cfg.Username, cfg.Password = user, config.NewSecret("secret")
		return open(t, cfg)
	}
	now := drivertest.Put(t, as("all"), "k", "v")
	s := as("writer")
	r, swapErr := s.Swap(t.Context(), driver.Swap{Key: "k", ID: 1})
	_, getErr := s.Get(t.Context(), driver.GetRequest{Key: "k"})
	_, scanErr := s.Scan(t.Context(), driver.ScanRequest{})
	for i, err := range []error{swapErr, getErr, scanErr} {
		if !errors.Is(err, driver.ErrPermission) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if r.Outcome != driver.NotApplied {
		t.Errorf("the write: %v", r.Outcome)
	}
	drivertest.Swap(t, s, driver.Swap{Key: "k", Prev: now, Value: []byte("2"), ID: 2}, driver.Applied)
}

// A mark takes the place of what was there, and goes after a while, where the bucket and
// the configuration allow it.
func TestMarks(t *testing.T) {
	for _, test := range []struct {
		rollup, removes bool
		ttl             time.Duration
		want            [3]string // operation, what it takes the place of, and how long it stays
	}{
		{true, true, time.Hour, [3]string{"PURGE", "sub", "1h0m0s"}},
		{true, true, 0, [3]string{"DEL"}},
		{false, true, time.Hour, [3]string{"DEL"}},
		{true, false, time.Hour, [3]string{}},
	} {
		s := &store{subjects: "$KV.b.", cfg: Config{MarkerTTL: test.ttl}}
		h := s.message(&link{rollup: test.rollup}, driver.Swap{Key: "k", Remove: test.removes, ID: 255, Prev: driver.Entry{Version: 7}}).Header
		if got := [3]string{h.Get(headerOperation), h.Get("Nats-Rollup"), h.Get("Nats-TTL")}; got != test.want || h.Get(headerWrite) != "ff" || h.Get(headerExpected) != "7" {
			t.Errorf("%+v: %v", test, h)
		}
	}
}
