package multi_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/multi"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// denyingAt times the writes of one store, and refuses them when it is told to.
func denyingAt(which int, c *clock) func(at int, s driver.Store) driver.Store {
	return func(at int, s driver.Store) driver.Store {
		if at != which {
			return s
		}
		return clocked{Store: s, swaps: c}
	}
}

// What comparisons of whole stores return, keep for the status and tell.
func TestWhatComparisonsTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, d, swaps := newPair(t), &diary{}, newClock()
		cfg := multi.DefaultConfig()
		cfg.RepairInterval = 0
		c := p.open(cfg, denyingAt(1, swaps), d.options()...)
		if s := c.Status(); s.Verify != nil || s.Repair != nil {
			t.Errorf("at first: %+v, %+v", s.Verify, s.Repair)
		}
		for i := range 130 {
			put(t, p.plain[0], fmt.Sprintf("k%03d", i), "v")
		}
		put(t, p.plain[1], "extra", "v")
		kept := func(what string, got *multi.Comparison, kind, says string, differences int, took time.Duration) {
			t.Helper()
			if got == nil {
				t.Fatalf("%s: nothing is kept", what)
			}
			if got.Kind != kind || got.From != "first" || got.To != "second" || got.Ended.Sub(got.Started) != took || !got.Ended.Equal(time.Now()) ||
				!strings.Contains(got.Error, says) || says == "" && got.Error != "" || len(got.Differences) != differences {
				t.Errorf("%s: kept %+v", what, got)
			}
		}
		d.take()
		totals, differences, err := c.Verify(t.Context())
		if err != nil || totals.Keys != 131 || totals.Different != 131 || len(differences) != 100 {
			t.Errorf("Verify: %+v, %d differences, %v", totals, len(differences), err)
		}
		kept("Verify", c.Status().Verify, "verify", "", 100, 1270*time.Millisecond)
		d.expect(t, "Verify", "repaired second: 131, <nil>")
		if c.Status().Repair != nil {
			t.Error("a comparison is no repair")
		}

		swaps.refuses.Store(true)
		totals, err = c.Repair(t.Context())
		if !errors.Is(err, kv.ErrPermission) || totals.Copied != 0 {
			t.Errorf("Repair of a store that refuses: %+v, %v", totals, err)
		}
		kept("Repair of a store that refuses", c.Status().Repair, "repair", "not for you", 0, 1270*time.Millisecond)
		d.expectAmong(t, "Repair of a store that refuses", map[string]int{"strays second: 0": 1, "repaired second: ": 1, "WARN": 0})
		err = errors.Join(c.SetMirroring(false), c.SetMirroring(true))
		time.Sleep(time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		d.expectAmong(t, "one in the background", map[string]int{`WARN msg="polykv: a repair of the secondary failed" keys=131 error=`: 1, "WARN": 1})
		swaps.refuses.Store(false)

		told := 0
		totals, err = c.Backfill(t.Context(), func(multi.Totals) { told++ })
		if err != nil || totals.Copied != 130 || totals.Kept != 1 || told < 2 {
			t.Errorf("Backfill: %+v, %v, told %d times", totals, err, told)
		}
		kept("Backfill", c.Status().Repair, "backfill", "", 0, 0)
		d.expect(t, "Backfill", "repaired second: 130, <nil>")
		for i := range 15 {
			put(t, p.plain[1], fmt.Sprintf("k%03d", i), "w")
		}
		totals, err = c.Repair(t.Context())
		if err != nil || totals.Copied != 15 || totals.Deleted != 1 {
			t.Errorf("Repair: %+v, %v", totals, err)
		}
		kept("Repair", c.Status().Repair, "repair", "", 0, 1270*time.Millisecond)
		lines := d.take()
		all := strings.Join(lines, "\n")
		_, first, _ := strings.Cut(all, `copied=15 deleted=1 first="[`)
		if first, _, _ = strings.Cut(first, "]"); len(strings.Fields(first)) != 10 || len(lines) != 3 || !strings.Contains(all, "strays second: 16") || !strings.Contains(all, "repaired second: 16, <nil>") {
			t.Errorf("Repair: told\n%s", all)
		}
		p.wantEqual()

		fails := func(what string, want error) {
			t.Helper()
			for op, call := range map[string]func() (multi.Totals, error){
				"repair":   func() (multi.Totals, error) { return c.Repair(t.Context()) },
				"backfill": func() (multi.Totals, error) { return c.Backfill(t.Context(), nil) },
				"verify":   func() (multi.Totals, error) { totals, _, err := c.Verify(t.Context()); return totals, err },
			} {
				if op == "verify" && errors.Is(want, kv.ErrFenced) {
					continue // it only reads
				}
				var e *kv.Error
				if totals, err := call(); !errors.Is(err, want) || !errors.As(err, &e) || e.Op != op || totals != (multi.Totals{}) {
					t.Errorf("%s, %s: %+v, %v", what, op, totals, err)
				}
			}
		}
		if err := c.SetMirroring(false); err != nil {
			t.Fatal(err)
		}
		fails("without mirroring", kv.ErrFenced)
		_ = c.Close()
		fails("after Close", kv.ErrClosed)
	})
}

// Close ends a comparison and a copy that are under way.
func TestCloseEndsComparisons(t *testing.T) {
	for op, call := range map[string]func(t *testing.T, c *multi.Client) error{
		"repair": func(t *testing.T, c *multi.Client) error { _, err := c.Repair(t.Context()); return err },
		"verify": func(t *testing.T, c *multi.Client) error { _, _, err := c.Verify(t.Context()); return err },
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t)
			put(t, p.plain[0], "k", "v")
			c := p.open(multi.DefaultConfig(), func(at int, s driver.Store) driver.Store {
				if at == 0 {
					return s
				}
				return hanging{s}
			})
			time.AfterFunc(100*time.Millisecond, func() { _ = c.Close() })
			if d := took(func() {
				if err := call(t, c); err == nil {
					t.Errorf("%s: no error", op)
				}
			}); d != 100*time.Millisecond {
				t.Errorf("%s: it ended after %v", op, d)
			}
		})
	}
}

// A fleet repairs once in an interval, not each client.
func TestAFleetRepairsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, d := newPair(t), &diary{}
		cfg := multi.DefaultConfig()
		cfg.RepairInterval = time.Minute
		for range 5 {
			p.open(cfg, nil, d.options()...)
		}
		d.take()
		time.Sleep(time.Hour)
		n := 0
		for _, line := range d.take() {
			if line == "repaired second: 0, <nil>" {
				n++
			}
		}
		if n < 60 || n > 125 { // five clients in turn, half a minute apart at least
			t.Errorf("%d repairs in an hour", n)
		}
	})
}

// What is wanted is done once, a switch that failed again after half a minute, and
// at once when something else is wanted.
func TestWhenWhatIsWantedIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, d := newPair(t), &diary{}
		var n notice
		var stall atomic.Bool
		n.say("first", true, nil)
		cfg := multi.DefaultConfig()
		cfg.MirrorAsync, cfg.RepairInterval = true, 0
		c := p.open(cfg, func(at int, s driver.Store) driver.Store {
			if at == 0 {
				return s
			}
			return stalled{s, &stall}
		}, append(d.options(), multi.WithWanted(n.read))...)
		d.take()
		time.Sleep(time.Minute)
		d.expect(t, "what is so already")
		stall.Store(true)
		put(t, c, "k", "v")
		time.Sleep(500 * time.Millisecond)
		d.take()
		phases := func(seconds int) string {
			var text strings.Builder
			for range seconds {
				time.Sleep(time.Second)
				if c.Status().Phase == multi.PhaseSwitching {
					text.WriteByte('s')
				} else {
					text.WriteByte('.')
				}
			}
			return text.String()
		}
		n.say("second", true, nil)
		once := strings.Repeat("s", 10) + strings.Repeat(".", 30)
		if got := phases(90); got != once+once+once[:10] {
			t.Errorf("it switches: %s", got)
		}
		d.expectAmong(t, "a switch that fails", map[string]int{`WARN msg="polykv: what is wanted of this client can't be done; it stays as it is" error=`: 1})
		side0, err := side.New("first", p.plain[0], nil)
		if err != nil {
			t.Fatal(err)
		}
		if all, err := side0.Heartbeats(t.Context()); err != nil || len(all) != 1 || all[0].Mode != side.ModeWanted || all[0].Waiting != 0 || len(all[0].Sees) != 0 ||
			all[0].Primary != "first" || all[0].Mirror != "second" || all[0].Epoch != 0 || all[0].Backlog != 1 || !strings.Contains(all[0].Problem, "not everything could be mirrored") {
			t.Errorf("a heartbeat says %+v, %v", all, err)
		}
		n.say("second", false, nil) // another wish
		if got := phases(11); got != "ssssssssss." {
			t.Errorf("when something else is wanted: %s", got)
		}
		n.say("first", true, nil)
		phases(2)
		if s := c.Status(); s.Problem != "" {
			t.Errorf("the problem is %q", s.Problem)
		}
		n.say("second", false, nil) // which failed a moment ago
		if got := phases(11); got != "ssssssssss." {
			t.Errorf("when it is wanted again: %s", got)
		}
		stall.Store(false)
		n.say("second", true, nil)
		phases(1)
		if c.Primary() != "second" {
			t.Errorf("the primary is %q", c.Primary())
		}
		d.take()
		n.say("first", true, errors.New("line 3"))
		time.Sleep(time.Minute)
		d.expect(t, "what can't be read", `WARN msg="polykv: what is wanted of this client can't be done; it stays as it is" error="line 3"`)
		n.say("second", true, nil)
		time.Sleep(time.Minute)
		d.expect(t, "what is so already, again")
		n.say("first", false, nil)
		time.Sleep(time.Second)
		d.expectAmong(t, "a switch and the end of mirroring", map[string]int{"moved: first": 1, `standing: plain, "first" of 0`: 2, "WARN": 0})
		n.say("second", true, errors.New("line 4"))
		_ = c.Close()
		time.Sleep(time.Minute)
		d.expectAmong(t, "after Close", map[string]int{"WARN": 0})
	})
}
