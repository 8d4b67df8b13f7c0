package multi_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/multi"
)

// weather decides, by a seed, what befalls requests: how long they take, and
// whether they or their answers are lost. Times are those of a synctest
// bubble, so an hour of it takes no time, and what happens between two pauses
// happens in the order of their ends.
type weather struct {
	mu     sync.Mutex
	random *rand.Rand
	calm   bool
}

func newWeather(seed uint64) *weather {
	return &weather{random: rand.New(rand.NewPCG(seed, 0))}
}

// under returns a number below n, 0 in calm weather.
func (w *weather) under(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.calm {
		return 0
	}
	return w.random.IntN(n)
}

func (w *weather) settle() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calm = true
}

// lag takes up to a few milliseconds, and now and then far longer.
func (w *weather) lag(ctx context.Context) error {
	d := time.Duration(w.under(5000)) * time.Microsecond
	if w.under(40) == 1 {
		d *= 100
	}
	if d == 0 {
		// Not by a timer: two goroutines of a bubble that receive from timers
		// which are due already crash the race detector of Go 1.26.
		return ctx.Err()
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stormy is a store in that weather.
type stormy struct {
	driver.Store
	*weather

	// sure keeps creations from arriving late. One that does so after the key
	// was created and deleted again brings it back, in any store and
	// whatever a client does: only a repair finds that.
	sure bool
}

var errStorm = errors.New("lost in the storm")

func (s stormy) Get(ctx context.Context, r driver.GetRequest) (driver.Entry, error) {
	if err := s.lag(ctx); err != nil {
		return driver.Entry{}, err
	}
	e, err := s.Store.Get(ctx, r)
	if s.under(30) == 1 {
		return driver.Entry{}, errStorm
	}
	return e, errors.Join(err, s.lag(ctx))
}

func (s stormy) Swap(ctx context.Context, w driver.Swap) (driver.Result, error) {
	unknown := driver.Result{Outcome: driver.Unknown}
	if err := s.lag(ctx); err != nil {
		// The request left; it may arrive when nobody waits for it any more.
		if s.under(2) == 1 {
			return s.arrivesLate(w)
		}
		return unknown, err
	}
	switch s.under(25) {
	case 1:
		return unknown, errStorm
	case 2:
		return s.arrivesLate(w)
	}
	result, err := s.Store.Swap(context.WithoutCancel(ctx), w)
	if s.lag(ctx) != nil || s.under(25) == 1 {
		return unknown, errStorm
	}
	return result, err
}

// arrivesLate carries out a swap whose sender has given up.
func (s stormy) arrivesLate(w driver.Swap) (driver.Result, error) {
	if s.sure && w.Prev.Version == 0 {
		return driver.Result{Outcome: driver.Unknown}, errStorm
	}
	time.AfterFunc(time.Duration(s.under(800))*time.Millisecond, func() {
		_, _ = s.Store.Swap(context.Background(), w) // nobody hears of it
	})
	return driver.Result{Outcome: driver.Unknown}, errStorm
}

// iterations is how many seeds a property is tried with.
func iterations(brief int) int {
	if os.Getenv("POLYKV_SOAK") != "" {
		return 100 * brief
	}
	return brief
}

// overSeeds tries a property with seeds, each in a bubble of its own, until one
// of them fails.
func overSeeds(t *testing.T, brief int, property func(t *testing.T, seed uint64)) {
	t.Helper()
	first := rand.Uint64()
	for i := range iterations(brief) {
		seed := first + uint64(i)
		ok := t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { property(t, seed) })
		})
		if !ok {
			return
		}
	}
}

func stormOptions() kv.Options {
	return kv.Options{Logger: quiet, RetryTimeout: 400 * time.Millisecond, AttemptTimeout: 100 * time.Millisecond}
}

// Whatever befalls writers and mirrors: when it is quiet, and a repair has run,
// both stores are equal, deletions included.
func TestMirroringConvergesInAnyWeather(t *testing.T) {
	overSeeds(t, 60, stormOver)
}

func stormOver(t *testing.T, seed uint64) {
	p, w := newPair(t), newWeather(seed)
	cfg := multi.DefaultConfig()
	cfg.MirrorTimeout, cfg.MirrorMaxBackoff = 50*time.Millisecond, 500*time.Millisecond
	cfg.MirrorAsync = seed%3 == 0
	open := func() *multi.Client {
		o := stormOptions()
		c, err := multi.New(cfg, []multi.Backend{
			{Name: "first", Client: kv.New(stormy{Store: p.stores[0].Open(), weather: w}, codec.String{}, &o)},
			{Name: "second", Client: kv.New(stormy{Store: p.stores[1].Open(), weather: w}, codec.String{}, &o)},
		}, multi.WithLogger(quiet))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	var processes sync.WaitGroup
	for n := range 3 {
		processes.Go(func() {
			for life := range 3 { // each ends in the middle of its work
				c := open()
				var writers sync.WaitGroup
				for i := range 3 {
					writers.Go(func() { scribble(c, w, fmt.Sprint(n, life, i)) })
				}
				if w.under(2) == 1 {
					writers.Wait()
				} else {
					time.Sleep(time.Duration(w.under(300)) * time.Millisecond)
				}
				_ = c.Close()
				writers.Wait()
			}
		})
	}
	processes.Wait()
	w.settle()
	time.Sleep(time.Minute) // what was late has arrived
	c := open()
	defer c.Close()
	if _, err := c.Repair(t.Context()); err != nil {
		t.Fatalf("seed %d: the repair: %v", seed, err)
	}
	p.wantEqual()
}

// scribble writes and deletes a few keys.
func scribble(c kv.Client, w *weather, name string) {
	ctx := context.Background()
	for i := range 8 {
		key := fmt.Sprint("k", w.under(4))
		if w.under(3) == 1 {
			_ = c.Delete(ctx, key) // whatever comes of it
			continue
		}
		value := fmt.Sprint(w.under(3))
		_ = c.CAS(ctx, key, func(any) (any, bool, error) { return value + name[:1] + fmt.Sprint(i%2), false, nil })
	}
}

// The same with one client and no repair: what it wrote is equal when its
// backlog is empty, unless a write was left unknown for good.
func TestTheBacklogConvergesByItself(t *testing.T) {
	overSeeds(t, 40, func(t *testing.T, seed uint64) {
		p, w := newPair(t), newWeather(seed)
		cfg := multi.DefaultConfig()
		cfg.MirrorTimeout, cfg.RepairInterval = 50*time.Millisecond, 0
		c := p.open(cfg, func(at int, s driver.Store) driver.Store {
			if at == 0 {
				return s // so that no write is left unknown
			}
			return stormy{Store: s, weather: w, sure: true}
		})
		var writers sync.WaitGroup
		for n := range 4 {
			writers.Go(func() { scribble(c, w, fmt.Sprint(n)) })
		}
		writers.Wait()
		w.settle()
		for deadline := time.Now().Add(time.Hour); c.Status().Mirrors[1].Backlog > 0; time.Sleep(time.Second) {
			if time.Now().After(deadline) {
				t.Fatalf("seed %d: after an hour the mirror is %+v", seed, c.Status().Mirrors[1])
			}
		}
		p.wantEqual()
	})
}

// A fleet is moved to and fro, by commands that are killed and run again, in any
// weather: no acknowledged increment is lost, none is applied twice, and the
// stores are equal in the end.
func TestMovingLosesNothingInAnyWeather(t *testing.T) {
	overSeeds(t, 25, moveInStorm)
}

func moveInStorm(t *testing.T, seed uint64) {
	r, w := newRig(t), newWeather(seed)
	cfg := coordinatedConfig()
	cfg.FenceTimeout, cfg.MirrorTimeout = time.Minute, 50*time.Millisecond
	var mu sync.Mutex
	successes, unknown := map[string]int{}, map[string]int{}
	ctx, stop := context.WithCancel(context.Background())
	var writers sync.WaitGroup
	for range 3 {
		c, err := r.open(cfg, codec.String{}, stormOptions(), func(_ int, s driver.Store) driver.Store { return stormy{Store: s, weather: w} })
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for range 2 {
			writers.Go(func() {
				for ctx.Err() == nil {
					key := fmt.Sprint("counter", w.under(2))
					err := c.CAS(context.Background(), key, increment)
					mu.Lock()
					switch {
					case err == nil:
						successes[key]++
					case errors.Is(err, kv.ErrIndeterminate):
						unknown[key]++
					}
					mu.Unlock()
				}
			})
		}
	}
	for i := range 4 {
		target := 1 - i%2
		time.Sleep(time.Duration(w.under(2000)) * time.Millisecond)
		for moved := false; !moved; { // killed and run again
			killed, kill := context.WithTimeout(ctx, time.Duration(1+w.under(400))*time.Microsecond*time.Duration(1+w.under(2000)))
			err := r.towards(killed, t, target)
			moved = err == nil
			kill()
		}
	}
	stop()
	w.settle()
	writers.Wait()
	time.Sleep(time.Minute)
	if err := r.move(t, 1); err != nil {
		t.Fatalf("seed %d: the last move: %v", seed, err)
	}
	for key, n := range successes {
		got, _ := strconv.Atoi(fmt.Sprint(get(t, r.plain[1], key)))
		if got < n || got > n+unknown[key] {
			t.Errorf("seed %d: %s is %d after %d increments and %d of unknown outcome", seed, key, got, n, unknown[key])
		}
	}
}
