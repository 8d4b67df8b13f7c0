package memberlist

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// simWeek is how long a plan lasts.
const simWeek = 7 * 24 * time.Hour

// event is one thing that a plan does.
type event struct {
	at   time.Duration
	what string // the name of a row of simEvents
	slot int
	n    int64  // what else there is to say
	key  string // of a write
}

func (e event) String() string {
	return fmt.Sprintf("{%d, %q, %d, %d, %q}", e.at, e.what, e.slot, e.n, e.key)
}

// simEvents are what can happen.
var simEvents = map[string]func(c *simCluster, e event) error{
	"put": func(c *simCluster, e event) error {
		return c.write(e.slot, e.key, fmt.Sprintf("%v-%s", e.at, strings.Repeat("x", int(e.n))))
	},
	"delete":    func(c *simCluster, e event) error { return c.write(e.slot, e.key, "") },
	"partition": func(c *simCluster, e event) error { c.partition(int(e.n)); return nil },
	"heal":      func(c *simCluster, _ event) error { c.heal(); return nil },
	"freeze":    func(c *simCluster, e event) error { c.freeze(e.slot); return nil },
	"thaw":      func(c *simCluster, e event) error { c.thaw(e.slot); return nil },
	"crash":     func(c *simCluster, e event) error { c.crash(e.slot); return nil },
	"leave":     func(c *simCluster, e event) error { c.leave(e.slot); return nil },
	"start":     func(c *simCluster, e event) error { return c.start(e.slot) },
	"loss":      func(c *simCluster, e event) error { c.fabric.SetLoss(float64(e.n) / 100); return nil },
	"rate":      func(c *simCluster, e event) error { c.fabric.SetRate(int(e.n)); return nil },
	"clock":     func(c *simCluster, e event) error { c.step(e.slot, time.Duration(e.n)); return nil },
}

// plan is what happens in one simulation.
type plan struct {
	seed   uint64
	light  bool
	slots  int
	events []event
}

// simDurations are those that faults last.
var simDurations = []time.Duration{
	time.Minute, 20 * time.Minute, simTimeout * 9 / 10, simTimeout * 11 / 10, 3 * simTimeout,
	simTolerance / 2, simTolerance * 19 / 20, simTolerance * 11 / 10, 2 * simTolerance,
}

// simSteps are those of clocks.
var simSteps = []time.Duration{
	-simTolerance * 2, -simTimeout * 2, -30 * time.Second, 30 * time.Second, 2 * simTimeout, 2 * simTolerance,
}

// draw makes the plan of a seed.
func draw(seed uint64) plan {
	rnd := rand.New(rand.NewPCG(seed, 1))
	p := plan{seed: seed, slots: 3 + rnd.IntN(2)}
	add := func(at time.Duration, what string, slot int, n int64) {
		p.events = append(p.events, event{at: at, what: what, slot: slot, n: n})
	}
	faults := []struct {
		begin, end string
		n, after   int64
	}{
		{"partition", "heal", 0, 0},
		{"partition", "heal", 0, 0},
		{"freeze", "thaw", 0, 0},
		{"crash", "start", 0, 0},
		{"leave", "start", 0, 0},
		{"loss", "loss", int64(10 + rnd.IntN(60)), 0},
		{"rate", "rate", int64(30_000 + rnd.IntN(100_000)), 0},
		{"clock", "clock", 0, 0},
	}
	for at := time.Hour; at < simWeek; {
		f, slot, lasts := faults[rnd.IntN(len(faults))], rnd.IntN(p.slots), simDurations[rnd.IntN(len(simDurations))]
		switch f.begin {
		case "partition":
			f.n = int64(1 + rnd.IntN(1<<p.slots-2))
		case "clock": // while one is wrong, nodes compare themselves all the time
			f.n, lasts = int64(simSteps[rnd.IntN(len(simSteps))]), min(lasts, 3*simTimeout)
		}
		add(at, f.begin, slot, f.n)
		add(at+lasts, f.end, slot, f.after)
		for _, around := range []time.Duration{at, at, at + lasts/3, at + lasts*2/3, at + lasts} {
			p.write(rnd, around+rand.N(10*time.Second)-5*time.Second)
		}
		at += time.Duration(rnd.Int64N(int64(lasts)*3/2)) + 10*time.Minute
	}
	for range 60 {
		p.write(rnd, time.Duration(rnd.Int64N(int64(simWeek))))
	}
	p.sort()
	return p
}

// write adds a few writes and deletions at about a time.
func (p *plan) write(rnd *rand.Rand, at time.Duration) {
	for range 1 + rnd.IntN(3) {
		e := event{at: max(at, 0) + time.Duration(rnd.Int64N(int64(time.Second))), what: "put", slot: rnd.IntN(p.slots)}
		if e.key = fmt.Sprintf("k%d", rnd.IntN(16)); rnd.IntN(3) == 0 {
			e.key = simMap + "/" + e.key
		}
		switch rnd.IntN(10) {
		case 0:
			e.n = 100_000 // is pulled
		case 1, 2, 3, 4:
			e.what = "delete"
		}
		p.events = append(p.events, e)
	}
}

func (p *plan) sort() {
	slices.SortStableFunc(p.events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
}

// run carries out a plan and returns what is wrong afterwards.
func (p *plan) run(t *testing.T, broken state.Rule) (err error) {
	synctest.Test(t, func(*testing.T) {
		var log bytes.Buffer
		c := newSimCluster(p.slots, p.seed, &log)
		c.broken, c.light = broken, p.light
		defer c.close()
		if err = p.play(c); err != nil && testing.Verbose() {
			err = fmt.Errorf("%w\n%s", err, log.String())
		}
	})
	return err
}

func (p *plan) play(c *simCluster) error {
	for i := range c.slots {
		if err := c.start(i); err != nil {
			return err
		}
	}
	for _, e := range p.events {
		c.sleep(time.Until(c.began.Add(e.at)))
		if err := simEvents[e.what](c, e); err != nil {
			return fmt.Errorf("%v: %w", e, err)
		}
	}
	c.sleep(time.Minute)
	return c.outcome()
}

// outcome mends the cluster and returns what is wrong with what is left.
func (c *simCluster) outcome() error {
	if err := c.mend(); err != nil {
		return err
	}
	if err := c.agree(6 * time.Hour); err != nil {
		return err
	}
	c.sleep(simTolerance + 2*simTimeout) // by then all that can be is forgotten
	if err := c.agree(time.Hour); err != nil {
		return err
	}
	problems := c.history.check(c.slots[0].node, c.stepped)
	for _, s := range c.running() {
		if left := len(s.node.store.Tombstones()); left > 0 {
			problems = append(problems, fmt.Sprintf("%s still has %d tombstones", s.name, left))
		}
	}
	if len(problems) > 0 {
		return errors.New(strings.Join(problems, "\n"))
	}
	return nil
}

// shrink leaves out of a plan that fails what it fails without.
func (p plan) shrink(t *testing.T, broken state.Rule) (plan, error) {
	const tries = 3 // a plan fails again with some luck: goroutines take turns as they like
	err := p.run(t, broken)
	for part := len(p.events) / 2; part >= 1; part /= 2 {
		for from := 0; from < len(p.events); {
			q := p
			q.events = slices.Delete(slices.Clone(p.events), from, min(from+part, len(p.events)))
			var failed error
			for range tries {
				if failed = q.run(t, broken); failed != nil {
					break
				}
			}
			if failed == nil {
				from += part
				continue
			}
			p, err = q, failed
		}
	}
	return p, err
}

// simSeeds returns the seeds to play: POLYKV_SIM_SEED alone, or as many as
// POLYKV_SIM_SEEDS says, from POLYKV_SIM_FROM on.
func simSeeds(t *testing.T, count int) (seeds []uint64) {
	t.Helper()
	number := func(name string) uint64 {
		n, err := strconv.ParseUint(cmp.Or(os.Getenv(name), "0"), 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return n
	}
	if seed := number("POLYKV_SIM_SEED"); seed != 0 {
		return []uint64{seed}
	}
	if n := number("POLYKV_SIM_SEEDS"); n != 0 {
		count = int(n)
	}
	first := max(number("POLYKV_SIM_FROM"), 1)
	for i := range count {
		seeds = append(seeds, first+uint64(i))
	}
	return seeds
}

// TestSimulatedWeeks plays the plans of some seeds with whole nodes. To see one
// that failed again: POLYKV_SIM_SEED=n go test -run TestSimulatedWeeks -v
// ./kv/memberlist; POLYKV_SIM_SHRINK=1 looks for a shorter plan that fails.
//
// A week takes some 2 seconds of processor time, and ten times that with -race.
func TestSimulatedWeeks(t *testing.T) {
	for _, seed := range simSeeds(t, 3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			draw(seed).test(t)
		})
	}
}

// TestLightWeeks plays many more plans with light nodes, each in some 0.3 seconds
// of processor time. "make weeks" does so without -race.
func TestLightWeeks(t *testing.T) {
	for _, seed := range simSeeds(t, 3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			p := draw(seed)
			p.light = true
			p.test(t)
		})
	}
}

// lightWeeks are seeds that failed once.
var lightWeeks = map[string]uint64{
	"a clock that is set ahead, and an entry of a Map that was lost":              85,
	"written after a deletion that one side had forgotten, and lost":              171,
	"what a process wrote by a wrong clock, refused by all, and its Close":        13,
	"a partition of more than a day, and a process that began in it":              30,
	"two write anew what was deleted, and the earlier write stayed":               147,
	"a peer had seen a deletion within a Map, but not what it deleted":            272,
	"a deletion that a new process knows by its context alone":                    496,
	"what a deletion removed that is handed to a new process":                     5094,
	"an entry of a Map, overwritten before it was claimed, and deleted":           5060,
	"an empty Map that a peer took for all that there is":                         2160,
	"a deletion known by the claim of a clock that was days ahead":                2500,
	"a deletion by datagram, after what was written once it was forgotten":        923,
	"a deletion that its writer never claimed, before another one, and forgotten": 4347,
	"what is handed to a process that is silent while its clock is wrong":         2802,
	"what a peer had left out of its answers for a moment, and had seen":          1535,
}

func TestLightWeeksThatFailedOnce(t *testing.T) {
	for name, seed := range lightWeeks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := draw(seed)
			p.light = true
			p.test(t)
		})
	}
}

// test plays a plan, and shrinks it if it fails.
func (p plan) test(t *testing.T) {
	t.Helper()
	err := p.run(t, "")
	if err == nil {
		return
	}
	t.Errorf("seed %d: %v", p.seed, err)
	if os.Getenv("POLYKV_SIM_SHRINK") != "" {
		small, err := p.shrink(t, "")
		t.Errorf("with %d of %d events: %v\n%v", len(small.events), len(p.events), err, small.events)
	}
}
