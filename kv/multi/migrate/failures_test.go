package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// touch has somebody else write the record of a store once more, as it is.
func (r *rig) touch(store int) {
	r.t.Helper()
	record, version, err := r.sides[store].ReadRecord(context.Background())
	if err == nil {
		_, _, err = r.sides[store].SwapRecord(context.Background(), version, record)
	}
	if err != nil {
		r.t.Error(err)
	}
}

// A command that somebody else interferes with tries again, but not for ever.
func TestCommandsThatAreInterferedWith(t *testing.T) {
	for name, c := range map[string]struct {
		times int // how often somebody else changes the record first; negative: always
		limit time.Duration
		want  error
		say   string
	}{
		"now and then":  {times: 5},
		"without end":   {times: -1, want: kv.ErrConflict, say: "finish: given up after 50 passes, each of which somebody else interfered with: "},
		"ctx ends it":   {times: -1, limit: 3 * time.Second, want: context.DeadlineExceeded},
		"and tells why": {times: -1, limit: 3 * time.Second, want: kv.ErrConflict},
	} {
		virtually(t, name, func(t *testing.T) {
			r := newRig(t)
			r.set("standby primary")
			n := 0
			r.hooks[0].onSwap = func(s driver.Swap) error {
				if s.Key == side.RecordKey && n != c.times {
					n++
					r.touch(0)
				}
				return nil
			}
			ctx, cancel := t.Context(), func() {}
			if c.limit > 0 {
				ctx, cancel = context.WithTimeout(ctx, c.limit)
			}
			defer cancel()
			_, err := r.migration(Options{}).Finish(ctx, "")
			if c.want == nil {
				if err != nil || n != 5 {
					t.Errorf("after %d times: %v", n, err)
				}
				r.want("retired primary")
				return
			}
			wantErr(t, err, c.want)
			if !strings.Contains(err.Error(), c.say) {
				t.Error(err)
			}
			r.want("standby primary")
		})
	}
}

// What may be tried again, and what has ended a command.
func TestOvertaken(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{kv.ErrConflict, true},
		{kv.ErrFenced, true},
		{kv.ErrIndeterminate, true},
		{errFault, false},
		{kv.ErrUnavailable, false},
		{errors.Join(kv.ErrIndeterminate, context.Canceled), false},
		{errors.Join(kv.ErrConflict, kv.ErrTooLarge), false},
	} {
		if overtaken(c.err) != c.want {
			t.Errorf("%v: %v", c.err, !c.want)
		}
	}
}

// Why a ctx was cancelled is told once.
func TestInterruptedTellsWhy(t *testing.T) {
	why := errors.New("why")
	cancelled, cancel := context.WithCancelCause(context.Background())
	cancel(why)
	plain, cancelPlain := context.WithCancel(context.Background())
	cancelPlain()
	for _, c := range []struct {
		ctx  context.Context
		err  error
		want string
	}{
		{cancelled, context.Canceled, "why: context canceled"},
		{cancelled, fmt.Errorf("%w: %w", why, context.Canceled), "why: context canceled"},
		{cancelled, errFault, errFault.Error()},
		{plain, context.Canceled, "context canceled"},
		{context.Background(), context.Canceled, "context canceled"},
	} {
		if got := interrupted(c.ctx, c.err).Error(); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
	}
}

// A command that reached no record says what the other one tells.
func TestUnreached(t *testing.T) {
	for states, undone := range map[string]bool{
		"primary standby": true, "standby primary": true, "sealed standby": false, "none none": false, "filling sealed": false,
	} {
		r := newRig(t)
		r.set(states)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("interrupted"))
		err := r.migration(Options{}).Unreached(ctx, "copy", context.Canceled)
		wantErr(t, err, context.Canceled)
		want := "interrupted: context canceled"
		if undone {
			want = "the copy failed before it sealed anything, clients go on as before: " + want
		}
		if errors.As(err, new(*UndoneError)) != undone || err.Error() != want {
			t.Errorf("%s: %v", states, err)
		}
	}
}

// A store that hangs while writes wait: which one, and how long it takes until clients
// write again or the operator is told that they can't.
func TestStoreHangsWhileWritesWait(t *testing.T) {
	for _, c := range []struct {
		back   bool
		hangs  int    // the store
		sealed string // when it begins to
		took   time.Duration
		states string
		phase  Phase
		left   bool
	}{
		{false, 1, "sealed standby", 10 * time.Second, "primary standby", Mirroring, false},
		{false, 1, "sealed filling", 15 * time.Second, "primary filling", Detached, true},
		{true, 0, "filling sealed", 15 * time.Second, "filling primary", DetachedBack, true},
		{false, 0, "sealed filling", 40 * time.Second, "sealed filling", "", false},
		{true, 1, "filling sealed", 40 * time.Second, "filling sealed", "", false},
	} {
		virtually(t, fmt.Sprintf("%s/%d", c.sealed, c.hangs), func(t *testing.T) {
			r := newRig(t)
			r.put(0, "k", "v")
			r.put(1, "k", "v")
			command, states := (*Migration).Cutover, "primary standby"
			if c.back {
				command, states = (*Migration).Rollback, "standby primary"
			}
			r.set(states)
			r.patient(c.hangs)
			if c.sealed == "sealed standby" {
				r.hangOnceSealed(c.hangs)
			} else {
				r.hooks[c.hangs].onScan = func(string) { r.hooks[c.hangs].frozen = r.states() == c.sealed }
			}
			began := time.Now()
			result, err := command(r.migration(Options{}), t.Context())
			if took := time.Since(began).Round(time.Second); took != c.took {
				t.Errorf("it took %v", took)
			}
			r.want(c.states)
			var undone *UndoneError
			if c.phase == "" {
				var waiting *WaitingError
				if !errors.As(err, &waiting) || strings.Count(waiting.Undo.Error(), "\n") != 1 { // of both attempts
					t.Errorf("%v", err)
				}
				return
			}
			if !errors.As(err, &undone) || !undone.Sealed || (undone.Left != nil) != c.left || result.Phase != c.phase ||
				result.Changes[len(result.Changes)-1].To != side.Primary && c.left || len(result.Changes) < 2 {
				t.Errorf("%v, %+v", err, result)
			}
		})
	}
}

// A store that hangs is given five seconds, whenever it begins to.
func TestStatusOfAStoreThatHangs(t *testing.T) {
	for store := range 2 {
		for n := 1; n <= 3; n++ { // the read of a record from which on it hangs
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.set("primary standby")
				reads := 0
				r.patient(store)
				r.hooks[store].onGet = func(string) {
					reads++
					r.hooks[store].frozen = reads >= n
				}
				r.hooks[store].onScan = func(string) { r.hooks[store].frozen = false }
				began := time.Now()
				st, err := r.migration(Options{}).Status(t.Context())
				if took := time.Since(began); err != nil || took > 5*time.Second || reads > n+2 {
					t.Errorf("store %d, read %d: %v after %v: %+v", store, n, err, took, st)
				}
			})
		}
	}
}

// A command is done with the change that it was run for: what somebody else does right
// then is not undone.
func TestCommandsEndWithTheirChange(t *testing.T) {
	for _, c := range []struct {
		states  string
		command func(*Migration, context.Context) (Result, error)
		changes int
		then    string
	}{
		{"none none", (*Migration).Start, 2, "primary retired"},
		{"primary none", (*Migration).Start, 1, "primary retired"},
		{"primary retired", (*Migration).Start, 2, "primary retired"},
		{"sealed primary", (*Migration).Cutover, 1, "sealed primary"},
		{"primary sealed", (*Migration).Rollback, 1, "primary sealed"},
		{"sealed standby", (*Migration).Abort, 2, "sealed standby"},
		{"sealed filling", (*Migration).Abort, 2, "sealed standby"},
		{"standby sealed", (*Migration).Abort, 2, "standby sealed"},
		{"sealed retired", (*Migration).Abort, 2, "sealed retired"},
		{"primary filling", (*Migration).Abort, 2, "sealed standby"},
		{"primary primary", (*Migration).Abort, 2, "sealed standby"},
		{"standby primary", func(m *Migration, ctx context.Context) (Result, error) { return m.Finish(ctx, "") }, 1, "standby primary"},
		{"primary standby", func(m *Migration, ctx context.Context) (Result, error) { return m.Finish(ctx, "old") }, 1, "primary standby"},
	} {
		t.Run(c.states, func(t *testing.T) {
			r := newRig(t)
			r.set(c.states)
			made := 0
			result, err := c.command(r.migration(Options{Changed: func(Change) {
				if made++; made == c.changes {
					r.set(c.then)
				}
			}}), t.Context())
			if err != nil || len(result.Changes) != c.changes {
				t.Errorf("%+v, %v", result, err)
			}
			r.want(c.then)
		})
	}
}

// The one of two primaries that was forced stays, whichever it is.
func TestAbortKeepsTheForcedPrimary(t *testing.T) {
	r := newRig(t)
	r.set("primary primary")
	record, version, err := r.sides[0].ReadRecord(t.Context())
	record.Epoch = 3
	if _, _, swapErr := r.sides[0].SwapRecord(t.Context(), version, record); err != nil || swapErr != nil {
		t.Fatal(err, swapErr)
	}
	m := r.migration(Options{Changed: func(c Change) {
		if c.To == side.Standby {
			r.want("primary standby")
			r.set("sealed standby") // which it was not run for
		}
	}})
	r.do(m.Abort)
	r.want("sealed standby")
}

// A cutover whose source another run unsealed, without the target, was aborted.
func TestCutoverThatIsDetachedWasAborted(t *testing.T) {
	r := newRig(t)
	r.put(0, "k", "v")
	r.put(1, "k", "v")
	r.set("sealed filling")
	r.before(1, 1, func() { r.set("primary filling") })
	_, err := r.migration(Options{}).Cutover(t.Context())
	wantErr(t, err, ErrAborted)
	r.want("primary filling")
}

// A start that was interrupted is gone on with: the migration stays the same one.
func TestStartGoesOn(t *testing.T) {
	r := newRig(t)
	r.set("primary none")
	r.do(r.migration(Options{}).Start)
	for _, s := range r.sides {
		if record, _, err := s.ReadRecord(t.Context()); err != nil || record.Migration != "m" || record.Epoch != 1 {
			t.Errorf("%+v, %v", record, err)
		}
	}
	// Of two that began at once, one makes the records agree.
	record, version, err := r.sides[0].ReadRecord(t.Context())
	record.Migration = "m2"
	if _, _, swapErr := r.sides[0].SwapRecord(t.Context(), version, record); err != nil || swapErr != nil {
		t.Fatal(err, swapErr)
	}
	back := func(Change) { // the change is all that it was run for
		if record, version, err = r.sides[0].ReadRecord(t.Context()); err == nil {
			record.Migration = "m3"
			_, _, err = r.sides[0].SwapRecord(t.Context(), version, record)
		}
	}
	if result := r.do(r.migration(Options{Changed: back}).Start); len(result.Changes) != 1 || err != nil {
		t.Errorf("%+v, %v", result, err)
	}
	if record, _, err := r.sides[1].ReadRecord(t.Context()); err != nil || record.Migration != "m2" {
		t.Errorf("%+v, %v", record, err)
	}
	// Wherever it begins, it looks whether the target is empty.
	for _, states := range []string{"none none", "primary none", "primary retired"} {
		r := newRig(t)
		r.put(1, "k", "v")
		r.set(states)
		_, err := r.migration(Options{}).Start(t.Context())
		wantErr(t, err, ErrRefused)
		r.want(states)
	}
}

// A start that finds keys since another one was quicker, and clients mirror already,
// has nothing to refuse.
func TestStartThatIsOvertaken(t *testing.T) {
	r := newRig(t)
	r.set("primary none")
	quicker := false
	r.hooks[1].onScan = func(string) {
		if !quicker {
			quicker = true
			r.do(r.again().migration(Options{}).Start)
			r.put(1, "k", "v")
		}
	}
	if result := r.do(r.migration(Options{}).Start); len(result.Changes) != 0 {
		t.Errorf("%+v", result)
	}
	r.want("primary standby")
}

// A start in the other direction that was killed shows the roles of the next
// migration, which the older record of the two doesn't know yet.
func TestStartBackThatWasKilled(t *testing.T) {
	r := newRig(t)
	r.set("retired primary")
	r.killAt(2)
	_, err := r.exchanged().Start(t.Context())
	wantErr(t, err, errKilled)
	r = r.again()
	r.want("retired primary")
	for _, m := range []*Migration{r.migration(Options{}), r.exchanged()} {
		_, err := m.Cutover(t.Context())
		if refused := errors.As(err, new(*RolesError)); refused != (m.names()[0] == "old") {
			t.Errorf("from %s: %v", m.names()[0], err)
		}
	}
	r.do(r.exchanged().Start)
	r.want("standby primary")
}

// That nothing is to be done must be true of both records at once.
func TestNothingToDoIsSeenAtOneMoment(t *testing.T) {
	r := newRig(t)
	r.set("primary standby")
	sealed := false
	r.hooks[1].onGet = func(key string) {
		if key == side.RecordKey && !sealed {
			sealed = true
			r.set("sealed standby")
		}
	}
	r.do(r.migration(Options{}).Abort)
	r.want("primary standby")
}

// A store that is made primary by a write whose answer is lost: the cutover says so and
// can be gone on with.
func TestPrimaryIsMadeAndTheAnswerLost(t *testing.T) {
	for _, back := range []bool{false, true} {
		r := newRig(t)
		r.put(0, "k", "v")
		r.put(1, "k", "v")
		command, states, to, made, ends := (*Migration).Cutover, "primary standby", 1, "sealed primary", "standby primary"
		if back {
			command, states, to, made, ends = (*Migration).Rollback, "standby primary", 0, "primary sealed", "primary standby"
		}
		r.set(states)
		r.hooks[to].within = func(ctx context.Context, s driver.Swap) error {
			if s.Key == side.RecordKey && strings.Contains(r.states(), "filling") {
				if res, err := r.hooks[to].Store.Swap(ctx, s); err != nil || res.Outcome != driver.Applied {
					t.Error(res, err)
				}
				return errFault
			}
			return nil
		}
		_, err := command(r.migration(Options{}), t.Context())
		wantErr(t, err, errFault)
		if !strings.Contains(err.Error(), " has made its store primary, but was interrupted then; run it again: ") {
			t.Error(err)
		}
		r.want(made)
		r.hooks[to].within = nil
		if _, err := command(r.migration(Options{}), t.Context()); err != nil {
			t.Error(err)
		}
		r.want(ends)
	}
}

// The store that was sealed is away for a while when the cutover is to be undone.
func TestUndoWaitsForTheSealedStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.put(0, "k", "v")
		r.put(1, "k", "v")
		r.set("primary standby")
		var away atomic.Bool
		r.hooks[0].getErr = func() error {
			if away.Load() {
				return fmt.Errorf("%w: connection refused", kv.ErrUnavailable)
			}
			return nil
		}
		r.hooks[0].onSwap = func(driver.Swap) error { return r.hooks[0].getErr() }
		r.hooks[0].onScan = func(prefix string) {
			if prefix == "" && r.states() == "sealed filling" {
				away.Store(true)
				time.AfterFunc(20*time.Second, func() { away.Store(false) })
			}
		}
		_, err := r.migration(Options{}).Cutover(t.Context())
		var undone *UndoneError
		if !errors.As(err, &undone) || !undone.Sealed || undone.Left != nil {
			t.Errorf("%v", err)
		}
		r.want("primary standby")
	})
}

// What is told of a store that can't be read, by what the other one is.
func TestWhatIsToldOfALostStore(t *testing.T) {
	for states, want := range map[string]string{
		"none none":       `store "new" can't be read, store "old" is without a record: make both stores reachable and look again`,
		"retired primary": `store "new" can't be read, store "old" is retired: make both stores reachable and look again`,
		"primary standby": `store "new" can't be read, store "old" is primary: clients write to store "old"; make store "new" reachable and look again`,
		"sealed standby":  `store "new" can't be read, store "old" is sealed, and writes wait: run "polykv migrate abort": it makes store "old" primary again without the other one`,
		"standby primary": `store "new" can't be read, store "old" is standby: make store "new" reachable and look again; if it is lost for good, see "polykv migrate force --help"`,
	} {
		virtually(t, states, func(t *testing.T) {
			r := newRig(t)
			r.set(states)
			r.lost(1)
			st, err := r.migration(Options{}).Status(t.Context())
			if got := st.Now + ": " + st.Next; err != nil || got != want {
				t.Errorf("%s, %v", got, err)
			}
		})
	}
}
