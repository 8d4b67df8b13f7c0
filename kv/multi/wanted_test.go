package multi_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/multi"
	"github.com/polykv/polykv/kv/multi/migrate"
)

// notice is what a fleet reads that is wanted.
type notice struct {
	mu     sync.Mutex
	update multi.Update
	err    error
}

func (n *notice) say(primary string, mirror bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.update, n.err = multi.Update{Primary: primary, Mirror: &mirror}, err
}

func (n *notice) read() (multi.Update, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.update, n.err
}

func (p *pair) fleet() *migrate.Fleet {
	p.t.Helper()
	f, err := migrate.NewFleet(migrate.Backend{Name: "first", Client: p.plain[0]}, migrate.Backend{Name: "second", Client: p.plain[1]})
	if err != nil {
		p.t.Fatal(err)
	}
	return f
}

func converged(f *migrate.Fleet, primary string, mirror bool, expect int, wait time.Duration) (migrate.Followers, error) {
	return f.Converge(context.Background(), migrate.Wanted{Primary: primary, Mirror: &mirror}, expect, migrate.ConvergeOptions{Wait: wait})
}

// A fleet reads what is wanted, does it, and says so; who comes late begins
// with it.
func TestFleetFollowsWhatIsWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		var n notice
		n.say("first", true, nil)
		open := func() *multi.Client { return p.open(multi.DefaultConfig(), nil, multi.WithWanted(n.read)) }
		clients := []*multi.Client{open(), open(), open()}
		put(t, clients[0], "k", "v")
		f := p.fleet()
		if seen, err := converged(f, "first", true, 3, 5*time.Second); err != nil || seen.Followed != 3 {
			t.Fatalf("%+v, %v", seen, err)
		}
		_, err := converged(f, "second", true, 3, 0)
		var behind *migrate.NotFollowedError
		if !errors.As(err, &behind) || !errors.Is(err, migrate.ErrRefused) || len(behind.Behind) != 3 || !strings.Contains(err.Error(), `it uses store "first"`) {
			t.Errorf("before: %v", err)
		}
		n.say("second", true, nil)
		if seen, err := converged(f, "second", true, 3, 5*time.Second); err != nil || seen.Followed != 3 {
			t.Errorf("%+v, %v", seen, err)
		}
		put(t, clients[1], "k", "v2")
		n.say("second", false, nil)
		late := open()
		if late.Primary() != "second" || late.Status().Mirror != "" {
			t.Errorf("who comes late begins with %q, mirroring into %q", late.Primary(), late.Status().Mirror)
		}
		if seen, err := converged(f, "second", false, 4, 5*time.Second); err != nil || seen.Followed != 4 {
			t.Errorf("%+v, %v", seen, err)
		}
		if _, err := converged(f, "second", false, 5, 5*time.Second); err == nil || !strings.Contains(err.Error(), "4 clients were seen, 5 were expected") {
			t.Errorf("with one missing: %v", err)
		}
		if a, b := get(t, p.plain[0], "k"), get(t, p.plain[1], "k"); a != "v2" || b != "v2" {
			t.Errorf("%v and %v", a, b)
		}
		for _, c := range append(clients, late) {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		if seen, err := f.Look(t.Context(), migrate.Wanted{Primary: "second"}); err != nil || len(seen.Clients) != 0 {
			t.Errorf("after their end: %+v, %v", seen, err)
		}
	})
}

// stalled is a store that takes no writes of users' keys while it is.
type stalled struct {
	driver.Store
	now *atomic.Bool
}

func (s stalled) Swap(ctx context.Context, w driver.Swap) (driver.Result, error) {
	if s.now.Load() && !strings.HasPrefix(w.Key, kv.ReservedSegment) {
		return driver.Result{Outcome: driver.NotApplied}, errors.New("not now")
	}
	return s.Store.Swap(ctx, w)
}

// openStalled returns a client whose first store is primary and whose second one takes
// no writes until stall is set to false.
func openStalled(p *pair, n *notice) (c *multi.Client, stall *atomic.Bool) {
	stall = new(atomic.Bool)
	n.say("first", true, nil)
	cfg := multi.DefaultConfig()
	cfg.MirrorAsync = true
	c = p.open(cfg, func(at int, s driver.Store) driver.Store {
		if at == 0 {
			return s
		}
		return stalled{s, stall}
	}, multi.WithWanted(n.read))
	stall.Store(true)
	return c, stall
}

// A switch that can't be made holds writes up for ten seconds at most, is told,
// and made later.
func TestWantedSwitchThatCannotBeMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		var n notice
		c, stall := openStalled(p, &n)
		put(t, c, "k", "v")
		n.say("second", true, nil)
		time.Sleep(2 * time.Second)
		began := time.Now()
		put(t, c, "k", "v2") // waits for the switch, which is undone
		if took := time.Since(began); took > 10*time.Second || took < time.Second || c.Primary() != "first" {
			t.Errorf("a write took %v, and the primary is %q", took, c.Primary())
		}
		time.Sleep(time.Second)
		if s := c.Status(); !strings.Contains(s.Problem, `not everything could be mirrored into "second"`) {
			t.Errorf("the problem is %q", s.Problem)
		}
		if _, err := converged(p.fleet(), "second", true, 1, 0); err == nil || !strings.Contains(err.Error(), `it uses store "first": not everything could be mirrored`) {
			t.Errorf("the report: %v", err)
		}
		for range 10 { // it is not tried all the time
			began := time.Now()
			put(t, c, "k", "v3")
			if took := time.Since(began); took > time.Second {
				t.Errorf("a write took %v", took)
			}
			time.Sleep(2 * time.Second)
		}
		stall.Store(false)
		if _, err := converged(p.fleet(), "second", true, 1, time.Minute); err != nil {
			t.Error(err)
		}
		if s := c.Status(); s.Primary != "second" || s.Problem != "" {
			t.Errorf("%+v", s)
		}
		n.say("third", true, nil)
		time.Sleep(2 * time.Second)
		if s := c.Status(); s.Primary != "second" || !strings.Contains(s.Problem, `there is no store "third"`) {
			t.Errorf("%+v", s)
		}
		n.say("first", true, errors.New("line 3: what?"))
		time.Sleep(2 * time.Second)
		if s := c.Status(); s.Primary != "second" || !strings.Contains(s.Problem, "line 3: what?") {
			t.Errorf("%+v", s)
		}
		n.say("first", true, nil)
		time.Sleep(2 * time.Second)
		if s := c.Status(); s.Primary != "first" || s.Problem != "" {
			t.Errorf("%+v", s)
		}
	})
}

// Turning mirroring off with a switch mirrors first what is pending.
func TestSwitchWithoutMirroringLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		var n notice
		c, stall := openStalled(p, &n)
		for i := range 20 {
			put(t, c, fmt.Sprint("k", i), "v")
		}
		n.say("second", false, nil)
		time.AfterFunc(3*time.Second, func() { stall.Store(false) })
		if _, err := converged(p.fleet(), "second", false, 1, time.Minute); err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			if got := get(t, p.plain[1], fmt.Sprint("k", i)); got != "v" {
				t.Errorf("k%d is %v", i, got)
			}
		}
	})
}

func TestWantedIsRefused(t *testing.T) {
	p := newPair(t)
	try := func(cfg multi.Config, read func() (multi.Update, error)) error {
		var backends []multi.Backend
		for i, name := range []string{"first", "second"} {
			backends = append(backends, multi.Backend{Name: name, Client: kv.New(p.stores[i].Open(), codec.String{}, &kv.Options{Logger: quiet})})
		}
		c, err := multi.New(cfg, backends, multi.WithLogger(quiet), multi.WithWanted(read))
		if err == nil {
			c.Close()
		}
		for _, b := range backends {
			b.Client.Close()
		}
		return err
	}
	coordinated := multi.DefaultConfig()
	coordinated.Coordinated = true
	for want, err := range map[string]error{
		"coordinated: ":               try(coordinated, (&notice{}).read),
		"no file":                     try(multi.DefaultConfig(), func() (multi.Update, error) { return multi.Update{}, errors.New("no file") }),
		`there is no backend "third"`: try(multi.DefaultConfig(), func() (multi.Update, error) { return multi.Update{Primary: "third"}, nil }),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// What is wanted of a fleet is not to be had where records say what clients do.
func TestFleetOfACoordinatedMigrationIsRefused(t *testing.T) {
	r := newRig(t)
	f, err := migrate.NewFleet(r.backend(0), r.backend(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Look(t.Context(), migrate.Wanted{Primary: "first"}); !errors.Is(err, migrate.ErrRefused) || !strings.Contains(err.Error(), "say which stage is wanted") {
		t.Errorf("%v", err)
	}
}
