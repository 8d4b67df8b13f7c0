package multi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/testlog"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/multi"
	"github.com/polykv/polykv/kv/multi/internal/side"
	"github.com/polykv/polykv/kv/multi/migrate"
)

// careful is the migration as an operator has it, who allows nothing.
func (r *rig) careful(o migrate.Options) *migrate.Migration {
	r.t.Helper()
	m, err := migrate.New(r.backend(0), r.backend(1), o)
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// patientConfig is that of a client whose calls outlast the longest pause.
func patientConfig() multi.Config {
	cfg := multi.DefaultConfig()
	cfg.Coordinated, cfg.ClientName = true, "web"
	return cfg
}

// unready makes the checks of a cutover refuse, and returns what they say.
func (r *rig) unready(o migrate.Options) *migrate.NotReadyError {
	r.t.Helper()
	_, err := r.careful(o).Cutover(r.t.Context())
	var no *migrate.NotReadyError
	if !errors.As(err, &no) || !errors.Is(err, migrate.ErrRefused) {
		r.t.Fatalf("the cutover was not refused: %v", err)
	}
	record, _, err := r.sideOf(0).ReadRecord(r.t.Context())
	if err != nil || record.State != side.Primary {
		r.t.Fatalf("the source is %v (%v)", record.State, err)
	}
	return no
}

func (r *rig) sideOf(at int) *side.Side {
	r.t.Helper()
	s, err := side.New([]string{"first", "second"}[at], r.admins[at], nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// A cutover asks every client for a sign before it seals.
func TestCutoverAsksTheClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		put(t, r.plain[0], "k", "v")
		put(t, r.plain[1], "k", "v")
		if no := r.unready(migrate.Options{}); len(no.Blockers) != 1 || no.Blockers[0].Check != "clients" {
			t.Errorf("without clients: %v", no)
		}
		crashed := side.Heartbeat{Instance: "crashed", Host: "gone", PID: 1, Beat: 5, Seen: time.Now(), Primary: "first"}
		if err := errors.Join(r.sideOf(0).WriteHeartbeat(t.Context(), crashed), r.sideOf(1).WriteHeartbeat(t.Context(), crashed)); err != nil {
			t.Fatal(err)
		}
		if no := r.unready(migrate.Options{}); len(no.Blockers) != 1 || !strings.Contains(no.Error(), "gone (pid 1)") {
			t.Errorf("with a client that crashed: %v", no)
		}
		for range 3 {
			put(t, r.clientOf(patientConfig(), nil), "k", "v")
		}
		if no := r.unready(migrate.Options{ExpectClients: 4}); !strings.Contains(no.Error(), "3 clients answered, 4 were expected") {
			t.Errorf("with a client missing: %v", no)
		}
		if no := r.unready(migrate.Options{MaxPause: time.Minute}); len(no.Blockers) != 3 || no.Blockers[0].Allow != "--allow-misconfigured" || !strings.Contains(no.Error(), "client web (") {
			t.Errorf("with clients that don't wait for that long: %v", no)
		}
		result, err := r.careful(migrate.Options{ExpectClients: 3}).Cutover(t.Context())
		if err != nil || result.Clients != 3 || len(result.Silent) != 1 {
			t.Errorf("%+v, %v", result, err)
		}
	})
}

// Clients that look elsewhere, or can't read or write a store, are in the way.
func TestCutoverRefusesWithClientsThatWouldBeStopped(t *testing.T) {
	for name, c := range map[string]struct {
		second func(r *rig) kv.Client // what the client takes for the second store
		wrap   func(at int, s driver.Store) driver.Store
		write  bool
		allow  string
		say    string
	}{
		"another prefix": {second: func(r *rig) kv.Client {
			c, err := kv.Prefix(kv.New(r.second.Open(), codec.String{}, &kv.Options{Logger: quiet}), "elsewhere/")
			if err != nil {
				r.t.Fatal(err)
			}
			return c
		}, allow: "--allow-misconfigured", say: "finds no record"},
		"can't read the target": {wrap: func(at int, s driver.Store) driver.Store {
			if at == 0 {
				return s
			}
			return refusing{Store: s, reads: true}
		}, allow: "--allow-unreachable", say: "can't read the record"},
		"can't write the target": {wrap: func(at int, s driver.Store) driver.Store {
			if at == 0 {
				return s
			}
			return refusing{Store: s}
		}, allow: "--allow-unreachable", say: "can't write to store"},
		"can't mirror": {wrap: func(at int, s driver.Store) driver.Store {
			if at == 0 {
				return s
			}
			return refusing{Store: s, userOnly: true}
		}, write: true, allow: "--allow-unreachable", say: "can't mirror"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				put(t, r.plain[0], "k", "v")
				put(t, r.plain[1], "k", "v")
				put(t, r.clientOf(patientConfig(), nil), "k", "v")
				wrap := c.wrap
				if wrap == nil {
					wrap = func(_ int, s driver.Store) driver.Store { return s }
				}
				o := kv.Options{Logger: quiet, RetryTimeout: 500 * time.Millisecond}
				second := kv.New(wrap(1, r.second.Open()), codec.String{}, &o)
				if c.second != nil {
					second.Close()
					second = c.second(r)
				}
				odd, err := multi.New(patientConfig(), []multi.Backend{{Name: "first", Client: kv.New(r.first.Open(), codec.String{}, &o)}, {Name: "second", Client: second}},
					multi.WithLogger(quiet))
				if err != nil {
					t.Fatal(err)
				}
				defer odd.Close()
				if c.write {
					put(t, odd, "k", "v2")
				}
				time.Sleep(30 * time.Second)
				no := r.unready(migrate.Options{AllowDifferences: true})
				if len(no.Blockers) != 1 || no.Blockers[0].Allow != c.allow || !strings.Contains(no.Error(), c.say) {
					t.Errorf("%v", no)
				}
				st, err := r.careful(migrate.Options{}).Status(t.Context())
				if err != nil || st.Ready || len(st.Blockers) != 1 || st.Live != 2 {
					t.Errorf("status: %+v, %v", st, err)
				}
			})
		})
	}
}

// A client whose word does not reach one of the stores at first says it again
// before the cutover gives it up.
func TestCutoverWaitsForAWordThatComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		put(t, r.plain[0], "k", "v")
		put(t, r.plain[1], "k", "v")
		var deaf atomic.Bool
		put(t, r.clientOf(patientConfig(), func(at int, s driver.Store) driver.Store {
			if at == 0 {
				return s
			}
			return silenced{s, &deaf}
		}), "k", "v")
		time.Sleep(time.Second)
		raw, err := kv.Raw(r.admins[1])
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range r.heartbeats(1) { // as if its first word had been late
			if err := raw.Delete(t.Context(), side.ClientsPrefix+h.Instance); err != nil {
				t.Fatal(err)
			}
		}
		deaf.Store(true)
		time.AfterFunc(3*time.Second, func() { deaf.Store(false) })
		result, err := r.careful(migrate.Options{ExpectClients: 1}).Cutover(t.Context())
		if err != nil || result.Clients != 1 {
			t.Errorf("%+v, %v", result, err)
		}
	})
}

// silenced is a store that takes no heartbeats for a while.
type silenced struct {
	driver.Store
	now *atomic.Bool
}

func (s silenced) Swap(ctx context.Context, w driver.Swap) (driver.Result, error) {
	if s.now.Load() && strings.HasPrefix(w.Key, side.ClientsPrefix) {
		return driver.Result{Outcome: driver.NotApplied}, errors.New("not now")
	}
	return s.Store.Swap(ctx, w)
}

// refusing is a store that doesn't allow its user something.
type refusing struct {
	driver.Store
	reads    bool // to read, not to write
	userOnly bool // to write users' keys
}

var errDenied = driver.Permanent(fmt.Errorf("%w: not for you", kv.ErrPermission))

func (s refusing) Get(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
	if s.reads {
		return driver.Entry{}, errDenied
	}
	return s.Store.Get(ctx, req)
}

func (s refusing) Swap(ctx context.Context, w driver.Swap) (driver.Result, error) {
	if !s.reads && (!s.userOnly || !strings.HasPrefix(w.Key, kv.ReservedSegment)) {
		return driver.Result{Outcome: driver.NotApplied}, errDenied
	}
	return s.Store.Swap(ctx, w)
}

// A cutover refuses what is known to differ, and an empty store.
func TestCutoverRefusesDifferences(t *testing.T) {
	r := newRig(t)
	r.clientOf(patientConfig(), nil)
	eventually(t, "the client is listed", func() bool { return len(r.heartbeats(1)) == 1 })
	if no := r.unready(migrate.Options{}); len(no.Blockers) != 1 || no.Blockers[0].Check != "empty" {
		t.Errorf("an empty store: %v", no)
	}
	put(t, r.plain[0], "k", "v")
	put(t, r.plain[1], "extra", "v")
	if no := r.unready(migrate.Options{}); len(no.Blockers) != 1 || no.Blockers[0].Allow != "--allow-differences" || !strings.Contains(no.Error(), `2 keys differ, "extra" (extra) among them`) {
		t.Errorf("differences: %v", no)
	}
	for i := range 300 { // it doesn't confirm each of them
		put(t, r.plain[0], fmt.Sprintf("missing%03d", i), "v")
	}
	if no := r.unready(migrate.Options{MaxPause: time.Second}); len(no.Blockers) != 1 || !strings.Contains(no.Error(), "at least 100 keys differ") {
		t.Errorf("many differences: %v", no)
	}
	result, err := r.careful(migrate.Options{DryRun: true, AllowDifferences: true}).Cutover(t.Context())
	if err != nil || len(result.Deletes) != 1 || result.Deletes[0] != "extra" || result.Predicted <= 0 {
		t.Errorf("dry run: %+v, %v", result, err)
	}
	if _, err := r.careful(migrate.Options{AllowDifferences: true}).Cutover(t.Context()); err != nil {
		t.Error(err)
	}
}

// A client that lives for one write only mirrors it, however far the other
// store is.
func TestShortLivedWriterMirrors(t *testing.T) {
	for _, async := range []bool{false, true} {
		t.Run(fmt.Sprintf("async=%v", async), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				cfg := patientConfig()
				cfg.MirrorAsync = async
				c := r.clientOf(cfg, func(at int, s driver.Store) driver.Store {
					if at == 0 {
						return s
					}
					return far{Store: s, by: 20 * time.Millisecond}
				})
				put(t, c, "k", "v")
				if got := get(t, r.plain[1], "k"); got != "v" && !async {
					t.Errorf("after the write the other store holds %v", got)
				}
				if err := c.Close(); err != nil {
					t.Fatal(err)
				}
				if got := get(t, r.plain[1], "k"); got != "v" {
					t.Errorf("the other store holds %v", got)
				}
			})
		})
	}
}

// far is a store that takes some time to answer.
type far struct {
	driver.Store
	by time.Duration
}

func (s far) Get(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
	time.Sleep(s.by)
	return s.Store.Get(ctx, req)
}

func (s far) Swap(ctx context.Context, w driver.Swap) (driver.Result, error) {
	time.Sleep(s.by)
	return s.Store.Swap(ctx, w)
}

// Close says what it leaves behind and why, and doesn't wait for a store that is
// known not to answer.
func TestCloseSaysWhatIsLeft(t *testing.T) {
	async := multi.DefaultConfig()
	async.MirrorAsync = true
	refused := patientConfig()
	refused.DrainTimeout = time.Hour
	for why, c := range map[string]struct {
		cfg  multi.Config
		wrap func(driver.Store) driver.Store
	}{
		"not for you":                            {refused, func(s driver.Store) driver.Store { return refusing{Store: s, userOnly: true} }},
		"not done within 1s":                     {async, func(s driver.Store) driver.Store { return hanging{s} }},
		"the store takes no mirrored writes now": {patientConfig(), func(s driver.Store) driver.Store { return hanging{s} }},
	} {
		t.Run(why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				var log bytes.Buffer
				o := kv.Options{Logger: quiet, RetryTimeout: 500 * time.Millisecond}
				client, err := multi.New(c.cfg, []multi.Backend{
					{Name: "first", Client: kv.New(r.first.Open(), codec.String{}, &o)},
					{Name: "second", Client: kv.New(c.wrap(r.second.Open()), codec.String{}, &o)},
				}, multi.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
				if err != nil {
					t.Fatal(err)
				}
				put(t, client, "left", "v")
				began := time.Now()
				if err := client.Close(); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took > time.Minute {
					t.Errorf("it waited for %v", took)
				}
				_, said, _ := strings.Cut(log.String(), "closed before everything was mirrored")
				if !strings.Contains(said, "first=[left] error=") || !strings.Contains(said, why) {
					t.Errorf("it says\n%s, not %q", log.String(), why)
				}
			})
		})
	}
}

// standings is an observer that remembers.
type standings struct {
	multi.NopObserver

	mu      sync.Mutex
	phases  []string
	primary string
	epoch   uint64
	waiting []int
	strays  map[string]int
}

func (s *standings) Standing(phase, primary string, epoch uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phases, s.primary, s.epoch = append(s.phases, phase), primary, epoch
}

func (s *standings) Waiting(calls int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = append(s.waiting, calls)
}

func (s *standings) Strays(store string, keys int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.strays = map[string]int{store: keys}
}

// While no store is primary, gauges move and a line of the log says so.
func TestNoPrimaryIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var log testlog.Log
		seen := &standings{}
		c, err := multi.New(patientConfig(), []multi.Backend{
			{Name: "first", Client: kv.New(r.first.Open(), codec.String{}, &kv.Options{Logger: quiet})},
			{Name: "second", Client: kv.New(r.second.Open(), codec.String{}, &kv.Options{Logger: quiet})},
		}, multi.WithLogger(slog.New(slog.NewTextHandler(&log, nil))), multi.WithObserver(seen))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		put(t, c, "k", "v")
		synctest.Wait()
		if seen.primary != "first" || seen.epoch != 1 || seen.phases[len(seen.phases)-1] != string(multi.PhaseMirroring) || strings.Contains(log.String(), "WARN") {
			t.Fatalf("%+v\n%s", seen, log.String())
		}
		r.set(0, side.Sealed)
		done := make(chan error)
		go func() { done <- c.CAS(t.Context(), "k", func(any) (any, bool, error) { return "w", false, nil }) }()
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		seen.mu.Lock()
		if seen.primary != "" || seen.phases[len(seen.phases)-1] != string(multi.PhaseCutover) || seen.waiting[len(seen.waiting)-1] != 1 {
			t.Errorf("while writes wait: %+v", seen)
		}
		seen.mu.Unlock()
		if n := strings.Count(log.String(), "no store is primary, writes wait"); n != 1 {
			t.Errorf("%d warnings:\n%s", n, log.String())
		}
		if s := c.Status(); s.Waiting != 1 {
			t.Errorf("%d calls wait, says the status", s.Waiting)
		}
		r.set(0, side.Primary)
		if err := <-done; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if seen.primary != "first" || seen.waiting[len(seen.waiting)-1] != 0 || !strings.Contains(log.String(), "a store is primary again") {
			t.Errorf("afterwards: %+v\n%s", seen, log.String())
		}
		put(t, r.plain[1], "stray", "v")
		if _, err := c.Repair(t.Context()); err != nil || seen.strays["second"] != 1 || !strings.Contains(log.String(), "first=[stray]") {
			t.Errorf("a stray: %v, %v\n%s", seen.strays, err, log.String())
		}
	})
}

// lateAnswers is a store that is far away: others see a write before its writer
// knows of it.
type lateAnswers struct{ driver.Store }

func (s lateAnswers) Swap(ctx context.Context, swap driver.Swap) (driver.Result, error) {
	result, err := s.Store.Swap(ctx, swap)
	time.Sleep(150 * time.Millisecond)
	return result, err
}

// What is being mirrored, however late, is no stray. Nor is a repair in its way.
func TestMirrorsUnderWayAreNoStrays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		seen := &standings{}
		c, err := multi.New(patientConfig(), []multi.Backend{
			{Name: "first", Client: kv.New(lateAnswers{r.first.Open()}, codec.String{}, &kv.Options{Logger: quiet})},
			{Name: "second", Client: kv.New(lateAnswers{r.second.Open()}, codec.String{}, &kv.Options{Logger: quiet})},
		}, multi.WithLogger(quiet), multi.WithObserver(seen))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var writers sync.WaitGroup
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		for w := range 8 {
			writers.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					put(t, c, fmt.Sprintf("%d/%d", w, i), "v")     // new ones, once
					put(t, c, fmt.Sprintf("%d", w), fmt.Sprint(i)) // one all the time
					time.Sleep(20 * time.Millisecond)
				}
			})
		}
		for _, past := range []int{0, 3} {
			time.Sleep(time.Second)
			for i := range past {
				put(t, r.plain[1], fmt.Sprintf("past/%d", i), "v")
			}
			if totals, err := c.Repair(t.Context()); err != nil || seen.strays["second"] != past {
				t.Errorf("%d keys were written past the clients: %+v, %v, %v", past, seen.strays, totals, err)
			}
		}
		writers.Wait()
	})
}

// Errors name the caller's operation and key, not the record's, and a client's
// own patience is not taken for the caller's deadline.
func TestErrorsOfCoordinatedClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		cfg := patientConfig()
		cfg.FenceTimeout = 5 * time.Second
		c := r.clientOf(cfg, func(_ int, s driver.Store) driver.Store { return hanging{s} })
		for op, call := range map[string]func() error{
			"CAS": func() error { return c.CAS(t.Context(), "mine", increment) },
			"Get": func() error { _, err := c.Get(t.Context(), "mine"); return err },
		} {
			err := call()
			var e *kv.Error
			if !errors.As(err, &e) || e.Op != op || e.Key != "mine" || errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, kv.ErrUnavailable) {
				t.Errorf("%s: %v", op, err)
			}
		}
		denied := r.clientOf(cfg, func(_ int, s driver.Store) driver.Store { return refusing{Store: s, reads: true} })
		err := denied.CAS(t.Context(), "mine", increment)
		var e *kv.Error
		if !errors.As(err, &e) || e.Op != "CAS" || e.Key != "mine" || !errors.Is(err, kv.ErrPermission) {
			t.Errorf("%v", err)
		}
	})
}

// hanging answers nothing.
type hanging struct{ driver.Store }

func (s hanging) Get(ctx context.Context, _ driver.GetRequest) (driver.Entry, error) {
	<-ctx.Done()
	return driver.Entry{}, ctx.Err()
}
