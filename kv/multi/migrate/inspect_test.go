package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

func TestCopyGoesTheWayThatTheRecordsSay(t *testing.T) {
	for states, want := range map[string]string{
		"none none":       "old>new",
		"primary standby": "old>new guarded",
		"standby primary": "new>old guarded",
		"sealed standby":  "", "sealed filling": "", "sealed primary": "", "primary none": "", "retired primary": "", "primary retired": "",
	} {
		t.Run(states, func(t *testing.T) {
			r := newRig(t)
			r.put(0, "k", "old")
			r.put(1, "k", "new")
			r.put(1, "x", "new")
			r.set(states)
			result, err := r.migration(Options{}).Copy(t.Context(), CopyOptions{DeleteExtra: true})
			if want == "" {
				wantErr(t, err, ErrRefused)
				if r.all(0) != "k=old " || r.all(1) != "k=new x=new " {
					t.Errorf("%s and %s", r.all(0), r.all(1))
				}
				return
			}
			told := result.From + ">" + result.To
			if result.Guarded {
				told += " guarded"
			}
			if err != nil || told != want || r.all(0) != r.all(1) {
				t.Errorf("%s, %v: %s and %s", told, err, r.all(0), r.all(1))
			}
		})
	}
}

// A plain copy doesn't wait for its end to notice.
func TestPlainCopyIsEndedByAStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for i := range 50 {
			r.put(0, fmt.Sprintf("k%02d", i), "v")
		}
		began := false
		r.hooks[1].within = func(ctx context.Context, _ driver.Swap) error {
			if began {
				return nil
			}
			began = true
			r.do(r.again().migration(Options{}).Start)
			<-ctx.Done() // the copy's end, or that of an attempt, which is later
			return ctx.Err()
		}
		result, err := r.migration(Options{Workers: 1}).Copy(t.Context(), CopyOptions{})
		wantErr(t, err, ErrRefused)
		if !strings.Contains(err.Error(), "was started") || result.Copied != 0 {
			t.Errorf("%+v, %v", result, err)
		}
	})
}

func TestCopyKeepsExtraKeysUnlessAsked(t *testing.T) {
	r := newRig(t)
	r.put(0, "a/k", "v")
	r.put(0, "b/k", "v")
	r.put(1, "a/x", "v")
	m := r.migration(Options{})
	result, err := m.Copy(t.Context(), CopyOptions{Prefix: "a/"})
	if err != nil || result.Kept != 1 || result.Copied != 1 || r.all(1) != "a/k=v a/x=v " {
		t.Errorf("%+v, %v: %s", result, err, r.all(1))
	}
	dry := r.migration(Options{DryRun: true})
	result, err = dry.Copy(t.Context(), CopyOptions{DeleteExtra: true})
	if err != nil || !result.DryRun || result.Deleted != 1 || result.Copied != 1 || r.all(1) != "a/k=v a/x=v " {
		t.Errorf("%+v, %v: %s", result, err, r.all(1))
	}
}

// A guarded copy ends when the migration moves on, a plain one when one is
// started.
func TestCopyEndsWhenTheMigrationMovesOn(t *testing.T) {
	for states, meanwhile := range map[string]func(r *rig){
		"primary standby": func(r *rig) { r.do(r.again().migration(Options{}).Cutover) },
		"none none":       func(r *rig) { r.do(r.again().migration(Options{AllowKeys: true}).Start) },
	} {
		t.Run(states, func(t *testing.T) {
			r := newRig(t)
			for i := range 50 {
				r.put(0, fmt.Sprintf("k%02d", i), "v")
			}
			r.set(states)
			moved := false
			r.hooks[1].onSwap = func(driver.Swap) error {
				if !moved {
					moved = true
					meanwhile(r)
				}
				return nil
			}
			m := r.migration(Options{Workers: 1})
			_, err := m.Copy(t.Context(), CopyOptions{})
			if states == "none none" {
				wantErr(t, err, ErrRefused)
				return
			}
			wantErr(t, err, kv.ErrFenced)
			if !strings.HasPrefix(err.Error(), "the migration moved on while keys were copied") {
				t.Error(err)
			}
		})
	}
}

func TestVerifyComparesWithTheStoreThatCounts(t *testing.T) {
	for states, from := range map[string]string{
		"none none": "old", "primary standby": "old", "sealed standby": "old", "sealed filling": "old",
		"sealed primary": "new", "standby primary": "new", "retired primary": "new", "filling sealed": "new", "primary sealed": "old",
	} {
		virtually(t, states, func(t *testing.T) {
			r := newRig(t)
			r.put(0, "k", "v")
			r.set(states)
			var found []Difference
			result, err := r.migration(Options{}).Verify(t.Context(), VerifyOptions{Found: func(d Difference) error {
				found = append(found, d)
				return nil
			}})
			fenced := states == "sealed filling" || states == "filling sealed"
			if err != nil || result.From != from || result.Fenced != fenced || len(found) != 1 || found[0].Key != "k" {
				t.Errorf("%+v, %v, %v", result, found, err)
			}
		})
	}
}

func TestFinishReportsForeignWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for i := range 150 {
			r.put(0, fmt.Sprintf("foreign-%03d", i), "v")
		}
		r.set("standby primary")
		result, err := r.careful(Options{}).Finish(t.Context(), "")
		var differ *DifferencesError
		if !errors.As(err, &differ) || differ.Count != 150 || len(differ.Differences) != 100 || differ.Primary != "new" || differ.Standby != "old" ||
			differ.Differences[0].Reason != side.Extra || !strings.Contains(err.Error(), "foreign-000") {
			t.Fatalf("%+v, %v", result, err)
		}
		r.want("standby primary")
		r.do(finish(r.migration(Options{AllowDifferences: true}), ""))
		r.want("retired primary")
	})
}

func TestFinishOnTheSourceComparesTheOtherWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.put(1, "foreign", "v")
		r.set("primary standby")
		_, err := r.careful(Options{}).Finish(t.Context(), "old")
		var differ *DifferencesError
		if !errors.As(err, &differ) || differ.Primary != "old" || differ.Standby != "new" || differ.Differences[0].Reason != side.Extra {
			t.Fatalf("%v", err)
		}
		_, err = r.migration(Options{}).Finish(t.Context(), "")
		wantErr(t, err, ErrRefused) // the mistake that naming the store prevents
		r.want("primary standby")
	})
}

func TestPlanFindsWhatStandsInTheWay(t *testing.T) {
	r := newRig(t)
	r.put(0, "small", "v")
	r.put(0, "big", strings.Repeat("x", 200))
	r.put(0, strings.Repeat("k", 60), "v")
	r.put(1, "there", "v")
	options := quiet
	options.MaxValueSize = 100
	skipped := &Skipped{}
	options.Observer = skipped
	plant(t, r, 0, "a//b", "/c")
	tight, err := kv.Prefix(kv.New(r.data[1].Open(), codec.String{}, &options), strings.Repeat("p", 460)+"/")
	if err != nil {
		t.Fatal(err)
	}
	defer tight.Close()
	watched := kv.New(r.data[0].Open(), codec.String{}, &kv.Options{Observer: skipped})
	defer watched.Close()
	m, err := New(Backend{Name: "old", Client: watched, Skipped: skipped}, Backend{Name: "new", Client: tight}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.Plan(t.Context())
	if err != nil || p.Ready || p.ProblemCount != 2 || p.Source.Keys != 3 || p.Source.LargestAt != "big" || p.Source.LargestValue != 200 || p.Source.LongestKey != 60 {
		t.Fatalf("%+v, %v", p, err)
	}
	for i, want := range []string{`store "new" takes 100`, `the key has 60 bytes, store "new" takes 51`} {
		if !strings.HasSuffix(p.Problems[i].Problem, want) {
			t.Errorf("problem %d is %+v, want one with %s", i, p.Problems[i], want)
		}
	}
	if got := strings.Join(p.Source.Foreign, " "); got != "/c a//b" {
		t.Errorf("foreign keys: %s", got)
	}
	for _, c := range p.Checks {
		if c.Detail == "" || c.OK != (c.Name != "sizes" && (c.Name != "keys" || c.Store != "old")) {
			t.Errorf("check %+v", c)
		}
	}
	r.want("none none")
	p, err = r.migration(Options{}).Plan(t.Context())
	if err != nil || p.Ready || p.Target.Keys != 1 {
		t.Errorf("a target that holds keys: %+v, %v", p, err)
	}
	if p, err = r.migration(Options{AllowKeys: true, DryRun: true}).Plan(t.Context()); err != nil || !p.Ready {
		t.Errorf("one that may: %+v, %v", p, err)
	}
	if left := reserved(t, r); left != "" {
		t.Errorf("the plan left %s behind", left)
	}
}

// A server may take less than anybody told the client: then each key that it
// would refuse is named, by a plan, and by a cutover that may copy, before it
// seals.
func TestSizesAreTried(t *testing.T) {
	r := newRig(t)
	const most = 700
	tooLarge := func(s driver.Swap) error {
		if len(s.Value) > most {
			return driver.ErrTooLarge
		}
		return nil
	}
	for key, size := range map[string]int{"a": most - 1, "b": most, "c": most + 1, "d": 5 * most} {
		r.put(0, key, strings.Repeat("x", size))
	}
	r.hooks[1].onSwap = tooLarge
	p, err := r.migration(Options{}).Plan(t.Context())
	if err != nil || p.Ready || p.ProblemCount != 2 || p.Problems[0].Key != "c" || p.Problems[1].Key != "d" ||
		p.Problems[0].Problem != `the value has 701 bytes, the server of store "new" refuses more than 700` || p.checks() == "" || !strings.Contains(p.checks(), "new/largest!") {
		t.Fatalf("%+v, %v", p, err)
	}
	if left := reserved(t, r); left != "" {
		t.Errorf("the plan left %s behind", left)
	}
	r.do(r.migration(Options{}).Start)
	result, err := r.migration(Options{}).Cutover(t.Context())
	var undone *UndoneError
	if !errors.As(err, &undone) || undone.Sealed || result.Before.Failed != 2 || !strings.Contains(err.Error(), `2 keys could not be copied, "c" among them`) && !strings.Contains(err.Error(), `"d" among them`) {
		t.Errorf("the cutover: %v", err)
	}
	r.want("primary standby")
	results, err := r.migration(Options{}).Converge(t.Context(), StageMoved, ConvergeOptions{})
	var failed *FailedError
	if !errors.As(err, &failed) || failed.Count != 2 || len(results) != 0 {
		t.Errorf("converge: %+v, %v", results, err)
	}
	r.want("primary standby")
}

func TestProblemsOfKeys(t *testing.T) {
	limits := [2]kv.Limits{{Key: 50, Value: 100, GuardedValue: 60}, {Key: 40, Value: 90, GuardedValue: 70}}
	for _, c := range []struct {
		key, value int
		want       string
	}{
		{40, 60, ""},
		{41, 1, `the key has 41 bytes, store "t" takes 40`},
		{1, 1 << 20, `the value has 1048576 bytes, store "t" takes 90`},
		{1, 91, `the value has 91 bytes, store "t" takes 90`},
		{1, 71, `the value has 71 bytes, store "t" takes 70 in a guarded write, which those of a migration are`},
		{1, 61, `the value has 61 bytes, store "s" takes 60 in a guarded write, so coordinated clients could not write it again`},
	} {
		if got := problemOf(limits, [2]string{"s", "t"}, strings.Repeat("k", c.key), c.value); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
	if got := problemOf([2]kv.Limits{{}, {Value: 1}}, [2]string{"s", "t"}, "k", 2); got != `the value has 2 bytes, store "t" takes 1` {
		t.Error(got)
	}
	if got := problemOf([2]kv.Limits{}, [2]string{"s", "t"}, "k", 1<<30); got != "" {
		t.Errorf("no limits known: %s", got)
	}
}

// plant puts keys there that polykv itself never would.
func plant(t *testing.T, r *rig, store int, keys ...string) {
	t.Helper()
	handle := r.data[store].Open()
	defer handle.Close()
	for _, key := range keys {
		if res, err := handle.Swap(t.Context(), driver.Swap{Key: key, Value: []byte("v"), ID: 1}); err != nil || res.Outcome != driver.Applied {
			t.Fatal(res, err)
		}
	}
}

// reserved returns the reserved keys that both stores hold.
func reserved(t *testing.T, r *rig) (keys string) {
	t.Helper()
	for _, s := range r.sides {
		for e, err := range s.Entries(t.Context(), kv.ReservedSegment) {
			if err != nil {
				t.Fatal(err)
			}
			keys += e.Key + " "
		}
	}
	return keys
}

func TestPlanTellsWhatPermissionsLack(t *testing.T) {
	r := newRig(t)
	r.hooks[1].onSwap = func(driver.Swap) error { return driver.ErrPermission }
	p, err := r.migration(Options{}).Plan(t.Context())
	if err != nil || p.Ready {
		t.Fatalf("%+v, %v", p, err)
	}
	for _, c := range p.Checks {
		if c.OK != (c.Name != "permissions" || c.Store == "old") {
			t.Errorf("check %+v", c)
		}
	}
}

func TestStatusShowsClientsAndRecords(t *testing.T) {
	r := newRig(t)
	r.set("primary standby")
	now := time.Now()
	beat := func(store int, h Heartbeat) {
		h.Started = now.Add(-time.Hour)
		if err := r.sides[store].WriteHeartbeat(t.Context(), h); err != nil {
			t.Fatal(err)
		}
	}
	beat(0, Heartbeat{Instance: "a", Host: "h1", PID: 1, Beat: 7, Seen: now, Primary: "old", Backlog: 3, Oldest: 2 * time.Second})
	beat(1, Heartbeat{Instance: "a", Host: "h1", PID: 1, Beat: 6, Seen: now.Add(-10 * time.Second), Primary: "new"})
	beat(1, Heartbeat{Instance: "b", Host: "h2", PID: 2, Beat: 9, Seen: now, Primary: "new", Backlog: 4})
	beat(0, Heartbeat{Instance: "b", Host: "h2", PID: 2, Beat: 8, Seen: now, Primary: "old", Backlog: 40})
	beat(1, Heartbeat{Instance: "c", Host: "h3", PID: 3, Beat: 5, Seen: now.Add(-time.Hour), Primary: "old", Backlog: 50})
	m := r.migration(Options{})
	st, err := m.Status(t.Context())
	if err != nil || st.Phase != Mirroring || st.Live != 2 || st.Behind != 1 || st.Backlog != 7 || st.Lag != 2*time.Second ||
		st.Source.Record.State != side.Primary || st.Target.Record.State != side.Standby || st.Source.Clients != 1 || st.Target.Clients != 1 ||
		!strings.Contains(st.Now, `"old" is primary`) || !strings.Contains(st.Next, "cutover") {
		t.Fatalf("%+v, %v", st, err)
	}
	if a := st.Clients[0]; a.Beat != 7 || strings.Join(a.Stores, " ") != "old new" || a.Gone || !a.ByClock {
		t.Errorf("%+v", a)
	}
	if c := st.Clients[2]; c.Instance != "c" || !c.Gone {
		t.Errorf("%+v", c)
	}
	// The clock of c is wrong: it lives, as whoever looks again can see.
	beat(1, Heartbeat{Instance: "c", Beat: 6, Seen: now.Add(-time.Hour), Primary: "old"})
	if st, err = m.Status(t.Context()); err != nil || st.Clients[2].Gone || st.Clients[2].ByClock || st.Live != 3 {
		t.Errorf("%+v, %v", st, err)
	}
}

// Who is watched long enough is told without any clock but our own.
func TestTrackerTellsByTheBeat(t *testing.T) {
	var tr tracker
	now := time.Now()
	ahead := Heartbeat{Instance: "ahead", Beat: 1, Seen: now.Add(time.Hour)}
	if age, _ := tr.age(ahead, now); age != 0 {
		t.Errorf("age %v", age)
	}
	if age, byClock := tr.age(ahead, now.Add(2*time.Minute)); age < side.GoneAfter || byClock {
		t.Errorf("a client that stopped, with a clock that is ahead: %v, %v", age, byClock)
	}
	ahead.Beat++
	if age, byClock := tr.age(ahead, now.Add(3*time.Minute)); age != 0 || byClock {
		t.Errorf("one that went on: %v, %v", age, byClock)
	}
}

func TestStatusOfAStoreThatIsAway(t *testing.T) {
	r := newRig(t)
	r.set("standby primary")
	if err := r.clients[0].Close(); err != nil {
		t.Fatal(err)
	}
	m := r.migration(Options{})
	st, err := m.Status(t.Context())
	if err != nil || st.Phase != Unknown || st.Source.Error == "" || st.Target.Record.State != side.Primary {
		t.Errorf("%+v, %v", st, err)
	}
	if err := r.clients[1].Close(); err != nil {
		t.Fatal(err)
	}
	_, err = m.Status(t.Context())
	wantErr(t, err, kv.ErrClosed)
}

func TestFinishForgetsClientsThatAreGone(t *testing.T) {
	r := newRig(t)
	r.set("standby primary")
	for instance, seen := range map[string]time.Time{"gone": time.Now().Add(-time.Hour), "here": time.Now()} {
		for _, s := range r.sides {
			if err := s.WriteHeartbeat(t.Context(), Heartbeat{Instance: instance, Seen: seen}); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.do(finish(r.migration(Options{}), ""))
	left := reserved(t, r)
	if strings.Contains(left, "gone") || strings.Count(left, "here") != 2 {
		t.Errorf("left are %s", left)
	}
}

func TestProgressAndChangesAreTold(t *testing.T) {
	r := newRig(t)
	for i := range 250 {
		r.put(0, fmt.Sprintf("k%03d", i), "v")
	}
	works := map[Work]int{}
	var changes []Change
	m := r.migration(Options{
		Progress: func(p Progress) { works[p.Work] = p.Totals.Keys },
		Changed:  func(c Change) { changes = append(changes, c) },
	})
	r.do(m.Start)
	result := r.do(m.Cutover)
	r.do(finish(m, ""))
	for _, w := range []Work{Copying, Completing, Comparing} {
		if works[w] != 250 {
			t.Errorf("%s told of %d keys", w, works[w])
		}
	}
	if len(changes) != 2+5+1 || changes[5] != result.Changes[3] {
		t.Errorf("told of %v", changes)
	}
	if result.Before.Copied != 250 || result.Fenced.Different != 0 || result.Fenced.Keys != 250 {
		t.Errorf("%+v %+v", result.Before, result.Fenced)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := m.Cutover(ctx)
	wantErr(t, err, context.Canceled)
}
