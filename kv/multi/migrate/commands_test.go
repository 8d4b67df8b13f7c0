package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// The whole of it, with clients that write all the while: there, back, there
// again, and the end.
func TestMigrationThereAndBackUnderLoad(t *testing.T) {
	const clients = 4
	r := newRig(t)
	for i := range 500 {
		r.put(0, fmt.Sprintf("k%03d", i), "v")
	}
	m := r.migration(Options{})
	ctx := t.Context()
	if plan, err := m.Plan(ctx); err != nil || !plan.Ready || plan.Source.Keys != 500 {
		t.Fatalf("plan: %+v, %v", plan, err)
	}
	r.do(m.Start)
	r.want("primary standby")
	f := r.startFleet(clients)
	f.written(clients)
	copied, err := m.Copy(ctx, CopyOptions{})
	if err != nil || copied.Copied < 500 || !copied.Guarded || copied.From != "old" {
		t.Fatalf("copy: %+v, %v", copied, err)
	}
	step := func(command func(context.Context) (Result, error), states string) Result {
		t.Helper()
		result := r.do(command)
		r.want(states)
		f.written(clients)
		return result
	}
	for _, there := range []bool{true, false, true} {
		command, states := m.Cutover, "standby primary"
		if !there {
			command, states = m.Rollback, "primary standby"
		}
		result := step(command, states)
		if result.Pause <= 0 || result.Fenced == nil || result.Fenced.Keys < 500 || len(result.Changes) != 5 {
			t.Errorf("%s reports %+v", result.Command, result)
		}
	}
	result := step(finish(m, ""), "retired primary")
	if result.Compared == nil || result.Compared.Keys < 500 || result.Phase != Finished {
		t.Errorf("finish reports %+v", result)
	}
	f.end(1)
	if v, err := m.Verify(ctx, VerifyOptions{}); err != nil || v.From != "new" || v.Fenced {
		t.Errorf("verify: %+v, %v", v, err)
	}
}

// Each command, run again at its end, finds nothing to do.
func TestCommandsMayBeRunAgain(t *testing.T) {
	r := newRig(t)
	r.put(0, "k", "v")
	m := r.migration(Options{AllowKeys: true})
	for _, c := range []struct {
		command func(context.Context) (Result, error)
		states  string
	}{
		{m.Start, "primary standby"},
		{m.Abort, "primary standby"},
		{m.Rollback, "primary standby"},
		{m.Cutover, "standby primary"},
		{m.Abort, "standby primary"},
		{m.Rollback, "primary standby"},
		{finish(m, "old"), "primary retired"},
		{m.Start, "primary standby"},
		{m.Cutover, "standby primary"},
		{finish(m, "new"), "retired primary"},
		{m.Cutover, "retired primary"},
	} {
		r.do(c.command)
		r.want(c.states)
		before, _, err := r.sides[0].ReadRecord(t.Context())
		if again := r.do(c.command); err != nil || len(again.Changes) != 0 {
			t.Fatalf("%s made %v the second time (%v)", again.Command, again.Changes, err)
		}
		if after, _, err := r.sides[0].ReadRecord(t.Context()); after != before || err != nil {
			t.Fatalf("the record moved: %+v, %v", after, err)
		}
	}
	if r.all(0) != r.all(1) {
		t.Error("the stores differ")
	}
}

// What each command does in every pair of states: the table of
// docs/migration.md, to its end. "-" is a refusal that changes nothing.
func TestEveryCommandInEveryState(t *testing.T) {
	table := map[string]map[string]string{
		"none none":       {"start": "primary standby"},
		"primary none":    {"start": "primary standby"},
		"primary retired": {"start": "primary standby", "finish old": "primary retired", "rollback": "primary retired"},
		"primary standby": {
			"start": "primary standby", "cutover": "standby primary", "abort": "primary standby",
			"rollback": "primary standby", "finish old": "primary retired",
		},
		"sealed standby":  {"cutover": "standby primary", "abort": "primary standby"},
		"sealed filling":  {"cutover": "standby primary", "abort": "primary standby"},
		"sealed primary":  {"cutover": "standby primary", "finish": "retired primary", "rollback": "primary standby"},
		"standby primary": {"cutover": "standby primary", "abort": "standby primary", "rollback": "primary standby", "finish": "retired primary"},
		"standby sealed":  {"rollback": "primary standby", "abort": "standby primary"},
		"filling sealed":  {"rollback": "primary standby", "abort": "standby primary"},
		"primary sealed":  {"rollback": "primary standby", "cutover": "standby primary", "finish old": "primary retired"},
		"retired primary": {"finish": "retired primary", "cutover": "retired primary"},
		"sealed retired":  {"abort": "primary retired"},
		"retired sealed":  {"abort": "retired primary"},
		"none primary":    {},
		"standby standby": {},
		"primary filling": {"cutover": "standby primary", "abort": "primary standby"},
		"filling primary": {"rollback": "primary standby", "abort": "standby primary"},
		"primary primary": {"abort": "standby primary"},
		"none standby":    {},
	}
	for states, does := range table {
		for _, command := range []string{"start", "cutover", "rollback", "abort", "finish", "finish old"} {
			t.Run(states+"/"+command, func(t *testing.T) {
				r := newRig(t)
				r.set(states)
				m := r.migration(Options{AllowKeys: true})
				result, err := map[string]func(context.Context) (Result, error){
					"start": m.Start, "cutover": m.Cutover, "rollback": m.Rollback, "abort": m.Abort,
					"finish": finish(m, ""), "finish old": finish(m, "old"),
				}[command](t.Context())
				want, allowed := does[command]
				if !allowed {
					wantErr(t, err, ErrRefused)
					if len(result.Changes) != 0 || !strings.Contains(err.Error(), command[:5]) {
						t.Errorf("%v after %v", err, result.Changes)
					}
					want = states
				} else if err != nil {
					t.Fatal(err)
				}
				r.want(want)
			})
		}
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	for states, c := range map[string]struct {
		command string
		changes string
		phase   Phase // that would be next
	}{
		"none none":       {"start", "old:→primary@1 new:→standby@1 ", Mirroring},
		"primary standby": {"cutover", "old:primary→sealed@1 new:standby→filling@1 ", Sealed},
		"sealed filling":  {"cutover", "old:sealed→sealed@1 new:filling→primary@2 ", Flipped},
		"standby primary": {"finish", "old:standby→retired@2 ", Finished},
		"sealed standby":  {"abort", "new:standby→standby@1 old:sealed→primary@1 ", Mirroring},
	} {
		virtually(t, states, func(t *testing.T) {
			r := newRig(t)
			r.put(0, "k", "v")
			r.set(states)
			m := r.migration(Options{DryRun: true, AllowDifferences: true})
			result, err := map[string]func(context.Context) (Result, error){
				"start": m.Start, "cutover": m.Cutover, "abort": m.Abort, "finish": finish(m, ""),
			}[c.command](t.Context())
			told := ""
			for _, ch := range result.Changes {
				told += fmt.Sprintf("%s:%s→%s@%d ", ch.Store, ch.From, ch.To, ch.Epoch)
			}
			if err != nil || !result.DryRun || told != c.changes || result.Phase != c.phase || result.Pause != 0 {
				t.Errorf("told %s, %s, %v", told, result.Phase, err)
			}
			r.want(states)
			if r.all(1) != "" {
				t.Error("keys were copied")
			}
		})
	}
}

func TestStartRefusesWhatCanNotWork(t *testing.T) {
	r := newRig(t)
	r.put(1, "k", "v")
	_, err := r.migration(Options{}).Start(t.Context())
	wantErr(t, err, ErrRefused)
	if !strings.Contains(err.Error(), "holds 1 keys") {
		t.Error(err)
	}
	r.want("none none")
	r.do(r.migration(Options{AllowKeys: true}).Start)

	if _, err := New(Backend{Name: "x", Client: r.clients[0]}, Backend{Name: "x", Client: r.clients[1]}, Options{}); err == nil {
		t.Error("two stores of one name were taken")
	}
	if _, err := New(Backend{Name: "x"}, Backend{Name: "y", Client: r.clients[0]}, Options{}); err == nil || !strings.Contains(err.Error(), `"x"`) {
		t.Errorf("a store without a client: %v", err)
	}
	if _, err := New(Backend{Name: "x", Client: r.clients[0]}, Backend{Name: "y"}, Options{}); err == nil || !strings.Contains(err.Error(), `"y"`) {
		t.Errorf("a store without a client: %v", err)
	}

	same := newRig(t)
	m, err := New(Backend{Name: "old", Client: same.clients[0]}, Backend{Name: "new", Client: same.others[0]}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.Start(t.Context())
	wantErr(t, err, ErrRefused)
	if !strings.Contains(err.Error(), "the same store") || same.states() != "none none" {
		t.Errorf("%v; %s", err, same.states())
	}
	same.set("primary none")
	_, err = m.Start(t.Context())
	wantErr(t, err, ErrBadRecord)

	plain := kv.New(inmemory.NewStore().Open(), codec.String{}, nil)
	defer plain.Close()
	m, err = New(Backend{Name: "old", Client: r.clients[0]}, Backend{Name: "bare", Client: bare{plain}, Codec: codec.String{}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.Start(t.Context())
	wantErr(t, err, ErrNoGuards)
	wantErr(t, err, kv.ErrNotSupported)
	_, err = r.migration(Options{}).Finish(t.Context(), "third")
	if err == nil || !strings.Contains(err.Error(), `"third"`) {
		t.Error(err)
	}
}

// bare is a client without any extras.
type bare struct{ kv.Client }

func TestCommandsRefuseTheRecordsOfAnotherMigration(t *testing.T) {
	r := newRig(t)
	record := side.Record{State: side.Primary, Epoch: 4, Migration: "m", Source: "old", Target: "third"}
	if _, _, err := r.sides[0].SwapRecord(t.Context(), 0, record); err != nil {
		t.Fatal(err)
	}
	m := r.migration(Options{})
	_, err := m.Cutover(t.Context())
	wantErr(t, err, ErrRefused)
	if !strings.Contains(err.Error(), `"third"`) {
		t.Error(err)
	}
	_, err = m.Copy(t.Context(), CopyOptions{})
	wantErr(t, err, ErrRefused)
	r.do(m.Start) // from the end of one migration to the next
	now, _, err := r.sides[0].ReadRecord(t.Context())
	if err != nil || now.Epoch != 5 || now.Target != "new" || now.Migration == "m" {
		t.Errorf("%+v, %v", now, err)
	}
}

// errKilled is what a process that was killed gets from everything.
var errKilled = driver.Permanent(errors.New("killed"))

// killAt makes the writes of records fail from the nth on, as if the process
// had been killed before it.
func (r *rig) killAt(n int) {
	writes := 0
	for _, h := range r.hooks {
		h.onSwap = func(s driver.Swap) error {
			if s.Key == side.RecordKey {
				writes++
			}
			if writes >= n {
				return errKilled
			}
			return nil
		}
	}
}

// Each command is killed before each of its writes, and run again by another
// process, or aborted by it.
func TestCommandsKilledAtEveryWrite(t *testing.T) {
	commands := map[string]func(m *Migration) (Result, error){
		"start":    func(m *Migration) (Result, error) { return m.Start(context.Background()) },
		"cutover":  func(m *Migration) (Result, error) { return m.Cutover(context.Background()) },
		"rollback": func(m *Migration) (Result, error) { return m.Rollback(context.Background()) },
		"finish":   func(m *Migration) (Result, error) { return m.Finish(context.Background(), "") },
	}
	for name, c := range map[string]struct {
		from, to, aborted string
		writes            int
	}{
		"start":    {"none none", "primary standby", "", 2},
		"cutover":  {"primary standby", "standby primary", "primary standby", 6},
		"rollback": {"standby primary", "primary standby", "standby primary", 6},
		"finish":   {"standby primary", "retired primary", "", 1},
	} {
		for n := 1; n <= c.writes; n++ {
			for _, abort := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%d/abort=%v", name, n, abort), func(t *testing.T) {
					r := newRig(t)
					for i := range 20 {
						r.put(0, fmt.Sprintf("k%02d", i), "v")
						if c.from != "none none" {
							r.put(1, fmt.Sprintf("k%02d", i), "v")
						}
					}
					r.set(c.from)
					r.killAt(n)
					if _, err := commands[name](r.migration(Options{})); !errors.Is(err, errKilled) {
						t.Fatalf("the killed run: %v", err)
					}
					again := r.again()
					want := c.to
					if flipped := n == 6; abort && c.aborted != "" && !flipped {
						want = c.aborted
						r.do(again.migration(Options{}).Abort)
					} else if _, err := commands[name](again.migration(Options{})); err != nil {
						t.Fatal(err)
					}
					r.want(want)
					if c.from != "none none" && r.all(0) != r.all(1) {
						t.Error("the stores differ")
					}
				})
			}
		}
	}
}

// Any number of runs at once end at the same, whoever does what.
func TestCommandsAtOnce(t *testing.T) {
	r := newRig(t)
	for i := range 200 {
		r.put(0, fmt.Sprintf("k%03d", i), "v")
	}
	f := r.startFleet(2)
	for round := range 5 {
		commands := []func(*Migration) (Result, error){
			func(m *Migration) (Result, error) { return m.Start(context.Background()) },
			func(m *Migration) (Result, error) { return m.Cutover(context.Background()) },
			func(m *Migration) (Result, error) { return m.Rollback(context.Background()) },
		}
		states := []string{"primary standby", "standby primary", "primary standby"}
		for i, command := range commands {
			if i == 0 && round > 0 {
				continue
			}
			var runs sync.WaitGroup
			for range 3 {
				m := r.again().migration(Options{})
				runs.Go(func() {
					if _, err := command(m); err != nil {
						t.Error(err)
					}
				})
			}
			runs.Wait()
			r.want(states[i])
			f.written(2)
		}
	}
	f.end(0)
}
