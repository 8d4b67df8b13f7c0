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

// exchanged is the migration of a configuration that has the two stores the
// wrong way round.
func (r *rig) exchanged() *Migration {
	r.t.Helper()
	m, err := New(Backend{Name: "new", Client: r.clients[1]}, Backend{Name: "old", Client: r.clients[0]}, Options{
		AllowKeys: true, AllowNoClients: true, AllowEmpty: true, AllowDifferences: true,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// Every command refuses a configuration that contradicts the records, except
// the start of the next migration.
func TestExchangedStoresAreRefused(t *testing.T) {
	for _, states := range []string{
		"primary standby", "sealed standby", "sealed filling", "sealed primary", "standby primary", "standby sealed", "primary sealed", "retired primary", "primary filling",
	} {
		for name, command := range map[string]func(m *Migration) error{
			"start":      func(m *Migration) error { _, err := m.Start(context.Background()); return err },
			"cutover":    func(m *Migration) error { _, err := m.Cutover(context.Background()); return err },
			"rollback":   func(m *Migration) error { _, err := m.Rollback(context.Background()); return err },
			"abort":      func(m *Migration) error { _, err := m.Abort(context.Background()); return err },
			"finish":     func(m *Migration) error { _, err := m.Finish(context.Background(), ""); return err },
			"finish new": func(m *Migration) error { _, err := m.Finish(context.Background(), "new"); return err },
			"plan":       func(m *Migration) error { _, err := m.Plan(context.Background()); return err },
			"copy":       func(m *Migration) error { _, err := m.Copy(context.Background(), CopyOptions{}); return err },
			"verify":     func(m *Migration) error { _, err := m.Verify(context.Background(), VerifyOptions{}); return err },
			"converge": func(m *Migration) error {
				_, err := m.Converge(context.Background(), StageMirroring, ConvergeOptions{})
				return err
			},
			"status": func(m *Migration) error {
				st, err := m.Status(context.Background())
				if err == nil && st.Problem != "" {
					err = fmt.Errorf("%w: %s", ErrRefused, st.Problem)
				}
				return err
			},
		} {
			t.Run(states+"/"+name, func(t *testing.T) {
				r := newRig(t)
				r.put(0, "k", "v")
				r.put(1, "k", "v")
				r.set(states)
				next := states == "retired primary" // the migration is over, and the next one may go back
				err := command(r.exchanged())
				switch {
				case next && (name == "start" || name == "plan" || name == "converge" || name == "status" || name == "verify"):
					if err != nil {
						t.Fatal(err)
					}
					return
				case name == "status":
				default:
					wantErr(t, err, ErrRefused)
				}
				if !strings.Contains(err.Error(), `from store "old" to store "new"`) || !strings.Contains(err.Error(), "exchange the two") {
					if name != "copy" { // it may be refused for what the records say besides
						t.Errorf("it doesn't say what is wrong: %v", err)
					}
				}
				r.want(states)
				if r.all(0) != "k=v " || r.all(1) != "k=v " {
					t.Errorf("it wrote: %s and %s", r.all(0), r.all(1))
				}
			})
		}
	}
}

// denied refuses writes of some keys as a server does that doesn't allow them.
func denied(which func(key string) bool) func(driver.Swap) error {
	return func(s driver.Swap) error {
		if which(s.Key) {
			return driver.Permanent(fmt.Errorf("%w: not for you", kv.ErrPermission))
		}
		return nil
	}
}

// What the rest of a cutover needs rights for is tried before it seals.
func TestRightsAreTriedBeforeTheSeal(t *testing.T) {
	for name, which := range map[string]func(key string) bool{
		"the record":    func(key string) bool { return key == side.RecordKey },
		"users' keys":   func(key string) bool { return !strings.HasPrefix(key, kv.ReservedSegment) },
		"reserved keys": func(key string) bool { return strings.HasPrefix(key, side.ScratchPrefix) },
	} {
		for _, back := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/back=%v", name, back), func(t *testing.T) {
				r := newRig(t)
				r.put(0, "k", "v")
				r.put(1, "k", "v")
				states, to := "primary standby", 1
				m := r.migration(Options{})
				command := m.Cutover
				if back {
					states, to, command = "standby primary", 0, m.Rollback
				}
				r.set(states)
				r.hooks[to].onSwap = denied(which)
				result, err := command(t.Context())
				wantErr(t, err, kv.ErrPermission)
				var undone *UndoneError
				if !errors.As(err, &undone) || undone.Sealed || len(result.Changes) != 0 {
					t.Errorf("%v, changes %v", err, result.Changes)
				}
				r.want(states)
			})
		}
	}
}

// hang keeps every request that changes something in a store from being
// answered, once a store is sealed.
func (r *rig) hangOnceSealed(store int) {
	r.hooks[store].within = func(ctx context.Context, _ driver.Swap) error {
		if strings.Contains(r.states(), "sealed") {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
}

// A target that hangs while writes wait keeps them waiting for the longest pause,
// and clients then go on with the source, which needs the target for nothing.
func TestCutoverIsUndoneAfterTheLongestPause(t *testing.T) {
	for _, back := range []bool{false, true} {
		virtually(t, fmt.Sprintf("back=%v", back), func(t *testing.T) {
			r := newRig(t)
			r.put(0, "k", "v")
			r.put(1, "k", "v")
			m := r.migration(Options{MaxPause: 200 * time.Millisecond})
			command, states, to := m.Cutover, "primary standby", 1
			if back {
				command, states, to = m.Rollback, "standby primary", 0
			}
			r.set(states)
			r.hangOnceSealed(to)
			_, err := command(t.Context())
			wantErr(t, err, ErrPause)
			var undone *UndoneError
			if !errors.As(err, &undone) || !undone.Sealed {
				t.Errorf("%v", err)
			}
			r.want(states)
			// Nothing of it is left: the same works once the store answers.
			r.hooks[to].within = nil
			r.do(command)
		})
	}
}

// lost has a store answer nothing any more to the rig's own clients.
func (r *rig) lost(store int) {
	away := func() error { return fmt.Errorf("%w: connection refused", kv.ErrUnavailable) }
	r.hooks[store].onSwap = func(driver.Swap) error { return away() }
	r.hooks[store].getErr = away
}

// A store that is lost after the seal doesn't keep clients from writing, and
// what is left to do is done once it is back.
func TestStoreLostWhileWritesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.put(0, "k", "v")
		r.put(1, "k", "v")
		r.set("primary standby")
		r.hooks[1].onScan = func(string) {
			if r.states() == "sealed filling" {
				r.lost(1)
			}
		}
		m := r.migration(Options{MaxPause: time.Second})
		result, err := m.Cutover(t.Context())
		var undone *UndoneError
		if !errors.As(err, &undone) || !undone.Sealed || undone.Left == nil || result.Phase != Detached || !strings.Contains(err.Error(), "polykv migrate abort") {
			t.Fatalf("%v, %+v", err, result)
		}
		r.want("primary filling")
		back := r.again().migration(Options{})
		if st, err := back.Status(t.Context()); err != nil || st.Phase != Detached || !st.Writable {
			t.Errorf("%+v, %v", st, err)
		}
		r.do(back.Abort)
		r.want("primary standby")
		r.do(back.Cutover)
		r.want("standby primary")
	})
}

// A command that lost a store before it changed anything says that nothing was
// sealed, if it saw the one that is primary.
func TestStoreLostBeforeTheSeal(t *testing.T) {
	commands := map[string]func(m *Migration, ctx context.Context) (Result, error){
		"cutover": (*Migration).Cutover, "rollback": (*Migration).Rollback,
		"finish": func(m *Migration, ctx context.Context) (Result, error) { return m.Finish(ctx, "") },
	}
	for _, c := range []struct {
		command, states string
		lost            []int
		undone          bool
	}{
		{"cutover", "primary standby", []int{0}, false}, // it may have been sealed since
		{"cutover", "primary standby", []int{1}, true},
		{"cutover", "primary standby", []int{0, 1}, false},
		{"cutover", "sealed standby", []int{1}, false},
		{"cutover", "sealed filling", []int{0}, false},
		{"rollback", "standby primary", []int{0}, true},
		{"rollback", "standby primary", []int{1}, false},
		{"rollback", "standby sealed", []int{0}, false},
		{"finish", "standby primary", []int{0}, true},
		{"finish", "standby primary", []int{1}, false},
		{"finish", "sealed primary", []int{1}, false},
	} {
		virtually(t, fmt.Sprintf("%s/%s/%v", c.command, c.states, c.lost), func(t *testing.T) {
			r := newRig(t)
			r.set(c.states)
			for _, store := range c.lost {
				r.lost(store)
			}
			result, err := commands[c.command](r.migration(Options{}), t.Context())
			wantErr(t, err, kv.ErrUnavailable)
			var undone *UndoneError
			if errors.As(err, &undone) != c.undone || len(result.Changes) > 0 || c.undone && undone.Sealed {
				t.Errorf("%v, %v", err, result.Changes)
			}
			r.want(c.states)
		})
	}
	t.Run("finish after a cutover that has not let go", func(t *testing.T) {
		r := newRig(t)
		r.set("sealed primary")
		r.hooks[0].onSwap = func(driver.Swap) error { return fmt.Errorf("%w: connection refused", kv.ErrUnavailable) }
		_, err := r.migration(Options{}).Finish(t.Context(), "")
		wantErr(t, err, kv.ErrUnavailable)
		if errors.As(err, new(*UndoneError)) {
			t.Error(err)
		}
	})
	virtually(t, "finish while it compares", func(t *testing.T) {
		r := newRig(t)
		r.set("standby primary")
		r.hooks[0].onScan = func(string) { r.lost(0) }
		_, err := r.migration(Options{}).Finish(t.Context(), "")
		wantErr(t, err, kv.ErrUnavailable)
		if !errors.As(err, new(*UndoneError)) {
			t.Error(err)
		}
	})
	for name, command := range commands {
		t.Run(name+" is interrupted while a store is frozen", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				if name == "cutover" {
					r.set("primary standby")
					r.hooks[1].frozen = true
				} else {
					r.set("standby primary")
					r.hooks[0].frozen = true
				}
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(50*time.Millisecond, func() { cancel(errors.New("interrupted")) })
				_, err := command(r.migration(Options{}), ctx)
				if text := fmt.Sprint(err); !errors.As(err, new(*UndoneError)) || strings.Count(text, "interrupted") != 1 {
					t.Error(err)
				}
			})
		})
	}
}

// Abort works without the other store as long as that one can't have become
// primary, and Status says what can be done.
func TestAbortWithAStoreLost(t *testing.T) {
	for _, c := range []struct {
		states      string
		final       bool
		lost        int
		after, next string
	}{
		{"sealed standby", false, 1, "primary standby", "polykv migrate abort"},
		{"sealed filling", false, 1, "primary filling", "polykv migrate abort"},
		{"sealed filling", true, 1, "", "polykv migrate force"},
		{"filling sealed", false, 0, "filling primary", "polykv migrate abort"},
		{"standby sealed", true, 0, "", "polykv migrate force"},
		{"sealed filling", false, 0, "", "if it is lost for good"},
		{"primary standby", false, 1, "primary standby", "make store \"new\" reachable"},
		{"standby primary", false, 0, "standby primary", "make store \"old\" reachable"},
	} {
		virtually(t, fmt.Sprintf("%s/final=%v/lost=%d", c.states, c.final, c.lost), func(t *testing.T) {
			r := newRig(t)
			r.set(c.states)
			if c.final {
				r.seal(1 - c.lost)
			}
			r.lost(c.lost)
			m := r.migration(Options{})
			st, err := m.Status(t.Context())
			if err != nil || st.Phase != Unknown || !strings.Contains(st.Next, c.next) {
				t.Errorf("status: %q, %q, %v", st.Now, st.Next, err)
			}
			result, err := m.Abort(t.Context())
			if c.after == "" {
				if err == nil {
					t.Error("it was aborted")
				}
				c.after = c.states
			} else if c.after == c.states { // nothing was undone: it is as Status says
				if err != nil || result.Left == "" || result.Phase != Unknown || result.Now != st.Now || result.Next != st.Next {
					t.Errorf("%+v, %v", result, err)
				}
			} else if err != nil || result.Left == "" || result.Phase != map[int]Phase{1: Detached, 0: DetachedBack}[c.lost] {
				t.Errorf("%+v, %v", result, err)
			}
			r.want(c.after)
		})
	}
}

// seal makes the seal of a store final.
func (r *rig) seal(store int) {
	r.t.Helper()
	record, version, err := r.sides[store].ReadRecord(r.t.Context())
	if err == nil {
		record.Final = true
		_, _, err = r.sides[store].SwapRecord(r.t.Context(), version, record)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// Force makes a store primary only if the other one doesn't answer, nobody uses
// it, and what the store holds isn't old.
func TestForce(t *testing.T) {
	for _, c := range []struct {
		states, on string
		lost       int
		after, say string
	}{
		{"sealed filling", "old", 1, "primary filling", ""},
		{"standby primary", "old", 1, "primary primary", ""},
		{"primary standby", "new", 0, "primary primary", ""},
		{"primary standby", "old", 1, "primary standby", ""},
		{"retired primary", "old", 1, "", "what it holds is old"},
		{"none primary", "old", 1, "", "has no record"},
		{"sealed filling", "old", -1, "", "is not lost, it answers"},
		{"sealed filling", "third", 1, "", `no store "third"`},
	} {
		virtually(t, fmt.Sprintf("%s/%s", c.states, c.on), func(t *testing.T) {
			r := newRig(t)
			r.set(c.states)
			if c.lost >= 0 {
				r.lost(c.lost)
			}
			_, err := r.migration(Options{}).Force(t.Context(), c.on)
			if c.say != "" {
				if err == nil || !strings.Contains(err.Error(), c.say) {
					t.Errorf("%v", err)
				}
				c.after = c.states
			} else if err != nil {
				t.Fatal(err)
			}
			r.want(c.after)
			if c.after != "primary primary" {
				return
			}
			// The other one is back: its epoch is the lower one.
			back := r.again().migration(Options{})
			if st, err := back.Status(t.Context()); err != nil || st.Phase != Split {
				t.Errorf("%+v, %v", st, err)
			}
			r.do(back.Abort)
			want := "primary standby"
			if c.on == "new" {
				want = "standby primary"
			}
			r.want(want)
		})
	}
	virtually(t, "a client uses the other store", func(t *testing.T) {
		r := newRig(t)
		r.set("standby primary")
		beat := Heartbeat{Instance: "i", Host: "host", PID: 7, Beat: 1, Seen: time.Now(), Primary: "new", Sees: []side.Sight{{Store: "old"}, {Store: "new"}}}
		if err := r.sides[0].WriteHeartbeat(t.Context(), beat); err != nil {
			t.Fatal(err)
		}
		r.lost(1)
		_, err := r.migration(Options{}).Force(t.Context(), "old")
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "host (pid 7)") {
			t.Errorf("%v", err)
		}
		r.want("standby primary")
	})
}

// A seal of unknown outcome that is still under way must not land after the
// cutover was undone: the record's version moves.
func TestSealThatIsLateLandsNowhere(t *testing.T) {
	r := newRig(t)
	r.put(0, "k", "v")
	r.put(1, "k", "v")
	r.set("primary standby")
	_, before, err := r.sides[0].ReadRecord(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	r.hooks[0].onSwap = func(s driver.Swap) error {
		if s.Key == side.RecordKey && refused == 0 { // as if its answer were lost for good
			refused++
			return driver.Permanent(errors.New("lost"))
		}
		return nil
	}
	_, err = r.migration(Options{}).Cutover(t.Context())
	var undone *UndoneError
	if !errors.As(err, &undone) {
		t.Fatal(err)
	}
	r.want("primary standby")
	if _, now, err := r.sides[0].ReadRecord(t.Context()); err != nil || now == before {
		t.Errorf("the record still is at version %d, so that the seal could land (%v)", now, err)
	}
}

// The records say who ran the command.
func TestRecordsSayWhoChangedThem(t *testing.T) {
	r := newRig(t)
	r.do(r.migration(Options{User: "ann", Host: "ops1"}).Start)
	for i := range r.sides {
		record, _, err := r.sides[i].ReadRecord(t.Context())
		if by := record.By; err != nil || by.User != "ann" || by.Host != "ops1" || by.Command != "start" || time.Since(by.At).Abs() > time.Hour {
			t.Errorf("%+v, %v", by, err)
		}
		if text := record.By.String(); !strings.HasPrefix(text, "start by ann@ops1 at 2") {
			t.Error(text)
		}
	}
	_, err := r.careful(Options{User: "ann"}).Cutover(t.Context())
	wantErr(t, err, ErrRefused)
	record, _, err := r.sides[1].ReadRecord(t.Context())
	if text := record.By.String(); err != nil || !strings.HasPrefix(text, "asked before cutover by ann") {
		t.Errorf("after a refusal: %s, %v", text, err)
	}
}
