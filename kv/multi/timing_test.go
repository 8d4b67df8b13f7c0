package multi_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/multi"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// clock notes when a store is asked for something, and may keep it from answering.
type clock struct {
	began   time.Time
	refuses atomic.Bool
	hangs   atomic.Bool

	mu    sync.Mutex
	times []time.Duration // since it began
}

func newClock() *clock { return &clock{began: time.Now()} }

func (c *clock) tick(ctx context.Context) error {
	c.mu.Lock()
	c.times = append(c.times, time.Since(c.began))
	c.mu.Unlock()
	switch {
	case c.refuses.Load():
		return errDenied
	case c.hangs.Load():
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

// take returns the times since it was last called.
func (c *clock) take() []time.Duration {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	times := c.times
	c.times = nil
	return times
}

// expect wants requests at these times since the clock began.
func (c *clock) expect(t *testing.T, what string, want ...time.Duration) {
	t.Helper()
	if got := c.take(); !slices.Equal(got, want) {
		t.Errorf("%s: at %v, want %v", what, got, want)
	}
}

// clocked is a store of which the reads, or the writes, of keys with a prefix are
// timed.
type clocked struct {
	driver.Store
	prefix      string
	gets, swaps *clock // nil: not timed
}

func (s clocked) Get(ctx context.Context, r driver.GetRequest) (driver.Entry, error) {
	if s.gets != nil && strings.HasPrefix(r.Key, s.prefix) {
		if err := s.gets.tick(ctx); err != nil {
			return driver.Entry{}, err
		}
	}
	return s.Store.Get(ctx, r)
}

func (s clocked) Swap(ctx context.Context, w driver.Swap) (driver.Result, error) {
	if s.swaps != nil && strings.HasPrefix(w.Key, s.prefix) {
		if err := s.swaps.tick(ctx); err != nil {
			return driver.Result{Outcome: driver.NotApplied}, err
		}
	}
	return s.Store.Swap(ctx, w)
}

// seconds are times.
func seconds(all ...time.Duration) []time.Duration {
	for i := range all {
		all[i] *= time.Second
	}
	return all
}

// took is how long f takes.
func took(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}

// Heartbeats are written every ten seconds to both stores. One that could not be
// written is tried again after a second, then after twice as long each time.
func TestWhenHeartbeatsAreWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		clocks := [2]*clock{newClock(), newClock()}
		clocks[1].refuses.Store(true)
		began := time.Now()
		c := r.clientOf(patientConfig(), func(at int, s driver.Store) driver.Store {
			return clocked{Store: s, prefix: side.ClientsPrefix, swaps: clocks[at]}
		})
		both := func(what string, want ...time.Duration) {
			t.Helper()
			for at := range clocks {
				clocks[at].expect(t, fmt.Sprint(what, ", store ", at), want...)
			}
		}
		time.Sleep(36 * time.Second)
		both("while one store refuses", seconds(0, 1, 3, 7, 15, 25, 35)...)
		clocks[1].refuses.Store(false)
		time.Sleep(20 * time.Second)
		both("when both take them", seconds(45, 55)...)
		clocks[0].refuses.Store(true)
		time.Sleep(13 * time.Second)
		both("when the other one refuses", seconds(65, 66, 68)...)
		clocks[0].refuses.Store(false)
		time.Sleep(20 * time.Second)
		for at := range clocks {
			all := r.heartbeats(at)
			if len(all) != 1 {
				t.Fatalf("%d heartbeats", len(all))
			}
			h := all[0]
			if h.Beat != 14 || !h.Started.Equal(began) || !h.Seen.Equal(began.Add(82*time.Second)) || h.Mode != side.ModeCoordinated || h.Name != "web" ||
				h.FenceTimeout != 30*time.Second || h.Host != side.Hostname() || h.Primary != "first" || h.Mirror != "second" || h.Epoch != 1 || h.Problem != "" || h.Waiting != 0 {
				t.Errorf("store %d holds %+v", at, h)
			}
			for i, sees := range h.Sees {
				record, version, err := r.sideOf(i).ReadRecord(t.Context())
				if want := (side.Sight{Store: []string{"first", "second"}[i], Migration: record.Migration, Version: uint64(version)}); sees != want || err != nil {
					t.Errorf("it sees %+v, want %+v, %v", sees, want, err)
				}
			}
		}
		clocks[0].hangs.Store(true)
		if d := took(func() { _ = c.Close() }); d != 300*time.Millisecond || len(r.heartbeats(0)) != 1 || len(r.heartbeats(1)) != 0 {
			t.Errorf("Close took %v and left %d and %d", d, len(r.heartbeats(0)), len(r.heartbeats(1)))
		}
	})
}

// A client that can read one of the stores only tells of itself there after three
// seconds, and in the other one as soon as it has read that.
func TestWhenHeartbeatsBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		reads, writes := newClock(), [2]*clock{newClock(), newClock()}
		reads.hangs.Store(true)
		r.clientOf(patientConfig(), func(at int, s driver.Store) driver.Store {
			if at == 1 {
				s = clocked{Store: s, prefix: side.RecordKey, gets: reads}
			}
			return clocked{Store: s, prefix: side.ClientsPrefix, swaps: writes[at]}
		})
		time.Sleep(14 * time.Second)
		writes[0].expect(t, "where it reads", seconds(3, 13)...)
		writes[1].expect(t, "where it doesn't")
		reads.hangs.Store(false)
		time.Sleep(time.Minute)
		first, second := writes[0].take(), writes[1].take()
		if len(second) == 0 || len(first) == 0 || first[0] != second[0] || first[0] > 25*time.Second {
			t.Errorf("when it reads both it writes at %v and %v", first, second)
		}
	})
	synctest.Test(t, func(t *testing.T) { // which has nothing to remove either
		r, asked := newRig(t), newClock()
		reads := newClock()
		reads.refuses.Store(true)
		c := r.clientOf(patientConfig(), func(_ int, s driver.Store) driver.Store {
			return clocked{Store: clocked{Store: s, prefix: side.RecordKey, gets: reads}, prefix: side.ClientsPrefix, gets: asked, swaps: asked}
		})
		time.Sleep(time.Minute)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		asked.expect(t, "a client that can read neither record")

		r.clientOf(patientConfig(), func(_ int, s driver.Store) driver.Store {
			return clocked{Store: clocked{Store: s, prefix: side.RecordKey, gets: reads}, prefix: side.ClientsPrefix, swaps: asked}
		})
		time.Sleep(time.Minute)
		reads.refuses.Store(false)
		time.Sleep(20 * time.Second)
		if read, wrote := reads.take(), asked.take(); len(wrote) == 0 || !slices.Contains(read, wrote[0]) {
			t.Errorf("the records were read at %v, and the first heartbeat came at %v", read, wrote)
		}
	})
}

// The records are read every ten seconds or so, and after failures soon at first.
func TestHowOftenRecordsAreRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		reads := [2]*clock{newClock(), newClock()}
		r.clientOf(patientConfig(), func(at int, s driver.Store) driver.Store {
			return clocked{Store: s, prefix: side.RecordKey, gets: reads[at]}
		})
		time.Sleep(20 * time.Second)
		for at, c := range reads {
			c.take()
			time.Sleep(1000 * time.Second)
			times := c.take()
			if n := len(times); n < 80 || n > 125 {
				t.Errorf("store %d was read %d times in 1000 s", at, n)
			}
			for i, when := range times[1:] {
				if pause := when - times[i]; pause > 15*time.Second { // a shorter one has another reason
					t.Errorf("a pause of %v", pause)
				}
			}
		}
		for range 2 { // the second time it begins with short ones again
			reads[0].refuses.Store(true)
			for reads[0].take(); len(reads[0].take()) == 0; {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(10 * time.Second)
			soon := len(reads[0].take())
			time.Sleep(200 * time.Second)
			if later := len(reads[0].take()); soon < 6 || soon > 12 || later < 14 || later > 35 {
				t.Errorf("after a failure it was read %d times in 10 s, then %d times in 200 s", soon, later)
			}
			reads[0].refuses.Store(false)
			time.Sleep(40 * time.Second)
		}
	})
}

// A call waits for a store to be primary for FenceTimeout, its ctx or Close,
// whichever ends first, and asks for the records meanwhile.
func TestHowLongCallsWaitForAPrimary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		reads := [2]*clock{newClock(), newClock()}
		c := r.clientOf(patientConfig(), func(at int, s driver.Store) driver.Store {
			return clocked{Store: s, prefix: side.RecordKey, gets: reads[at]}
		})
		put(t, c, "k", "v")
		r.set(0, side.Sealed)
		time.Sleep(time.Second)
		write := func(ctx context.Context, want error, after time.Duration, says string) {
			t.Helper()
			var err error
			if d := took(func() { err = c.Delete(ctx, "k") }); !errors.Is(err, want) || d != after || !strings.Contains(err.Error(), says) {
				t.Errorf("after %v: %v, want %v after %v", d, err, want, after)
			}
		}
		reads[0].take()
		reads[1].take()
		time.AfterFunc(20*time.Second, func() {
			if h := r.heartbeats(0); len(h) != 1 || h[0].Waiting != 1 || h[0].Primary != "" || h[0].Epoch != 0 || h[0].Mirror != "" {
				t.Errorf("while a write waits a heartbeat says %+v", h)
			}
		})
		write(t.Context(), kv.ErrFenced, 30*time.Second, "no store was primary for 30s")
		for at, c := range reads {
			if n := len(c.take()); n < 45 || n > 130 {
				t.Errorf("store %d was read %d times in half a minute", at, n)
			}
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Second, errors.New("it has been enough"))
		defer cancel()
		write(ctx, context.DeadlineExceeded, 5*time.Second, "it has been enough")
		if d := took(func() {
			if got := get(t, c, "k"); got != "v" {
				t.Errorf("a read gives %v", got)
			}
		}); d != 0 {
			t.Errorf("a read took %v", d)
		}
		time.AfterFunc(7*time.Second, func() { _ = c.Close() })
		write(t.Context(), kv.ErrClosed, 7*time.Second, "")
	})
	synctest.Test(t, func(t *testing.T) { // where waiting won't help nobody waits
		p, cfg := newPair(t), patientConfig()
		c := p.open(cfg, nil)
		if d := took(func() {
			if err := c.Delete(t.Context(), "k"); !errors.Is(err, kv.ErrFenced) {
				t.Error(err)
			}
		}); d != 0 {
			t.Errorf("without records a write fails after %v", d)
		}
	})
}

// The first write waits for what is not known of the other store for as long as
// for its mirror, and no other does.
func TestHowLongAWriteWaitsToKnowTheOtherStore(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*multi.Config)
		want   time.Duration
	}{
		"mirrored":     {func(*multi.Config) {}, time.Second},
		"more patient": {func(cfg *multi.Config) { cfg.MirrorTimeout = 2 * time.Second }, 2 * time.Second},
		"for one read": {func(cfg *multi.Config) { cfg.MirrorTimeout = time.Minute }, 3 * time.Second},
		"async":        {func(cfg *multi.Config) { cfg.MirrorAsync = true }, 0},
		"not mirrored": {func(cfg *multi.Config) { cfg.Mirror = false }, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			cfg := patientConfig()
			test.change(&cfg)
			c := r.clientOf(cfg, func(at int, s driver.Store) driver.Store {
				if at == 0 {
					return s
				}
				return hanging{s}
			})
			for _, want := range []time.Duration{test.want, 0} {
				if d := took(func() { put(t, c, "k", "v") }); d != want {
					t.Errorf("%s: a write took %v, want %v", name, d, want)
				}
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		c := r.clientOf(patientConfig(), func(at int, s driver.Store) driver.Store {
			if at == 0 {
				return s
			}
			return hanging{s}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if d := took(func() { _ = c.Delete(ctx, "k") }); d != 100*time.Millisecond {
			t.Errorf("a write with a deadline took %v", d)
		}
		time.AfterFunc(200*time.Millisecond, func() { _ = c.Close() })
		if d := took(func() { _ = c.Delete(t.Context(), "k") }); d != 200*time.Millisecond {
			t.Errorf("a write amid Close took %v", d)
		}
	})
}

// Retries of what the secondary refuses: one key at a time of a store that refuses
// all, every key where it is about one.
func TestWhenMirrorsAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, swaps := newPair(t), newClock()
		var large atomic.Bool
		cfg := multi.DefaultConfig()
		cfg.MirrorMinBackoff, cfg.MirrorMaxBackoff, cfg.RepairInterval = time.Second, 8*time.Second, 0
		c := p.open(cfg, func(at int, s driver.Store) driver.Store {
			if at == 0 {
				return s
			}
			return &hooked{Store: clocked{Store: s, swaps: swaps}, beforeSwap: func(w driver.Swap) error {
				if large.Load() && strings.HasPrefix(w.Key, "large") {
					_ = swaps.tick(t.Context())
					return driver.Permanent(fmt.Errorf("no room: %w", kv.ErrTooLarge))
				}
				return nil
			}}
		})
		pauses := func(what string, atOnce int, times []time.Duration) {
			t.Helper()
			if len(times) < 10 || len(times)%atOnce != 0 {
				t.Fatalf("%s: %d attempts", what, len(times))
			}
			for i := atOnce; i < len(times); i += atOnce {
				usual := min(8*time.Second, time.Second<<(i/atOnce-1))
				if pause := times[i] - times[i-1]; pause < usual/2 || pause > usual*3/2 || times[i] != times[i+atOnce-1] {
					t.Errorf("%s: attempts at %v; before number %d the pause is about %v", what, times, i, usual)
				}
			}
		}
		for range 2 {
			swaps.refuses.Store(true)
			put(t, c, "a", fmt.Sprint(time.Now()))
			put(t, c, "b", fmt.Sprint(time.Now()))
			put(t, c, "c", fmt.Sprint(time.Now()))
			time.Sleep(100 * time.Second)
			pauses("a store that refuses all", 1, swaps.take())
			if s := c.Status().Mirrors[1]; !s.Dead || s.Backlog != 3 || s.Late != 0 {
				t.Errorf("it is %+v", s)
			}
			swaps.refuses.Store(false)
			time.Sleep(15 * time.Second)
			if times := swaps.take(); len(times) != 3 || times[0] != times[2] {
				t.Errorf("when it takes them again: at %v", times)
			}
			p.wantEqual()
		}
		for range 2 {
			large.Store(true)
			put(t, c, "large1", fmt.Sprint(time.Now()))
			put(t, c, "large2", fmt.Sprint(time.Now()))
			if d := took(func() { put(t, c, "small", fmt.Sprint(time.Now())) }); d != 0 {
				t.Errorf("a key that can be mirrored takes %v", d)
			}
			times := swaps.take()
			if len(times) != 3 {
				t.Errorf("at first: %v", times)
			}
			time.Sleep(100 * time.Second)
			pauses("two keys that it refuses", 2, append(times[:2], swaps.take()...))
			large.Store(false)
			time.Sleep(15 * time.Second)
			if times := swaps.take(); len(times) != 2 || c.Status().Mirrors[1].Error != "" {
				t.Errorf("when it takes them again: at %v, %+v", times, c.Status().Mirrors[1])
			}
			p.wantEqual()
		}
		// What waits for a retry is tried at once for a switch.
		large.Store(true)
		put(t, c, "large1", "x")
		time.Sleep(60 * time.Second)
		large.Store(false)
		if d := took(func() {
			if err := c.SetPrimary(t.Context(), "second"); err != nil {
				t.Error(err)
			}
		}); d != 0 {
			t.Errorf("a switch took %v", d)
		}
		p.wantEqual()
	})
}

// Close waits for what is left to mirror for DrainTimeout, and not for a store
// that is known not to answer.
func TestHowLongCloseWaits(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(c *multi.Client, swaps *clock)
		want    time.Duration
	}{
		"nothing is left":    {func(*multi.Client, *clock) {}, 0},
		"a store that hangs": {func(_ *multi.Client, swaps *clock) { swaps.hangs.Store(true) }, 5 * time.Second},
		"one that fails":     {func(_ *multi.Client, swaps *clock) { swaps.refuses.Store(true) }, 0},
		"one that is back":   {func(_ *multi.Client, swaps *clock) { swaps.refuses.Store(true) }, 0},
		"mirroring is off":   {func(c *multi.Client, swaps *clock) { swaps.hangs.Store(true); _ = c.SetMirroring(false) }, 0},
		"one that it gives up": {func(_ *multi.Client, swaps *clock) {
			swaps.hangs.Store(true)
			time.AfterFunc(2*time.Second, func() { swaps.refuses.Store(true) })
		}, 3 * time.Second}, // what is under way then is given up
	} {
		synctest.Test(t, func(t *testing.T) {
			p, swaps := newPair(t), newClock()
			cfg := multi.DefaultConfig()
			cfg.MirrorAsync, cfg.DrainTimeout = true, 5*time.Second
			c := p.open(cfg, func(at int, s driver.Store) driver.Store {
				if at == 0 {
					return s
				}
				return clocked{Store: s, swaps: swaps}
			})
			test.prepare(c, swaps)
			put(t, c, "k", "v")
			if d := took(func() { _ = c.Close() }); d < test.want || d > test.want+30*time.Millisecond {
				t.Errorf("%s: Close took %v, want %v", name, d, test.want)
			}
		})
	}
}

// A client of one store reads its record every ten seconds at most, every second
// while there is one; a write waits for that for three seconds, a read not at all.
func TestHowOftenAClientOfOneStoreLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, looks := inmemory.NewStore(), newClock()
		o := kv.Options{Logger: quiet}
		admin := kv.New(store.Open(), codec.Bytes{}, &o)
		c, err := multi.CheckRecord(kv.New(clocked{Store: store.Open(), prefix: side.RecordKey, gets: looks}, codec.String{}, &o), multi.RecordRefuse, quiet)
		if err != nil {
			t.Fatal(err)
		}
		put(t, c, "k", "v")
		put(t, c, "k", "v")
		looks.expect(t, "the first write", 0)
		time.Sleep(10*time.Second - 1)
		put(t, c, "k", "v")
		looks.expect(t, "within ten seconds")
		time.Sleep(time.Nanosecond)
		put(t, c, "k", "v")
		looks.expect(t, "after ten seconds", 10*time.Second)
		s, err := side.New("first", admin, nil)
		if err == nil {
			_, _, err = s.SwapRecord(t.Context(), 0, side.Record{State: side.Primary, Epoch: 1, Migration: "m", Source: "first", Target: "second"})
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		put(t, c, "k", "v")
		time.Sleep(time.Second - 1)
		put(t, c, "k", "v")
		looks.expect(t, "within a second", 20*time.Second)
		time.Sleep(time.Nanosecond)
		looks.hangs.Store(true)
		if d := took(func() { get(t, c, "k") }); d != 0 {
			t.Errorf("a read took %v", d)
		}
		looks.expect(t, "after a second", 21*time.Second)
		var writers sync.WaitGroup
		time.Sleep(time.Second)
		for range 3 {
			writers.Go(func() {
				if d := took(func() { put(t, c, "k", "v") }); d != 2*time.Second { // of the read that is under way
					t.Errorf("a write took %v", d)
				}
			})
		}
		writers.Wait()
		looks.expect(t, "while one is under way")
		if d := took(func() { put(t, c, "k", "v") }); d != 3*time.Second {
			t.Errorf("a write took %v", d)
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if d := took(func() { _ = c.Delete(ctx, "k") }); d != time.Second {
			t.Errorf("a write with a deadline took %v", d)
		}
		for what, look := range map[string]func(){
			"List": func() { _, _ = c.List(t.Context(), "") },
			"Entries": func() {
				for _, err := range kv.Entries(t.Context(), c, "") {
					_ = err // what it reads is another test's
				}
			},
		} {
			time.Sleep(10 * time.Second)
			looks.take()
			if d := took(look); d != 0 {
				t.Errorf("%s took %v", what, d)
			}
			if n := len(looks.take()); n != 1 {
				t.Errorf("%s: the record was read %d times", what, n)
			}
		}
		time.Sleep(10 * time.Second)
		get(t, c, "k") // begins to look
		looks.take()
		if d := took(func() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}); d != 0 {
			t.Errorf("Close took %v", d)
		}
		time.Sleep(time.Minute)
		if err := c.Delete(t.Context(), "k"); !errors.Is(err, kv.ErrClosed) {
			t.Error(err)
		}
		looks.expect(t, "after Close")
		_ = admin.Close()
	})
}

// A write that comes while its key is tried in a dead store, after the last look at
// the primary, is mirrored after it.
func TestAWriteAmidAProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, swaps := newPair(t), newClock()
		var looks atomic.Int32 // those to come, of which the last one is held up
		inside, goOn := make(chan struct{}), make(chan struct{})
		cfg := multi.DefaultConfig()
		cfg.RepairInterval = 0
		c := p.open(cfg, func(at int, s driver.Store) driver.Store {
			if at == 1 {
				return clocked{Store: s, swaps: swaps}
			}
			return &hooked{Store: s, afterGet: func(string) {
				if looks.Add(-1) == 0 {
					close(inside)
					<-goOn
				}
			}}
		})
		swaps.refuses.Store(true)
		put(t, c, "k", "1")
		swaps.refuses.Store(false)
		looks.Store(2) // before the swap, and after it
		<-inside
		if s := c.Status().Mirrors[1]; !s.Dead || get(t, p.plain[1], "k") != "1" {
			t.Fatalf("it is %+v", s)
		}
		for i := range 3 {
			if d := took(func() { put(t, c, "k", fmt.Sprint("later", i)) }); d != 0 {
				t.Errorf("a write took %v", d)
			}
		}
		close(goOn)
		time.Sleep(time.Second)
		p.wantEqual()
		if s := c.Status().Mirrors[1]; s.Dead || s.Backlog != 0 || s.Mirrored != 2 {
			t.Errorf("it is %+v", s)
		}
	})
}

// lane is a store whose swaps take a while, and end as a test says.
type lane struct {
	driver.Store
	*clock
	takes time.Duration
}

func (l lane) Swap(ctx context.Context, w driver.Swap) (driver.Result, error) {
	refuses := l.refuses.Load()
	l.refuses.Store(false)
	_ = l.tick(ctx)
	time.Sleep(l.takes)
	if l.refuses.Store(refuses); refuses {
		return driver.Result{Outcome: driver.NotApplied}, errDenied
	}
	return l.Store.Swap(ctx, w)
}

// What waits for a worker when the store fails is not tried, and nobody waits for it.
func TestWhatIsQueuedWhenAStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, swaps := newPair(t), newClock()
		cfg := multi.DefaultConfig()
		cfg.MirrorWorkers, cfg.RepairInterval = 1, 0
		cfg.MirrorMinBackoff = time.Minute
		cfg.MirrorMaxBackoff = time.Minute
		c := p.open(cfg, func(at int, s driver.Store) driver.Store {
			if at == 0 {
				return s
			}
			return lane{s, swaps, 300 * time.Millisecond}
		})
		swaps.refuses.Store(true)
		var writers sync.WaitGroup
		for i := range 5 {
			writers.Go(func() {
				if d := took(func() { put(t, c, fmt.Sprint(i), "v") }); d != 300*time.Millisecond {
					t.Errorf("a write took %v", d)
				}
			})
		}
		writers.Wait()
		time.Sleep(10 * time.Second)
		swaps.expect(t, "the only one that was tried", 0)
		swaps.refuses.Store(false)
		time.Sleep(2 * time.Minute)
		p.wantEqual()
		if n := len(swaps.take()); n != 5 {
			t.Errorf("%d swaps for 5 keys", n)
		}
	})
}

// So many keys are mirrored at once as there are workers, and no more.
func TestHowManyKeysAreMirroredAtOnce(t *testing.T) {
	for _, workers := range []int{1, 2, 3, 6} {
		synctest.Test(t, func(t *testing.T) {
			p, swaps := newPair(t), newClock()
			cfg := multi.DefaultConfig()
			cfg.MirrorWorkers, cfg.MirrorAsync, cfg.RepairInterval = workers, true, 0
			c := p.open(cfg, func(at int, s driver.Store) driver.Store {
				if at == 0 {
					return s
				}
				return lane{s, swaps, time.Second}
			})
			for round := range 2 {
				time.Sleep(time.Until(swaps.began.Add(time.Duration(round) * time.Minute)))
				var want []time.Duration
				for i := range 6 {
					put(t, c, fmt.Sprint(i), fmt.Sprint(round))
					want = append(want, time.Duration(round)*time.Minute+time.Duration(i/workers)*time.Second)
				}
				time.Sleep(30 * time.Second)
				swaps.expect(t, fmt.Sprint(workers, " workers"), want...)
			}
			p.wantEqual()
		})
	}
}

// A write of a key that is being tried again waits for its own mirror.
func TestAWriteAmidARetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, swaps := newPair(t), newClock()
		var small atomic.Bool
		small.Store(true)
		cfg := multi.DefaultConfig()
		cfg.MirrorMinBackoff, cfg.MirrorMaxBackoff, cfg.RepairInterval = time.Second, time.Second, 0
		c := p.open(cfg, func(at int, s driver.Store) driver.Store {
			if at == 0 {
				return s
			}
			return &hooked{Store: lane{s, swaps, 400 * time.Millisecond}, beforeSwap: func(driver.Swap) error {
				if small.Load() {
					return driver.Permanent(fmt.Errorf("no room: %w", kv.ErrTooLarge))
				}
				return nil
			}}
		})
		put(t, c, "k", "1")
		small.Store(false)
		for len(swaps.take()) == 0 { // it is tried again
			time.Sleep(time.Millisecond)
		}
		if d := took(func() { put(t, c, "k", "2") }); d < 700*time.Millisecond || d > 900*time.Millisecond || get(t, p.plain[1], "k") != "2" {
			t.Errorf("the write took %v, and the other store holds %v", d, get(t, p.plain[1], "k"))
		}
	})
}

// A store that refuses the one key that it is tried by answers: the others are
// mirrored at once. A store that fails with one key only has no error afterwards.
func TestAKeyThatADeadStoreIsTriedBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, swaps := newPair(t), newClock()
		cfg := multi.DefaultConfig()
		cfg.MirrorMinBackoff, cfg.MirrorMaxBackoff, cfg.RepairInterval = time.Second, time.Minute, 0
		c := p.open(cfg, func(at int, s driver.Store) driver.Store {
			if at == 0 {
				return s
			}
			return clocked{Store: &hooked{Store: s, beforeSwap: func(w driver.Swap) error {
				if w.Key == "large" {
					return driver.Permanent(fmt.Errorf("no room: %w", kv.ErrTooLarge))
				}
				return nil
			}}, swaps: swaps}
		})
		swaps.refuses.Store(true)
		put(t, c, "small", "v")
		if s := c.Status().Mirrors[1]; !s.Dead || s.Error == "" || s.Failed != 1 || s.Oldest != 0 {
			t.Errorf("a store that refuses: %+v", s)
		}
		swaps.refuses.Store(false)
		time.Sleep(2 * time.Second)
		if s := c.Status().Mirrors[1]; s.Dead || s.Error != "" || s.Backlog != 0 {
			t.Errorf("after one key that it took: %+v", s)
		}
		for range 6 { // now it is tried by the one, now by the other
			swaps.refuses.Store(true)
			put(t, c, "large", "v")
			put(t, c, "small", fmt.Sprint(time.Now()))
			time.Sleep(200 * time.Second)
			swaps.refuses.Store(false)
			swaps.take()
			time.Sleep(100 * time.Second)
			if s := c.Status().Mirrors[1]; s.Dead || s.Error == "" || s.Backlog != 1 || get(t, p.plain[1], "small") != get(t, p.plain[0], "small") {
				t.Errorf("tried by a key that it refuses: %+v", s)
			}
			times := swaps.take()
			next := slices.IndexFunc(times, func(d time.Duration) bool { return d != times[0] })
			if next < 2 || times[next]-times[0] > 1500*time.Millisecond {
				t.Errorf("it was tried at %v", times)
			}
		}
	})
}

// The age of a backlog is that of its oldest write that is not mirrored.
func TestAgeOfTheBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, swaps := newPair(t), newClock()
		cfg := multi.DefaultConfig()
		cfg.MirrorAsync, cfg.RepairInterval = true, 0
		c := p.open(cfg, func(at int, s driver.Store) driver.Store {
			if at == 0 {
				return s
			}
			return lane{s, swaps, 400 * time.Millisecond}
		})
		put(t, c, "k", "1")
		time.Sleep(200 * time.Millisecond)
		put(t, c, "k", "2")
		time.Sleep(199 * time.Millisecond)
		if s := c.Status().Mirrors[1]; s.Oldest != 399*time.Millisecond {
			t.Errorf("the oldest has waited for %v", s.Oldest)
		}
		time.Sleep(801 * time.Millisecond)
		if s := c.Status().Mirrors[1]; s.Backlog != 0 || s.Mirrored == 0 {
			t.Errorf("%+v", s)
		}
		p.wantEqual()
	})
}
