package multi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// coreOf is a core over two stores in memory, without what runs in the background.
func coreOf(t *testing.T, wrap func(at int, s driver.Store) driver.Store) *core {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	c := &core{cfg: DefaultConfig(), log: quiet, observer: NopObserver{}}
	for i, name := range []string{"a", "b"} {
		store := inmemory.NewStore().Open()
		if wrap != nil {
			store = wrap(i, store)
		}
		client := kv.New(store, codec.String{}, &kv.Options{Logger: quiet, RetryTimeout: 100 * time.Millisecond})
		t.Cleanup(func() { _ = client.Close() })
		var err error
		if c.stores[i], err = newStore(Backend{Name: name, Client: client}, nil, false); err != nil {
			t.Fatal(err)
		}
	}
	c.ctx, c.cancel = context.WithCancel(t.Context())
	t.Cleanup(c.cancel)
	return c
}

// faulty is a store whose swaps end as outcome says, with an error unless that is
// driver.Applied.
type faulty struct {
	driver.Store
	outcome *driver.Outcome
}

func (f faulty) Swap(ctx context.Context, s driver.Swap) (driver.Result, error) {
	if *f.outcome != driver.Applied {
		return driver.Result{Outcome: *f.outcome}, driver.Permanent(errors.New("a fault"))
	}
	return f.Store.Swap(ctx, s)
}

// into is a selector by which one store may be mirrored into; less than 0: neither.
type into struct {
	selector
	at     int
	guards []kv.Guard
	losses []int // into which stores a guard was broken
}

func (i *into) lost(to int) { i.losses = append(i.losses, to) }

func (i *into) mirroring(to int) (mirrorState, []kv.Guard) {
	if to == i.at {
		return mirrorOn, i.guards
	}
	return mirrorPaused, nil
}

// plant makes a key of a store what text is; "": absent.
func plant(t *testing.T, s *store, key, text string) {
	t.Helper()
	if err := s.side.CAS(t.Context(), key, nil, func([]byte, bool) ([]byte, kv.Action, error) {
		if text == "" {
			return nil, kv.Remove, nil
		}
		return []byte(text), kv.Put, nil
	}); err != nil {
		t.Fatal(err)
	}
}

func planted(t *testing.T, s *store, key string) string {
	t.Helper()
	value, _, err := s.side.Get(t.Context(), key, nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(value)
}

// One client of a fleet repairs in half an interval, whatever the key holds.
func TestWhoRepairs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fault := driver.Applied
		c := coreOf(t, func(_ int, s driver.Store) driver.Store { return faulty{s, &fault} })
		c.cfg.RepairInterval = time.Hour
		s := &sweeps{core: c}
		for at := range c.stores {
			c.selector = &into{at: at, guards: side.Guards(kv.Version(at + 1))}
			if to, guards, err := s.direction(); to != at || len(guards) != 1 || guards[0].Version != kv.Version(at+1) || err != nil {
				t.Errorf("into %d: %d under %v, %v", at, to, guards, err)
			}
		}
		c.selector = &into{at: -1}
		if _, _, err := s.direction(); !errors.Is(err, kv.ErrFenced) || s.claim() || s.mine(false) {
			t.Errorf("there is something to repair: %v", err)
		}
		c.selector = &into{at: 1}
		claims := func(what string, want bool) {
			t.Helper()
			if s.claim() != want {
				t.Errorf("%s: it is this client's: %v", what, !want)
			}
		}
		claims("the first", true)
		claims("the second", false)
		if planted(t, c.stores[1], claimKey) != `{"at":"2000-01-01T00:00:00Z"}` || planted(t, c.stores[0], claimKey) != "" {
			t.Errorf("it left %q and %q", planted(t, c.stores[1], claimKey), planted(t, c.stores[0], claimKey))
		}
		if s.mine(false) || !s.mine(true) {
			t.Error("whoever is told to repair does, and no other")
		}
		time.Sleep(30 * time.Minute)
		claims("after half an interval", false)
		time.Sleep(time.Nanosecond)
		claims("a moment later", true)
		time.Sleep(time.Minute)
		claims("a minute later", false)
		plant(t, c.stores[1], claimKey, `{"at":"2000-01-01T01:01:00.000000001Z"}`)
		claims("a clock that is ahead", false)
		plant(t, c.stores[1], claimKey, `{"at":"2000-01-01T01:02:00.000000001Z"}`)
		claims("one that is far ahead", true)
		plant(t, c.stores[1], claimKey, "what?")
		claims("another release's", true)
		plant(t, c.stores[1], claimKey, "")
		fault = driver.NotApplied
		claims("a store that refuses", false)
		fault = driver.Unknown
		claims("a store whose answer is lost", true)
		fault = driver.Applied
		c.stores[1].raw = nil
		claims("a store without stored bytes", true)
		c.owner = &owner{core: c, store: c.stores[0]}
		if s.mine(true) || s.mine(false) {
			t.Error("it repairs, though another client mirrors for all")
		}
		c.owner.store = nil
		if !s.mine(true) || !s.mine(false) {
			t.Error("the owner doesn't repair")
		}
	})
}

func TestIntervalOfRepairs(t *testing.T) {
	s := &sweeps{core: &core{}}
	if s.interval() != math.MaxInt64 {
		t.Error("it repairs though it shall not")
	}
	s.core.cfg.RepairInterval = time.Minute
	least, most := time.Hour, time.Duration(0)
	for range 1000 {
		d := s.interval()
		least, most = min(least, d), max(most, d)
	}
	if least < 30*time.Second || least > 35*time.Second || most > 90*time.Second || most < 85*time.Second {
		t.Errorf("from %v to %v", least, most)
	}
}

// Two clients agree on which of them mirrors for all.
func TestWhoIsTheOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := coreOf(t, nil)
		at := c.stores[1]
		open := func(name string) *owner {
			return &owner{core: c, store: at, self: ownerRecord{Holder: name, Host: "host-" + name, PID: 7}}
		}
		a, b := open("a"), open("b")
		holds := func(what, holder string, beat uint64) {
			t.Helper()
			var now ownerRecord
			if err := json.Unmarshal([]byte(planted(t, at, ownerKey)), &now); err != nil || now.Holder != holder || now.Beat != beat {
				t.Errorf("%s: %+v, %v", what, now, err)
			}
		}
		owns := func(what string, want bool, o *owner, knows string) {
			t.Helper()
			var s Status
			if o.status(&s); s.Owns != want || o.owns() != want || s.Owner != knows {
				t.Errorf("%s: %s owns: %v, says that %q does", what, o.self.Holder, s.Owns, s.Owner)
			}
		}
		owns("at first", false, a, "")
		a.claim(t.Context())
		owns("the first", true, a, "host-a (pid 7)")
		b.claim(t.Context())
		owns("the second", false, b, "host-a (pid 7)")
		holds("the first", "a", 1)
		time.Sleep(ownerYield - 1)
		owns("almost too late", true, a, "host-a (pid 7)")
		time.Sleep(time.Nanosecond)
		owns("too late", false, a, "host-a (pid 7)")
		a.claim(t.Context())
		owns("in time", true, a, "host-a (pid 7)")
		holds("in time", "a", 2)
		b.claim(t.Context()) // sees that it lives
		time.Sleep(ownerGone)
		b.claim(t.Context())
		owns("who waits still", false, b, "host-a (pid 7)")
		time.Sleep(time.Nanosecond)
		b.claim(t.Context())
		owns("who has waited", true, b, "host-b (pid 7)")
		holds("who has waited", "b", 3)
		a.claim(t.Context())
		owns("who comes back", false, a, "host-b (pid 7)")
		a.resign()
		holds("who leaves and isn't it", "b", 3)

		plant(t, at, ownerKey, "what?")
		b.claim(t.Context())
		owns("another release's", false, b, "a client of another release")
		time.Sleep(ownerGone + 1)
		b.claim(t.Context())
		owns("when that is gone", true, b, "host-b (pid 7)")
		plant(t, at, ownerKey, `{"holder":"other","host":"","beat":5}`)
		third := open("c")
		third.claim(t.Context())
		owns("of an unknown host", false, third, "other")
		b.resign()
		holds("who leaves and was overtaken", "other", 5)
		plant(t, at, ownerKey, "what?")
		third.renewed = time.Now()
		third.resign()
		if got := planted(t, at, ownerKey); got != "what?" {
			t.Errorf("what another release wrote became %q", got)
		}

		plant(t, at, ownerKey, "")
		last := open("d")
		last.claim(t.Context())
		holds("an empty place", "d", 1)
		last.resign()
		owns("who has left", false, last, "host-d (pid 7)")
		if got := planted(t, at, ownerKey); got != "" {
			t.Errorf("who leaves leaves %q", got)
		}
		last.claim(t.Context())
		if got := planted(t, at, ownerKey); got != "" {
			t.Errorf("who has left came back as %q", got)
		}
		everybody := &owner{core: c, self: ownerRecord{Holder: "e", Host: "host-e", PID: 7}}
		owns("where nobody can agree", true, everybody, "host-e (pid 7)")
	})
}

// The place of the owner is in the store that isn't spread by gossip, if that can
// hold it.
func TestWhereTheOwnerIsAgreedUpon(t *testing.T) {
	for name, test := range map[string]struct {
		gossip, bytes [2]bool
		want          int // -1: nowhere; -2: there is none
	}{
		"no gossip":     {[2]bool{}, [2]bool{true, true}, -2},
		"the first":     {[2]bool{true, false}, [2]bool{true, true}, 1},
		"the second":    {[2]bool{false, true}, [2]bool{true, true}, 0},
		"both":          {[2]bool{true, true}, [2]bool{true, true}, -1},
		"without bytes": {[2]bool{false, true}, [2]bool{false, true}, -1},
	} {
		c := coreOf(t, nil)
		for i, s := range c.stores {
			if s.gossip = test.gossip[i]; !test.bytes[i] {
				s.raw = nil
			}
		}
		o := newOwner(c)
		if (o == nil) != (test.want == -2) {
			t.Errorf("%s: %+v", name, o)
			continue
		}
		if o == nil {
			continue
		}
		var want *store
		if test.want >= 0 {
			want = c.stores[test.want]
		}
		if o.store != want || o.self.Holder == "" || o.self.Host != side.Hostname() || o.self.PID == 0 {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

// at is a selector of one route, which is all that the owner asks for.
type at struct {
	selector
	route *route
}

func (a at) reading(context.Context, *waiting) (*route, error) { return a.route, nil }

// told is a client whose watch tells what a test says, and then fails.
type told struct {
	kv.Forward
	events  []kv.Event
	watched *[]time.Time
}

func (c told) Watch(_ context.Context, _ kv.Range, f func(kv.Event) bool) error {
	*c.watched = append(*c.watched, time.Now())
	for _, ev := range c.events {
		if !f(ev) {
			return nil
		}
	}
	return io.EOF
}

// The owner mirrors what changes in the primary once its state is known, and asks
// for a repair of what it was before. A watch that fails is made again.
func TestWhatTheOwnerMirrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := coreOf(t, nil)
		c.log = slog.New(slog.NewTextHandler(&log, nil))
		c.mirror = newMirror(c)
		c.mirror.set(1, mirrorPaused)
		c.sweeps = &sweeps{core: c, wake: make(chan struct{}, 1)}
		var watched []time.Time
		c.stores[0].raw = told{kv.Forward{Client: c.stores[0].raw}, []kv.Event{
			{Type: kv.Put, Key: "before"},
			{Type: kv.Synced},
			{Type: kv.Put, Key: "put"},
			{Type: kv.Put, Key: ownerKey},
			{Type: kv.Interrupted},
			{Type: kv.Synced},
			{Type: kv.Delete, Key: "deleted"},
			{Type: kv.Undecodable, Key: "odd"},
		}, &watched}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		stay, leave := context.WithCancel(t.Context())
		defer leave()
		r := &route{at: 0, ctx: stay}
		c.selector = at{route: r}
		o := &owner{core: c}
		if err := o.followOne(ctx, r); !errors.Is(err, io.EOF) {
			t.Errorf("it ended with %v", err)
		}
		if keys := firstKeys(c.mirror.directions[1].tasks); !slices.Equal(keys, []string{"deleted", "odd", "put"}) || len(c.mirror.directions[0].tasks) != 0 {
			t.Errorf("it mirrors %q", keys)
		}
		<-c.sweeps.wake
		watched = nil
		o.follow(ctx)
		if n := len(watched); n < 40 || n > 130 { // pauses of up to a second, give or take a half
			t.Errorf("%d watches in a minute", n)
		}
		if n := strings.Count(log.String(), "the primary can't be followed"); n < len(watched)-1 || n > len(watched) {
			t.Errorf("told %d times of %d watches", n, len(watched))
		}
		log.Reset()
		clear(c.mirror.directions[1].tasks)
		leave()
		if err := o.followOne(t.Context(), r); err != nil || len(c.mirror.directions[1].tasks) > 0 {
			t.Errorf("of a store that is primary no more: %v, %d keys", err, len(c.mirror.directions[1].tasks))
		}
	})
}

// A direction that is dead without a task to try it by is so until the next retry.
func TestADeadDirectionWithoutTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := coreOf(t, nil)
		c.selector = &into{at: -1}
		m := newMirror(c)
		m.set(1, mirrorOn)
		c.start(m.retries)
		m.mu.Lock()
		m.fail(m.directions[1], io.EOF)
		m.mu.Unlock()
		if m.takes(1) {
			t.Error("it is taken for alive")
		}
		time.Sleep(time.Second)
		if !m.takes(1) {
			t.Error("it is dead for ever")
		}
		c.cancel()
		c.wg.Wait()
	})
}

// A client that is switched by hand lists itself where it can, and not by gossip
// unless both stores are spread by it.
func TestWhereAClientListsItself(t *testing.T) {
	for _, test := range []struct{ gossip, bytes, want [2]bool }{
		{[2]bool{}, [2]bool{true, true}, [2]bool{true, true}},
		{[2]bool{}, [2]bool{false, true}, [2]bool{false, true}},
		{[2]bool{true, false}, [2]bool{true, true}, [2]bool{false, true}},
		{[2]bool{false, true}, [2]bool{true, true}, [2]bool{true, false}},
		{[2]bool{true, true}, [2]bool{true, true}, [2]bool{true, true}},
		{[2]bool{true, true}, [2]bool{true, false}, [2]bool{true, false}},
	} {
		c := coreOf(t, nil)
		c.mirror = newMirror(c)
		for i, s := range c.stores {
			if s.gossip = test.gossip[i]; !test.bytes[i] {
				s.raw = nil
			}
		}
		if now, _ := newManual(c, 1).standing(); now.listed != test.want || now.primary != "b" || now.mirror != "a" {
			t.Errorf("gossip %v, bytes %v: %+v", test.gossip, test.bytes, now)
		}
	}
}
