package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// From every phase to every stage by the commands that lead there, or a refusal where
// there is no way; and a second run finds nothing to do.
func TestConverge(t *testing.T) {
	ends := map[Stage]string{
		StageMirroring: "primary standby", StageCopied: "primary standby", StageMoved: "standby primary", StageFinished: "retired primary", StageGivenUp: "primary retired",
	}
	const noWay = "no way"
	fromNone := []string{"start", "start copy", "start cutover", "start cutover finish", "start finish"}
	fromSealed := []string{"abort", "abort copy", "cutover", "cutover finish", "abort finish"}
	fromSealing := []string{"rollback", "rollback copy", "abort", "abort finish", "rollback finish"}
	fromDetachedBack := []string{"abort rollback", "abort rollback copy", "abort", "abort finish", "abort rollback finish"}
	for states, routes := range map[string][]string{ // in the order of stages
		"none none":       fromNone,
		"primary none":    fromNone,
		"primary standby": {"", "copy", "cutover", "cutover finish", "finish"},
		"sealed standby":  fromSealed,
		"sealed filling":  fromSealed,
		"sealed primary":  {"cutover rollback", "cutover rollback copy", "cutover", "cutover finish", "cutover rollback finish"},
		"standby primary": {"rollback", "rollback copy", "", "finish", "rollback finish"},
		"standby sealed":  fromSealing,
		"filling sealed":  fromSealing,
		"primary sealed":  {"rollback", "rollback copy", "rollback cutover", "rollback cutover finish", "rollback finish"},
		"retired primary": {noWay, noWay, "", "", noWay},
		"primary retired": {"start", "start copy", "start cutover", "start cutover finish", ""},
		"sealed retired":  {"abort start", "abort start copy", "abort start cutover", "abort start cutover finish", "abort"},
		"retired sealed":  {noWay, noWay, "abort", "abort", noWay},
		"primary filling": {"abort", "abort copy", "abort cutover", "abort cutover finish", "abort finish"},
		"filling primary": fromDetachedBack,
		"primary primary": fromDetachedBack,
		"none primary":    {noWay, noWay, noWay, noWay, noWay},
		"standby standby": {noWay, noWay, noWay, noWay, noWay},
	} {
		for i, stage := range stages {
			t.Run(fmt.Sprintf("%s/%s", states, stage), func(t *testing.T) {
				r := newRig(t)
				r.put(0, "k", "v")
				r.put(1, "k", "v")
				r.set(states)
				m := r.migration(Options{AllowKeys: true})
				results, err := m.Converge(t.Context(), stage, ConvergeOptions{})
				if routes[i] == noWay {
					wantErr(t, err, ErrRefused)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if route := commandsOf(results); route != routes[i] {
					t.Errorf("it went by %q, want %q", route, routes[i])
				}
				want := ends[stage]
				if strings.HasPrefix(states, "retired") { // for good
					want = "retired primary"
				}
				r.want(want)
				again, err := m.Converge(t.Context(), stage, ConvergeOptions{})
				if route := commandsOf(again); err != nil || route != map[bool]string{true: "copy"}[stage == StageCopied] {
					t.Errorf("the second run went by %q, %v", route, err)
				}
			})
		}
	}
	_, err := newRig(t).migration(Options{}).Converge(t.Context(), "done", ConvergeOptions{})
	if err == nil || err.Error() != `stage: "done" is not allowed; it must be one of: mirroring, copied, moved, finished, given-up` {
		t.Errorf("%v", err)
	}
}

func commandsOf(results []Result) string {
	names := make([]string, len(results))
	for i, result := range results {
		names[i] = result.Command
	}
	return strings.Join(names, " ")
}

// A dry run tells of the first step alone, and changes nothing.
func TestDryConverge(t *testing.T) {
	for _, c := range []struct {
		states string
		to     Stage
		want   string
	}{
		{"none none", StageFinished, "start"}, {"primary standby", StageFinished, "cutover"}, {"primary standby", StageCopied, ""}, {"standby primary", StageMoved, ""},
	} {
		virtually(t, fmt.Sprintf("%s/%s", c.states, c.to), func(t *testing.T) {
			r := newRig(t)
			r.put(0, "k", "v")
			r.set(c.states)
			results, err := r.migration(Options{DryRun: true}).Converge(t.Context(), c.to, ConvergeOptions{})
			if err != nil || commandsOf(results) != c.want {
				t.Errorf("from %s to %s: %v, %v", c.states, c.to, results, err)
			}
			if r.want(c.states); r.all(1) != "" {
				t.Errorf("from %s to %s: keys were copied", c.states, c.to)
			}
		})
	}
}

// What is in the way and may go away by itself is waited for, what won't is told at
// once.
func TestConvergeWaitsForWhatMayGoAway(t *testing.T) {
	for name, c := range map[string]struct {
		states  string
		to      Stage
		arrange func(r *rig)
		mend    func(r *rig)
		reason  string
		first   string // what the first call does
		route   string
	}{
		"a key that is in the target alone": {
			"primary standby", StageMoved, func(r *rig) { r.put(1, "x", "v"); r.put(1, "y", "v") }, func(r *rig) { r.put(1, "x", ""); r.put(1, "y", "") },
			`keys differ though they were just copied: 2 of them, "x" (extra) among them`, "", "cutover",
		},
		"one key": {
			"primary standby", StageCopied, func(r *rig) { r.put(1, "x", "v") }, func(r *rig) { r.put(1, "x", "") },
			`keys differ though they were just copied: 1 of them, "x" (extra) among them`, "", "copy",
		},
		"a pause that was too long": {
			"primary standby", StageMoved, func(r *rig) { r.slow(0, 11*time.Second, "sealed filling") }, func(r *rig) { r.hooks[0].onScan = nil },
			"the cutover failed and was undone, clients go on as before: writes had waited for the longest pause that is allowed, 10s", "cutover", "cutover cutover",
		},
		"a key that differs at the end": {
			"standby primary", StageFinished, func(r *rig) { r.put(0, "x", "v") }, func(r *rig) { r.put(0, "x", "") }, "1 keys differ between store", "", "finish",
		},
		"a cutover that was undone for another reason": {
			"primary standby", StageMoved, func(r *rig) {
				r.before(1, 2, func() {})
				count := r.hooks[1].onSwap
				r.hooks[1].onSwap = func(s driver.Swap) error {
					if r.states() == "sealed standby" {
						return errFault
					}
					return count(s)
				}
			}, nil, "", "cutover", "cutover",
		},
	} {
		virtually(t, name, func(t *testing.T) {
			r := newRig(t)
			r.put(0, "k", "v")
			r.put(1, "k", "v")
			r.set(c.states)
			c.arrange(r)
			m := r.careful(Options{AllowNoClients: true})
			results, err := m.Converge(t.Context(), c.to, ConvergeOptions{})
			if err == nil || commandsOf(results) != c.first {
				t.Fatalf("without waiting: %v by %v", err, results)
			}
			c.arrange(r)
			var reasons []string
			results, err = m.Converge(t.Context(), c.to, ConvergeOptions{Wait: time.Hour, Waiting: func(reason error) {
				reasons = append(reasons, reason.Error())
				c.mend(r)
			}})
			if c.mend == nil {
				if err == nil || len(reasons) != 0 || commandsOf(results) != c.route {
					t.Errorf("%v by %v, after %q", err, results, reasons)
				}
				return
			}
			if err != nil || len(reasons) != 1 || !strings.HasPrefix(reasons[0], c.reason) || commandsOf(results) != c.route {
				t.Errorf("%v by %v, after %q", err, results, reasons)
			}
		})
	}
}

// A step that was made is told even if what comes after it fails.
func TestConvergeTellsWhatItDid(t *testing.T) {
	r := newRig(t)
	r.set("standby primary")
	r.beat(Heartbeat{Instance: "gone", Beat: 1}, 0, 1)
	r.hooks[0].onSwap = func(s driver.Swap) error {
		if strings.HasPrefix(s.Key, side.ClientsPrefix) {
			return errFault
		}
		return nil
	}
	results, err := r.migration(Options{}).Converge(t.Context(), StageFinished, ConvergeOptions{})
	wantErr(t, err, errFault)
	if commandsOf(results) != "finish" {
		t.Errorf("it tells of %v", results)
	}
	r.want("retired primary")
}

// Somebody who undoes every step doesn't keep it busy for ever.
func TestConvergeGivesUp(t *testing.T) {
	r := newRig(t)
	r.put(0, "k", "v")
	r.put(1, "k", "v")
	r.set("primary standby")
	other := r.again().migration(Options{})
	m := r.migration(Options{Changed: func(c Change) {
		if c.Store == "old" && c.To == side.Standby { // the end of a cutover
			r.do(other.Rollback)
		}
	}})
	results, err := m.Converge(t.Context(), StageFinished, ConvergeOptions{})
	wantErr(t, err, ErrRefused)
	if len(results) != 20 || !strings.Contains(err.Error(), "given up after 20 steps") {
		t.Errorf("%s, %v", commandsOf(results), err)
	}
}

// It may be killed anywhere and run again.
func TestConvergeIsKilledAtEveryWrite(t *testing.T) {
	for n := 1; n < 15; n++ {
		r := newRig(t)
		r.put(0, "k", "v")
		r.killAt(n)
		_, err := r.migration(Options{}).Converge(t.Context(), StageFinished, ConvergeOptions{})
		if err == nil {
			if n < 9 {
				t.Errorf("it makes only %d writes", n)
			}
			return
		}
		if _, err := r.again().migration(Options{}).Converge(t.Context(), StageFinished, ConvergeOptions{}); err != nil {
			t.Errorf("killed at %d: %v", n, err)
		}
		r.want("retired primary")
		if r.all(1) != "k=v " {
			t.Errorf("killed at %d: %s", n, r.all(1))
		}
	}
}

// It waits until the fleet is ready, and says for what.
func TestConvergeWaitsUntilReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.put(0, "k", "v")
		m := r.careful(Options{AllowMisconfigured: true})
		_, err := m.Converge(t.Context(), StageMoved, ConvergeOptions{Wait: 10 * time.Second})
		wantErr(t, err, ErrRefused)
		r.want("primary standby")
		var reasons []error
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var client sync.WaitGroup
		client.Go(func() {
			time.Sleep(time.Minute)
			for beat := uint64(1); ctx.Err() == nil; beat++ { // a client that is rolled out at last
				h := Heartbeat{Instance: "late", Beat: beat, Seen: time.Now(), Primary: "old"}
				for _, s := range r.sides {
					record, version, err := s.ReadRecord(ctx)
					if err != nil {
						return
					}
					h.Sees = append(h.Sees, side.Sight{Store: s.Name(), Migration: record.Migration, Version: uint64(version)})
				}
				for _, s := range r.sides {
					if s.WriteHeartbeat(ctx, h) != nil {
						return
					}
				}
				time.Sleep(time.Second)
			}
		})
		_, err = m.Converge(ctx, StageMoved, ConvergeOptions{Wait: 30 * time.Minute, Waiting: func(err error) { reasons = append(reasons, err) }})
		if err != nil || len(reasons) != 1 || !errors.Is(reasons[0], ErrRefused) {
			t.Errorf("%v after %v", err, reasons)
		}
		cancel()
		client.Wait()
		r.want("standby primary")
	})
}
