package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// What a cutover finds before it seals.
func TestStoresThatStandInTheWay(t *testing.T) {
	const prefix = "refused: not ready for the cutover, nothing was sealed: "
	for name, c := range map[string]struct {
		old, new, differ int // how many keys there are
		options          Options
		say              string
		compared         int
	}{
		"nothing":         {old: 3, new: 3},
		"no keys":         {say: `store "old" holds no keys: is this the store, and the prefix? (--allow-empty goes on all the same)`},
		"no keys allowed": {options: Options{AllowEmpty: true}},
		"one differs": {
			old: 3, new: 3, differ: 1,
			say: `1 keys differ, "k000" (different) among them: run "polykv copy" and "polykv verify", or all of them are made as they are in store "old" (--allow-differences goes on all the same)`,
		},
		"some are missing": {old: 99, say: `99 keys differ, "k000" (missing) among them`},
		"many are missing": {old: 150, say: `at least 100 keys differ, "k000" (missing) among them`},
		"and allowed":      {old: 150, options: Options{AllowDifferences: true}},
	} {
		for _, dry := range []bool{false, true} {
			virtually(t, fmt.Sprintf("%s/dry=%v", name, dry), func(t *testing.T) {
				r := newRig(t)
				for i := range c.old {
					r.put(0, fmt.Sprintf("k%03d", i), "v")
				}
				for i := range c.new {
					value := "v"
					if i < c.differ {
						value = "w"
					}
					r.put(1, fmt.Sprintf("k%03d", i), value)
				}
				r.set("primary standby")
				o := c.options
				o.DryRun, o.AllowNoClients = dry, true
				result, err := r.careful(o).Cutover(t.Context())
				if c.say == "" {
					if err != nil || result.Before == nil || result.Before.Keys != c.old {
						t.Errorf("%+v, %v", result, err)
					}
					if left := reserved(t, r); strings.Contains(left, side.ScratchPrefix) {
						t.Errorf("it left %s", left)
					}
					return
				}
				var no *NotReadyError
				if !errors.As(err, &no) || len(no.Blockers) != 1 || !strings.HasPrefix(err.Error(), prefix+c.say) {
					t.Errorf("%v, want %s", err, c.say)
				}
				r.want("primary standby")
			})
		}
	}
}

// A dry run says what would be deleted in the store that is to be primary.
func TestDryCutoverTellsWhatItDeletes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.put(0, "k", "v")
		for i := range 120 {
			r.put(1, fmt.Sprintf("x%03d", i), "v")
		}
		r.set("primary standby")
		result, err := r.migration(Options{DryRun: true}).Cutover(t.Context())
		if err != nil || len(result.Deletes) != 100 || result.Deletes[0] != "x000" || result.Deletes[99] != "x099" {
			t.Errorf("%+v, %v", result, err)
		}
		result, err = r.careful(Options{AllowNoClients: true}).Cutover(t.Context())
		wantErr(t, err, ErrRefused)
		if len(result.Deletes) != 0 {
			t.Errorf("one that isn't dry tells of %v", result.Deletes)
		}
	})
}

// slow has each scan of the users' keys of a store take that long, while the records
// are these.
func (r *rig) slow(store int, takes time.Duration, while string) {
	r.patient(store)
	r.hooks[store].onScan = func(prefix string) {
		if prefix == "" && r.states() == while {
			time.Sleep(takes)
		}
	}
}

// A pause that is sure to be too long is not begun.
func TestPauseIsPredicted(t *testing.T) {
	for name, c := range map[string]struct {
		takes   time.Duration
		options Options
		equal   bool
		check   string
	}{
		"it fits":        {9 * time.Second, Options{}, true, ""},
		"to the instant": {10 * time.Second, Options{}, true, ""},
		"it is too long": {11 * time.Second, Options{}, true, "pause"},
		"no limit":       {11 * time.Second, Options{MaxPause: -1}, true, ""},
		"keys differ":    {11 * time.Second, Options{}, false, "differences"},
		"they may":       {11 * time.Second, Options{AllowDifferences: true}, false, ""},
	} {
		virtually(t, name, func(t *testing.T) {
			r := newRig(t)
			r.put(0, "k", "v")
			if c.equal {
				r.put(1, "k", "v")
			}
			r.set("primary standby")
			r.slow(0, c.takes, "primary standby")
			o := c.options
			o.AllowNoClients = true
			result, err := r.careful(o).Cutover(t.Context())
			var no *NotReadyError
			if c.check == "" {
				if err != nil {
					t.Fatal(err)
				}
			} else if !errors.As(err, &no) || len(no.Blockers) != 1 || no.Blockers[0].Check != c.check {
				t.Fatalf("%v", err)
			}
			if result.Predicted < c.takes || result.Predicted > c.takes+2*time.Second {
				t.Errorf("predicted are %v", result.Predicted)
			}
			if c.check == "pause" && !strings.HasSuffix(err.Error(), "to compare the stores took 11s beside the clients' work, and writes may wait for as long, which is more than 10s (a longer --max-pause goes on all the same)") {
				t.Error(err)
			}
		})
	}
}

// Writes wait for the longest pause at most, counted from the seal, whoever made
// it, and no longer than that.
func TestLongestPause(t *testing.T) {
	for name, c := range map[string]struct {
		states  string
		takes   time.Duration
		options Options
		pauses  bool // the result tells of a pause
		undone  bool
	}{
		"it is kept":             {"primary standby", 9 * time.Second, Options{}, true, false},
		"it is not":              {"primary standby", 11 * time.Second, Options{}, false, true},
		"there is none":          {"primary standby", 11 * time.Second, Options{MaxPause: -1}, true, false},
		"another run sealed":     {"sealed filling", 11 * time.Second, Options{}, false, true},
		"the way back":           {"standby primary", 11 * time.Second, Options{}, false, true},
		"the way back, resealed": {"standby sealed", 11 * time.Second, Options{}, false, true},
	} {
		virtually(t, name, func(t *testing.T) {
			r := newRig(t)
			r.put(0, "k", "v")
			r.put(1, "k", "v")
			r.set(c.states)
			command, from, filling, ends, undone := (*Migration).Cutover, 0, "sealed filling", "standby primary", "primary standby"
			if c.states == "standby primary" || c.states == "standby sealed" {
				command, from, filling, ends, undone = (*Migration).Rollback, 1, "filling sealed", "primary standby", "standby primary"
			}
			r.slow(from, c.takes, filling)
			result, err := command(r.migration(c.options), t.Context())
			if c.undone {
				wantErr(t, err, ErrPause)
				if !strings.HasSuffix(err.Error(), " failed and was undone, clients go on as before: writes had waited for the longest pause that is allowed, 10s") || !errors.As(err, new(*UndoneError)) {
					t.Error(err)
				}
				ends = undone
			} else if err != nil {
				t.Fatal(err)
			}
			if c.pauses != (result.Pause > 0) || c.pauses && (result.Pause < c.takes || result.Pause > c.takes+time.Second) {
				t.Errorf("the pause was %v", result.Pause)
			}
			r.want(ends)
		})
	}
}

// A pause that was over, since a primary was made, or was never begun, ends nothing
// that comes later.
func TestPauseEndsWithThePrimary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.put(0, "k", "v")
		r.put(1, "k", "v")
		r.set("primary standby")
		r.patient(0)
		r.hooks[0].onSwap = func(s driver.Swap) error {
			if s.Key == side.RecordKey && r.states() == "sealed primary" {
				time.Sleep(time.Minute) // to let the source go
			}
			return nil
		}
		result, err := r.migration(Options{}).Cutover(t.Context())
		if err != nil || result.Pause > time.Second {
			t.Errorf("%+v, %v", result, err)
		}
		r.want("standby primary")
	})
	for takes, want := range map[time.Duration]string{8 * time.Second: "standby primary", 11 * time.Second: "primary standby"} {
		synctest.Test(t, func(t *testing.T) { somebodyElseIsFirst(t, takes, want) })
	}
}

// somebodyElseIsFirst has the source change right before a cutover seals it, which
// does so in its next pass.
func somebodyElseIsFirst(t *testing.T, takes time.Duration, want string) {
	r := newRig(t)
	r.put(0, "k", "v")
	r.put(1, "k", "v")
	r.set("primary standby")
	changed := false
	r.hooks[0].onSwap = func(s driver.Swap) error {
		if s.Key == side.RecordKey && !changed {
			changed = true
			record, version, err := r.sides[0].ReadRecord(context.Background())
			if err == nil {
				_, _, err = r.sides[0].SwapRecord(context.Background(), version, record)
			}
			return err
		}
		return nil
	}
	r.slow(0, 8*time.Second, "primary standby")
	r.slow(1, takes, "sealed filling")
	if _, err := r.migration(Options{}).Cutover(t.Context()); errors.Is(err, ErrPause) != (takes > DefaultMaxPause) {
		t.Error(err)
	}
	r.want(want)
}

// The one key that is written to learn whether that is allowed stays the only one.
func TestOneKeyIsTried(t *testing.T) {
	r := newRig(t)
	for _, key := range []string{"a", "b", "c"} {
		r.put(0, key, "v")
		r.put(1, key, "v")
	}
	r.set("primary standby")
	written := ""
	r.hooks[1].onSwap = func(s driver.Swap) error {
		if !strings.HasPrefix(s.Key, kv.ReservedSegment) {
			written += s.Key
		}
		return nil
	}
	if r.do(r.migration(Options{}).Cutover); written != "a" {
		t.Errorf("it wrote %s", written)
	}
}

// Before it seals, a cutover that may copy goes through the keys again while many
// change, but not for ever.
func TestCutoverCopiesUntilLittleIsLeft(t *testing.T) {
	for name, c := range map[string]struct{ changes, rounds int }{
		"few": {100, 1}, "many": {101, 5},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			scans := 0
			r.hooks[0].onScan = func(prefix string) {
				if prefix == "" && r.states() == "primary standby" {
					scans++
					for i := range c.changes {
						r.put(0, fmt.Sprintf("k%03d", i), fmt.Sprint(scans))
					}
				}
			}
			r.set("primary standby")
			result, err := r.migration(Options{}).Cutover(t.Context())
			if err != nil || scans != c.rounds || result.Before.Different != c.changes*c.rounds || result.Before.Copied != c.changes*c.rounds || result.Before.Keys != c.changes {
				t.Errorf("%d rounds, %+v, %v", scans, result.Before, err)
			}
			if r.all(0) != r.all(1) {
				t.Error("the stores differ")
			}
		})
	}
}
