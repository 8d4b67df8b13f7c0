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

	"github.com/polykv/polykv/kv/multi/internal/side"
)

// ready is what a client tells that nothing is wrong with.
func (r *rig) ready(instance string, beat uint64) Heartbeat {
	r.t.Helper()
	h := Heartbeat{Instance: instance, Host: "host", PID: 7, Beat: beat, Seen: time.Now(), Mode: side.ModeCoordinated, Primary: "old", FenceTimeout: DefaultMaxPause}
	for _, s := range r.sides {
		record, version, err := s.ReadRecord(r.t.Context())
		if err != nil {
			r.t.Fatal(err)
		}
		h.Sees = append(h.Sees, side.Sight{Store: s.Name(), Migration: record.Migration, Version: uint64(version)})
	}
	return h
}

// What clients tell that is in the way of a cutover is told by the status, and has
// the cutover refused, unless that was allowed.
func TestClientsThatStandInTheWay(t *testing.T) {
	for name, c := range map[string]struct {
		change       func(h *Heartbeat)
		stores       []int // where its heartbeat is
		check, allow string
		detail       string
		options      Options
	}{
		"nothing": {change: func(*Heartbeat) {}},
		"it goes by a file": {
			func(h *Heartbeat) { h.Mode = side.ModeWanted }, nil, "config", "--allow-misconfigured",
			"it is not coordinated: it goes by a file (multi.wanted_file)",
			Options{AllowMisconfigured: true},
		},
		"another release": {
			func(h *Heartbeat) { h.Sees = nil }, nil, "config", "--allow-misconfigured",
			"it doesn't tell what it sees: it runs another release",
			Options{AllowMisconfigured: true},
		},
		"other stores": {
			func(h *Heartbeat) { h.Sees[1].Store = "third" }, nil, "config", "--allow-misconfigured",
			`it is configured for other stores, not for "new"`,
			Options{AllowMisconfigured: true},
		},
		"it can't read": {
			func(h *Heartbeat) { h.Sees[0].Error = "refused" }, nil, "reach", "--allow-unreachable",
			`it can't read the record of store "old": refused`,
			Options{AllowUnreachable: true},
		},
		"no record": {
			func(h *Heartbeat) { h.Sees[1].Migration = "" }, nil, "config", "--allow-misconfigured",
			`it finds no record in store "new": it looks at another store, or below another prefix`,
			Options{AllowMisconfigured: true},
		},
		"another migration": {
			func(h *Heartbeat) { h.Sees[0].Migration = "m2" }, nil, "config", "--allow-misconfigured",
			`it finds the record of another migration in store "old": it looks at another store, or below another prefix`,
			Options{AllowMisconfigured: true},
		},
		"it can't write": {
			func(*Heartbeat) {},
			[]int{0},
			"reach", "--allow-unreachable",
			`it can't write to store "new": what it tells of itself is missing there`,
			Options{AllowUnreachable: true},
		},
		"it can't mirror": {
			func(h *Heartbeat) { h.MirrorError = "full" }, nil, "reach", "--allow-unreachable", "it can't mirror: full", Options{AllowUnreachable: true},
		},
		"it is impatient": {
			func(h *Heartbeat) { h.FenceTimeout-- }, nil, "config", "--allow-misconfigured",
			"its fence_timeout, 9.999999999s, is shorter than the longest pause, 10s: its calls would fail before the cutover is undone",
			Options{AllowMisconfigured: true},
		},
		"it is late": {
			func(h *Heartbeat) { h.Seen = h.Seen.Add(-25 * time.Second) }, nil, "clients", "--allow-no-clients",
			"no client was seen: none runs coordinated with these two stores",
			Options{AllowNoClients: true},
		},
	} {
		virtually(t, name, func(t *testing.T) {
			r := newRig(t)
			r.put(0, "k", "v")
			r.put(1, "k", "v")
			r.set("primary standby")
			h := r.ready("i", 1)
			c.change(&h)
			stores := []int{0, 1}
			if c.stores != nil {
				stores = c.stores
			}
			r.beat(h, stores...)
			var want []Blocker
			if c.check != "" {
				b := Blocker{Check: c.check, Detail: c.detail, Allow: c.allow}
				if c.check != "clients" {
					b.Client = "host (pid 7)"
				}
				want = append(want, b)
			}
			st, err := r.careful(Options{}).Status(t.Context())
			if err != nil || fmt.Sprint(st.Blockers) != fmt.Sprint(want) || st.Ready != (want == nil) || want != nil && st.Blockers[0].Check != c.check {
				t.Errorf("status: %v, ready: %v, %v; want %v", st.Blockers, st.Ready, err, want)
			}
			if len(want) > 0 && want[0].Client != "" && st.Clients[0].Trouble != c.detail {
				t.Errorf("status: %+v", st.Clients[0])
			}
			result, err := r.careful(Options{DryRun: true}).Cutover(t.Context())
			if result.Before == nil {
				t.Error("a dry run compares all the same")
			}
			var no *NotReadyError
			switch {
			case want == nil:
				if err != nil {
					t.Error(err)
				}
				return
			case !errors.As(err, &no) || len(no.Blockers) != 1 || no.Blockers[0].Allow != c.allow || no.Blockers[0].Check != c.check:
				t.Fatalf("cutover: %v", err)
			case c.check == "clients":
				if !strings.HasSuffix(err.Error(), "within the last minute: host (pid 7) (--allow-no-clients goes on all the same)") {
					t.Errorf("cutover: %v", err)
				}
			case !strings.HasSuffix(err.Error(), fmt.Sprintf("not ready for the cutover, nothing was sealed: client host (pid 7): %s (%s goes on all the same)", c.detail, c.allow)):
				t.Errorf("cutover: %v", err)
			}
			wantErr(t, err, ErrRefused)
			allow := c.options
			allow.DryRun = true
			if _, err := r.careful(allow).Cutover(t.Context()); err != nil {
				t.Errorf("allowed: %v", err)
			}
			if result, err := r.careful(Options{ExpectClients: 2}).Cutover(t.Context()); err == nil || result.Before != nil {
				t.Errorf("it was refused, and compared all the same: %v", err)
			}
			// While writes wait, clients aren't judged.
			record, version, err := r.sides[0].ReadRecord(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			record.State = side.Sealed
			if _, _, err := r.sides[0].SwapRecord(t.Context(), version, record); err != nil {
				t.Fatal(err)
			}
			if st, err := r.careful(Options{}).Status(t.Context()); err != nil || len(st.Blockers) != 0 || st.Ready || st.Clients[0].Trouble != "" {
				t.Errorf("status while writes wait: %+v, %v", st, err)
			}
		})
	}
}

// A cutover waits for the clients to see the record that it wrote, for eight
// seconds at most.
func TestRollCall(t *testing.T) {
	for name, c := range map[string]struct {
		client          func(r *rig, since time.Duration, beat uint64) (h Heartbeat, stores []int) // every half second
		options         Options
		after           time.Duration // at least, and not a second more
		answered, quiet int
		say             string // "": it goes on
	}{
		"it sees the record": {
			client: func(r *rig, _ time.Duration, beat uint64) (Heartbeat, []int) { return r.ready("i", beat), []int{0, 1} },
			after:  100 * time.Millisecond, answered: 1,
		},
		"it sees it late": {
			client: func(r *rig, since time.Duration, beat uint64) (Heartbeat, []int) {
				h := r.ready("i", beat)
				if since < 5*time.Second {
					h.Sees[1].Version--
				}
				return h, []int{0, 1}
			},
			after: 5 * time.Second, answered: 1,
		},
		"it lives and never sees it": {
			client: func(r *rig, _ time.Duration, beat uint64) (Heartbeat, []int) {
				h := r.ready("i", beat)
				h.Sees[1].Version, h.Sees[1].Error = 1, "refused"
				return h, []int{0, 1}
			},
			after: 8 * time.Second, answered: 1, say: `it can't read the record of store "new": refused`,
		},
		"its word comes to the other store late": {
			client: func(r *rig, since time.Duration, beat uint64) (Heartbeat, []int) {
				if since < 3*time.Second {
					return r.ready("i", beat), []int{1}
				}
				return r.ready("i", beat), []int{0, 1}
			},
			after: 3 * time.Second, answered: 1,
		},
		"what is wrong with it won't go away": {
			client: func(r *rig, _ time.Duration, beat uint64) (Heartbeat, []int) {
				h := r.ready("i", beat)
				h.Mode = side.ModeWanted
				return h, []int{0, 1}
			},
			after: 100 * time.Millisecond, answered: 1, say: "it goes by a file",
		},
		"it is silent": {
			client: func(*rig, time.Duration, uint64) (Heartbeat, []int) {
				return Heartbeat{Instance: "i", Host: "host", PID: 7, Beat: 1, Seen: time.Now()}, []int{0, 1}
			},
			after: 8 * time.Second, quiet: 1,
			say: "no client answered: none runs coordinated with these two stores; crashed or cut off within the last minute: host (pid 7) (--allow-no-clients goes on all the same)",
		},
		"it is silent, and there is another": {
			client: func(r *rig, since time.Duration, beat uint64) (Heartbeat, []int) {
				r.beat(r.ready("j", beat), 0, 1)
				return Heartbeat{Instance: "i", Host: "host", PID: 7, Beat: 1, Seen: time.Now()}, []int{0, 1}
			},
			after: 8 * time.Second, answered: 1, quiet: 1,
		},
		"it is silent, and more are expected": {
			client: func(*rig, time.Duration, uint64) (Heartbeat, []int) {
				return Heartbeat{Instance: "i", Host: "host", PID: 7, Beat: 1, Seen: time.Now()}, []int{0, 1}
			},
			options: Options{ExpectClients: 1, AllowNoClients: true, AllowMisconfigured: true, AllowUnreachable: true},
			after:   8 * time.Second, quiet: 1,
			say: "0 clients answered, 1 were expected; crashed or cut off within the last minute: host (pid 7) (a lower --expect-clients goes on all the same)",
		},
		"as many as expected": {
			client:  func(r *rig, _ time.Duration, beat uint64) (Heartbeat, []int) { return r.ready("i", beat), []int{0, 1} },
			options: Options{ExpectClients: 1},
			after:   100 * time.Millisecond, answered: 1,
		},
		"some of it matters": {
			client: func(r *rig, _ time.Duration, _ uint64) (Heartbeat, []int) {
				return Heartbeat{Instance: "i", Host: "host", PID: 7, Beat: 1, Seen: time.Now()}, []int{0, 1}
			},
			options: Options{AllowNoClients: true, AllowMisconfigured: true}, after: 8 * time.Second, quiet: 1,
		},
		"another part of it matters": {
			client: func(r *rig, _ time.Duration, _ uint64) (Heartbeat, []int) {
				return Heartbeat{Instance: "i", Host: "host", PID: 7, Beat: 1, Seen: time.Now()}, []int{0, 1}
			},
			options: Options{AllowNoClients: true, AllowUnreachable: true}, after: 8 * time.Second, quiet: 1,
		},
		"it is gone": {
			client: func(*rig, time.Duration, uint64) (Heartbeat, []int) {
				return Heartbeat{Instance: "i", Host: "host", PID: 7, Beat: 1, Seen: time.Now().Add(-time.Hour)}, []int{0, 1}
			},
			say: "no client answered: none runs coordinated with these two stores (--allow-no-clients goes on all the same)",
		},
		"nothing that it could say matters": {
			client: func(*rig, time.Duration, uint64) (Heartbeat, []int) {
				return Heartbeat{Instance: "i", Host: "host", PID: 7, Beat: 1, Seen: time.Now()}, []int{0, 1}
			},
			options: Options{AllowNoClients: true, AllowMisconfigured: true, AllowUnreachable: true}, quiet: 1,
		},
	} {
		virtually(t, name, func(t *testing.T) {
			r := newRig(t)
			r.put(0, "k", "v")
			r.put(1, "k", "v")
			r.set("primary standby")
			ctx, cancel := context.WithCancel(t.Context())
			var clients sync.WaitGroup
			began := time.Now()
			say := func(beat uint64) {
				h, stores := c.client(r, time.Since(began), beat)
				r.beat(h, stores...)
			}
			say(1)
			clients.Go(func() {
				for beat := uint64(2); ctx.Err() == nil; beat++ {
					select {
					case <-time.After(50 * time.Millisecond):
						say(beat)
					case <-ctx.Done():
					}
				}
			})
			result, err := r.careful(c.options).Cutover(t.Context())
			took := time.Since(began)
			cancel()
			clients.Wait()
			if c.say == "" && err != nil || c.say != "" && (err == nil || !strings.Contains(err.Error(), c.say)) {
				t.Errorf("%v, want %s", err, c.say)
			}
			if result.Clients != c.answered || len(result.Silent) != c.quiet || took < c.after || took > c.after+500*time.Millisecond {
				t.Errorf("%d answered, %v were silent, after %v", result.Clients, result.Silent, took)
			}
		})
	}
	virtually(t, "it is interrupted", func(t *testing.T) {
		r := newRig(t)
		r.set("primary standby")
		r.beat(Heartbeat{Instance: "i", Beat: 1, Seen: time.Now()}, 0, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := r.careful(Options{}).Cutover(ctx)
		wantErr(t, err, context.DeadlineExceeded)
		r.want("primary standby")
	})
}

// Of clients only those count that live.
func TestStatusAddsUpLiveClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.set("primary standby")
		began := time.Now()
		for i, c := range []struct {
			age, started time.Duration
			primary      string
			backlog      int
			oldest       time.Duration
			waiting      int
		}{
			{0, 3 * time.Hour, "old", 1, 2 * time.Second, 10},
			{lateAfter - 1, time.Hour, "new", 2, 9 * time.Second, 20},
			{lateAfter, 2 * time.Hour, "old", 4, time.Minute, 40},
			{side.GoneAfter - 1, 2 * time.Hour, "", 8, time.Minute, 80},
			{side.GoneAfter, 2 * time.Hour, "", 16, time.Minute, 160},
			{0, 4 * time.Hour, "old", 32, 3 * time.Second, 320},
		} {
			r.beat(Heartbeat{
				Instance: fmt.Sprint(i), Beat: 1, Seen: began.Add(-c.age), Started: began.Add(-c.started),
				Primary: c.primary, Backlog: c.backlog, Oldest: c.oldest, Waiting: c.waiting,
			}, 0)
		}
		m := r.migration(Options{})
		st, err := m.Status(t.Context())
		if err != nil || st.Live != 3 || st.Behind != 1 || st.Backlog != 35 || st.Lag != 9*time.Second || st.Waiting != 350 || st.Source.Clients != 2 || st.Target.Clients != 1 || !st.Writable {
			t.Errorf("%+v, %v", st, err)
		}
		order := ""
		for _, c := range st.Clients {
			order += c.Instance
			if late, gone := strings.Contains("234", c.Instance), c.Instance == "4"; c.Late != late || c.Gone != gone || !c.ByClock || len(c.Stores) != 1 {
				t.Errorf("%+v", c)
			}
		}
		if order != "502341" {
			t.Errorf("in the order %s", order)
		}
		// A minute later it needs nobody's clock to know who went on.
		time.Sleep(side.GoneAfter)
		r.beat(Heartbeat{Instance: "0", Beat: 2, Seen: began.Add(-time.Hour), Started: began.Add(-3 * time.Hour), Primary: "old"}, 0, 1)
		st, err = m.Status(t.Context())
		if err != nil || st.Live != 1 {
			t.Errorf("%+v, %v", st, err)
		}
		for _, c := range st.Clients {
			if want := c.Instance != "0"; c.Gone != want || c.ByClock || want && c.Age != side.GoneAfter || !want && (c.Age != 0 || len(c.Stores) != 2) {
				t.Errorf("%+v", c)
			}
		}
	})
}
