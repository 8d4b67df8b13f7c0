package migrate

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
)

func (r *rig) fleet() *Fleet {
	r.t.Helper()
	f, err := NewFleet(Backend{Name: "old", Client: r.clients[0]}, Backend{Name: "new", Client: r.clients[1]})
	if err != nil {
		r.t.Fatal(err)
	}
	return f
}

// beat writes a heartbeat to the stores, as a client of now that lives.
func (r *rig) beat(h Heartbeat, stores ...int) {
	r.t.Helper()
	for _, store := range stores {
		if err := r.sides[store].WriteHeartbeat(r.t.Context(), h); err != nil {
			r.t.Fatal(err)
		}
	}
}

// Who does not do what is wanted is told with the reason.
func TestFleetTellsWhoIsBehind(t *testing.T) {
	yes, no := true, false
	for name, c := range map[string]struct {
		client Heartbeat
		wanted Wanted
		why    string
	}{
		"it does":                  {Heartbeat{Mode: "wanted", Primary: "new"}, Wanted{Primary: "new"}, ""},
		"it does, and mirrors":     {Heartbeat{Mode: "wanted", Primary: "new", Mirror: "old"}, Wanted{"new", &yes}, ""},
		"it does, without a":       {Heartbeat{Mode: "wanted", Primary: "new"}, Wanted{"new", &no}, ""},
		"mirroring is left to it":  {Heartbeat{Mode: "wanted", Primary: "new", Mirror: "old"}, Wanted{Primary: "new"}, ""},
		"it did what is told next": {Heartbeat{Mode: "wanted", Primary: "new", Problem: "the file is gone"}, Wanted{Primary: "new"}, ""},
		"the other store":          {Heartbeat{Mode: "wanted", Primary: "old"}, Wanted{Primary: "new"}, `it uses store "old"`},
		"no mirror":                {Heartbeat{Mode: "wanted", Primary: "new"}, Wanted{"new", &yes}, "it does not mirror"},
		"a mirror":                 {Heartbeat{Mode: "wanted", Primary: "new", Mirror: "old"}, Wanted{"new", &no}, `it mirrors into store "old"`},
		"with a reason":            {Heartbeat{Mode: "wanted", Primary: "old", Problem: "the file is gone"}, Wanted{Primary: "new"}, `it uses store "old": the file is gone`},
		"coordinated":              {Heartbeat{Mode: "coordinated", Primary: "new"}, Wanted{Primary: "new"}, "it is coordinated, and goes by the stores' records"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			h := c.client
			h.Instance, h.Host, h.PID, h.Beat, h.Seen = "i", "host", 7, 1, time.Now()
			r.beat(h, 0, 1)
			seen, err := r.fleet().Look(t.Context(), c.wanted)
			behind := ""
			followed := 1
			if c.why != "" {
				behind, followed = "client host (pid 7): "+c.why, 0
			}
			if err != nil || strings.Join(seen.Behind, "; ") != behind || seen.Followed != followed || len(seen.Clients) != 1 {
				t.Errorf("%+v, %v, want %q", seen, err, behind)
			}
		})
	}
}

// A client that is late may be restarted, and counts for nothing; of one that is gone
// nothing is left.
func TestFleetForgetsClientsThatAreGone(t *testing.T) {
	r := newRig(t)
	r.beat(Heartbeat{Instance: "gone", Mode: "wanted", Primary: "old", Seen: time.Now().Add(-time.Hour)}, 0, 1)
	r.beat(Heartbeat{Instance: "late", Mode: "wanted", Primary: "old", Seen: time.Now().Add(-40 * time.Second)}, 0, 1)
	seen, err := r.fleet().Look(t.Context(), Wanted{Primary: "new"})
	if err != nil || len(seen.Clients) != 1 || seen.Clients[0].Instance != "late" || seen.Followed != 0 || len(seen.Behind) != 0 || seen.Behind == nil {
		t.Errorf("%+v, %v", seen, err)
	}
	if left := reserved(t, r); strings.Contains(left, "gone") || strings.Count(left, "late") != 2 {
		t.Errorf("left are %s", left)
	}
}

// The records say what clients do, if there are any.
func TestFleetOfACoordinatedMigration(t *testing.T) {
	for states, refused := range map[string]bool{
		"none none": false, "primary retired": false, "retired primary": false, "primary standby": true, "sealed primary": true, "filling none": true,
	} {
		r := newRig(t)
		r.set(states)
		if _, err := r.fleet().Look(t.Context(), Wanted{Primary: "new"}); errors.Is(err, ErrRefused) != refused || err != nil && !refused {
			t.Errorf("%s: %v", states, err)
		}
	}
	r := newRig(t)
	r.set("primary standby")
	_, err := r.fleet().Converge(t.Context(), Wanted{Primary: "new"}, 0, ConvergeOptions{Wait: time.Hour})
	wantErr(t, err, ErrRefused)
	if _, err := NewFleet(Backend{}); err == nil {
		t.Error("a store without a name was taken")
	}
	r = newRig(t)
	plain := kv.New(r.data[1].Open(), codec.String{}, &quiet)
	defer plain.Close()
	f, err := NewFleet(Backend{Name: "old", Client: r.clients[0]}, Backend{Name: "new", Client: bare{plain}, Codec: codec.String{}})
	if err != nil {
		t.Fatal(err)
	}
	if seen, err := f.Look(t.Context(), Wanted{Primary: "new"}); errors.Is(err, kv.ErrNotSupported) {
		t.Errorf("a store without records: %+v, %v", seen, err)
	}
}

// Converge waits for every client, and for as many as are expected.
func TestFleetConverges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		f := r.fleet()
		follow := func(instance, primary string) {
			r.beat(Heartbeat{Instance: instance, Mode: "wanted", Primary: primary, Beat: uint64(time.Now().Unix()), Seen: time.Now()}, 0, 1)
		}
		for _, c := range []struct {
			primary string
			expect  int
			say     string
		}{
			{"", 0, "not every client does what is wanted: 0 clients were seen, 1 were expected"},
			{"old", 0, `not every client does what is wanted: client a: it uses store "old"`},
			{"new", 2, "not every client does what is wanted: 1 clients were seen, 2 were expected"},
			{"new", 1, ""},
			{"new", 0, ""},
		} {
			if c.primary != "" {
				follow("a", c.primary)
			}
			seen, err := f.Converge(t.Context(), Wanted{Primary: "new"}, c.expect, ConvergeOptions{})
			if c.say == "" {
				if err != nil || seen.Followed != 1 {
					t.Errorf("%+v, %v", seen, err)
				}
				continue
			}
			wantErr(t, err, ErrRefused)
			var not *NotFollowedError
			if !errors.As(err, &not) || err.Error() != c.say || len(not.Clients) != len(seen.Clients) {
				t.Errorf("%v, want %s", err, c.say)
			}
		}
		// The second one comes while it waits.
		var later sync.WaitGroup
		later.Go(func() {
			time.Sleep(5 * time.Second)
			follow("b", "new")
		})
		var reasons []string
		began := time.Now()
		seen, err := f.Converge(t.Context(), Wanted{Primary: "new"}, 2, ConvergeOptions{Wait: time.Minute, Waiting: func(err error) { reasons = append(reasons, err.Error()) }})
		later.Wait()
		if took := time.Since(began); err != nil || seen.Followed != 2 || len(reasons) != 1 || took > 10*time.Second {
			t.Errorf("%+v, %v after %v, %v", seen, err, took, reasons)
		}
		// It ends with its ctx, and says what it waited for.
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		follow("a", "new")
		follow("b", "old")
		_, err = f.Converge(ctx, Wanted{Primary: "new"}, 0, ConvergeOptions{Wait: time.Hour})
		wantErr(t, err, context.DeadlineExceeded)
		wantErr(t, err, ErrRefused)
	})
}
