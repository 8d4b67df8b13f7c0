package migrate

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// Only the outage of a store has an abort go on without it.
func TestAbortThatGoesOnAloneOrDoesNot(t *testing.T) {
	for name, c := range map[string]struct {
		states  string
		arrange func(r *rig) context.Context
		options Options
		want    error // nil: it goes on alone
	}{
		"a dry run": {"sealed standby", func(r *rig) context.Context { r.lost(1); return r.t.Context() }, Options{DryRun: true}, kv.ErrUnavailable},
		"no rights": {"sealed standby", func(r *rig) context.Context {
			r.hooks[1].onSwap = denied(func(string) bool { return true })
			return r.t.Context()
		}, Options{}, kv.ErrPermission},
		"both are lost":          {"sealed standby", func(r *rig) context.Context { r.lost(0); r.lost(1); return r.t.Context() }, Options{}, kv.ErrUnavailable},
		"the sealed one is lost": {"sealed standby", func(r *rig) context.Context { r.lost(0); return r.t.Context() }, Options{}, kv.ErrUnavailable},
		"there is no migration":  {"none none", func(r *rig) context.Context { r.lost(1); return r.t.Context() }, Options{}, kv.ErrUnavailable},
		"it is over":             {"retired primary", func(r *rig) context.Context { r.lost(1); return r.t.Context() }, Options{}, kv.ErrUnavailable},
		"it can't be unsealed": {"sealed standby", func(r *rig) context.Context {
			r.lost(1)
			r.hooks[0].onSwap = denied(func(string) bool { return true })
			return r.t.Context()
		}, Options{}, kv.ErrPermission},
		"the other one hangs": {"sealed standby", func(r *rig) context.Context {
			r.hooks[1].frozen = true
			return r.t.Context()
		}, Options{}, nil},
		"the first one hangs": {"standby sealed", func(r *rig) context.Context {
			r.hooks[0].frozen = true
			return r.t.Context()
		}, Options{}, nil},
		"its ctx ends": {"sealed standby", func(r *rig) context.Context {
			r.hooks[1].frozen = true
			ctx, cancel := context.WithTimeout(r.t.Context(), time.Second)
			r.t.Cleanup(cancel)
			return ctx
		}, Options{}, context.DeadlineExceeded},
	} {
		virtually(t, name, func(t *testing.T) {
			r := newRig(t)
			r.set(c.states)
			result, err := r.migration(c.options).Abort(c.arrange(r))
			if c.want != nil {
				wantErr(t, err, c.want)
				r.want(c.states)
				return
			}
			if want := strings.Replace(c.states, "sealed", "primary", 1); err != nil || result.Left == "" || len(result.Changes) != 1 || result.Changes[0].To != side.Primary {
				t.Errorf("%+v, %v", result, err)
			} else {
				r.want(want)
			}
		})
	}
}

// What an abort that must stop at the final seal says.
func TestAbortStopsAtTheFinalSeal(t *testing.T) {
	r := newRig(t)
	r.set("sealed filling")
	r.seal(0)
	r.lost(1)
	_, err := r.migration(Options{}).Abort(t.Context())
	wantErr(t, err, kv.ErrUnavailable)
	if !strings.HasPrefix(err.Error(), `store "old" can't be unsealed: the cutover was about to make store "new" primary`) {
		t.Error(err)
	}
}

// What a forced store is, and what keeps one from being forced.
func TestForceTellsAndObeys(t *testing.T) {
	lost := func(r *rig) { r.lost(1) }
	for name, c := range map[string]struct {
		states  string
		arrange func(r *rig)
		options Options
		changes string
		after   string
		want    error
		say     string
	}{
		"sealed":        {states: "sealed filling", arrange: lost, changes: "[{old sealed primary 3}]", after: "primary filling"},
		"finally":       {states: "sealed filling", arrange: func(r *rig) { r.seal(0); r.lost(1) }, changes: "[{old sealed primary 3}]", after: "primary filling"},
		"a dry run":     {states: "sealed filling", arrange: lost, options: Options{DryRun: true}, changes: "[{old sealed primary 3}]"},
		"it is already": {states: "primary standby", arrange: lost, changes: "[]"},
		"it hangs":      {states: "standby primary", arrange: func(r *rig) { r.hooks[1].frozen = true }, changes: "[{old standby primary 3}]", after: "primary primary"},
		"it answers":    {states: "standby primary", arrange: func(*rig) {}, want: ErrRefused, say: `store "new" is not lost, it answers; run`},
		"it answers no": {
			states: "standby primary", arrange: func(r *rig) { r.hooks[1].getErr = func() error { return driver.ErrPermission } },
			want: ErrRefused, say: `store "new" is not lost, it answers: `,
		},
		"this one is lost": {states: "standby primary", arrange: func(r *rig) { r.lost(0); r.lost(1) }, want: kv.ErrUnavailable},
		"it can't be written": {states: "standby primary", arrange: func(r *rig) {
			r.lost(1)
			r.hooks[0].onSwap = denied(func(string) bool { return true })
		}, want: kv.ErrPermission},
		"no heartbeats": {states: "standby primary", arrange: func(r *rig) {
			r.lost(1)
			r.hooks[0].onScan = func(string) { r.hooks[0].getErr = func() error { return errFault } }
		}, want: errFault},
		"another migration": {states: "none none", arrange: func(r *rig) {
			record := side.Record{State: side.Standby, Epoch: 4, Migration: "m", Source: "old", Target: "third"}
			if _, _, err := r.sides[0].SwapRecord(r.t.Context(), 0, record); err != nil {
				r.t.Fatal(err)
			}
			r.lost(1)
		}, want: ErrRefused, say: `the record of store "old" belongs to a migration from "old" to "third"`, after: "standby none"},
		"a client that was there a while ago": {states: "standby primary", arrange: func(r *rig) {
			h := r.ready("i", 1)
			h.Primary, h.Seen = "new", time.Now().Add(storeTimeout-lateAfter)
			r.beat(h, 0)
			r.patient(1)
			r.hooks[1].frozen = true
		}, changes: "[{old standby primary 3}]", after: "primary primary"},
		"a client that uses the other one": {states: "standby primary", arrange: func(r *rig) {
			h := r.ready("i", 1)
			h.Primary, h.Seen = "new", time.Now().Add(-lateAfter+time.Second)
			r.beat(h, 0)
			r.lost(1)
		}, want: ErrRefused, say: `clients that were seen within the last 25s use store "new": host (pid 7); if`},
		"a client that lost it too": {states: "standby primary", arrange: func(r *rig) {
			h := r.ready("i", 1)
			h.Primary, h.Sees[1].Error = "new", "connection refused"
			r.beat(h, 0)
			r.lost(1)
		}, changes: "[{old standby primary 3}]", after: "primary primary"},
		"a client that uses this one": {states: "standby primary", arrange: func(r *rig) {
			r.beat(r.ready("i", 1), 0)
			r.lost(1)
		}, changes: "[{old standby primary 3}]", after: "primary primary"},
		"a client of other stores": {states: "standby primary", arrange: func(r *rig) {
			h := r.ready("i", 1)
			h.Primary, h.Sees = "new", nil
			r.beat(h, 0)
			r.lost(1)
		}, changes: "[{old standby primary 3}]", after: "primary primary"},
	} {
		virtually(t, name, func(t *testing.T) {
			r := newRig(t)
			r.set(c.states)
			c.arrange(r)
			var told []Change
			o := c.options
			o.Changed = func(c Change) { told = append(told, c) }
			result, err := r.migration(o).Force(t.Context(), "old")
			if c.after == "" {
				c.after = c.states
			}
			if c.want != nil {
				wantErr(t, err, c.want)
				if !strings.Contains(err.Error(), c.say) || len(result.Changes) != 0 || result.Command != "force" {
					t.Errorf("%v, %v", err, result.Changes)
				}
			} else if err != nil || fmt.Sprint(result.Changes) != c.changes || result.Phase != Unknown || result.Command != "force" || result.DryRun != o.DryRun || len(told) != len(result.Changes) {
				t.Errorf("%+v, %v, want %s", result, err, c.changes)
			}
			r.want(c.after)
			record, _, err := r.sides[0].ReadRecord(t.Context())
			if err != nil || strings.HasPrefix(c.after, "primary") && record.Final {
				t.Errorf("%+v, %v", record, err)
			}
		})
	}
	t.Run("its ctx ends", func(t *testing.T) {
		r := newRig(t)
		r.set("standby primary")
		r.hooks[1].frozen = true
		ctx, cancel := context.WithCancel(t.Context())
		r.hooks[1].onGet = func(string) { cancel() }
		_, err := r.migration(Options{}).Force(ctx, "old")
		wantErr(t, err, context.Canceled)
		if errors.Is(err, ErrRefused) {
			t.Error(err)
		}
		r.want("standby primary")
	})
}

// A start leaves nothing behind but the records, and tells who begins.
func TestStartLeavesRecordsAlone(t *testing.T) {
	r := newRig(t)
	r.do(r.migration(Options{}).Start)
	if left := reserved(t, r); left != ".polykv/record .polykv/record " {
		t.Errorf("it left %s", left)
	}
	for i, s := range r.sides {
		record, _, err := s.ReadRecord(t.Context())
		self, userErr := user.Current()
		if err = errors.Join(err, userErr); err != nil || record.By.User != self.Username || record.By.Host != side.Hostname() || record.Epoch != 1 ||
			record.Source != "old" || record.Target != "new" || record.Store != []string{"old", "new"}[i] || record.Migration == "" {
			t.Errorf("%+v, %v", record, err)
		}
	}
	// It tries nothing in a dry run, and where it has begun.
	for _, states := range []string{"none none", "primary none"} {
		r := newRig(t)
		r.set(states)
		r.hooks[0].onSwap = func(s driver.Swap) error {
			if s.Key != side.RecordKey {
				t.Errorf("%s: it writes %s", states, s.Key)
			}
			return nil
		}
		if _, err := r.migration(Options{DryRun: states == "none none"}).Start(t.Context()); err != nil {
			t.Errorf("%s: %v", states, err)
		}
	}
	denying := newRig(t)
	denying.hooks[0].onSwap = denied(func(string) bool { return true })
	_, err := denying.migration(Options{}).Start(t.Context())
	wantErr(t, err, kv.ErrPermission)
}

// A finish forgets clients, a dry run doesn't; and rights to do so are not needed.
func TestFinishForgets(t *testing.T) {
	for name, c := range map[string]struct {
		dry, denied bool
		left        int
	}{"a dry run": {true, false, 2}, "no rights": {false, true, 1}, "all rights": {false, false, 0}} {
		r := newRig(t)
		r.set("standby primary")
		r.beat(Heartbeat{Instance: "gone", Beat: 1}, 0, 1)
		if c.denied {
			r.hooks[0].onSwap = denied(func(key string) bool { return strings.HasPrefix(key, side.ClientsPrefix) })
		}
		if _, err := r.migration(Options{DryRun: c.dry}).Finish(t.Context(), "new"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if left := strings.Count(reserved(t, r), "gone"); left != c.left {
			t.Errorf("%s: %d are left", name, left)
		}
	}
}

// What a finish finds is told with the clients that may be why.
func TestFinishNamesClientsThatCrashed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.put(0, "k", "v")
		r.set("standby primary")
		r.beat(Heartbeat{Instance: "here", Beat: 1, Seen: time.Now()}, 0, 1)
		_, err := r.careful(Options{}).Finish(t.Context(), "")
		var differ *DifferencesError
		if !errors.As(err, &differ) || len(differ.Crashed) != 0 || strings.Contains(err.Error(), "crashed:") {
			t.Errorf("%v", err)
		}
		r.beat(Heartbeat{Instance: "there", Name: "web", Beat: 1, Seen: time.Now().Add(-lateAfter)}, 0, 1)
		_, err = r.careful(Options{}).Finish(t.Context(), "")
		if !errors.As(err, &differ) || len(differ.Crashed) != 1 || !strings.Contains(err.Error(), `"k" (extra) among them. These clients crashed: web. A client`) {
			t.Errorf("%v", err)
		}
	})
}
