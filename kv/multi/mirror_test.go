package multi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
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
)

// quiet is a logger that tells nobody.
var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// pair is two stores in memory and what looks at them from outside.
type pair struct {
	t      *testing.T
	stores [2]*inmemory.Store
	plain  [2]kv.Client
}

func newPair(t *testing.T) *pair {
	p := &pair{t: t, stores: [2]*inmemory.Store{inmemory.NewStore(), inmemory.NewStore()}}
	for i, s := range p.stores {
		p.plain[i] = kv.New(s.Open(), codec.String{}, &kv.Options{Logger: quiet})
		t.Cleanup(func() { p.plain[i].Close() })
	}
	return p
}

// open opens a multi-client. wrap, unless nil, lies between each store and its
// engine.
func (p *pair) open(cfg multi.Config, wrap func(at int, s driver.Store) driver.Store, options ...multi.Option) *multi.Client {
	p.t.Helper()
	if wrap == nil {
		wrap = func(_ int, s driver.Store) driver.Store { return s }
	}
	o := kv.Options{Logger: quiet, RetryTimeout: 500 * time.Millisecond, MinBackoff: time.Millisecond, MaxBackoff: 20 * time.Millisecond}
	c, err := multi.New(cfg, []multi.Backend{
		{Name: "first", Client: kv.New(wrap(0, p.stores[0].Open()), codec.String{}, &o)},
		{Name: "second", Client: kv.New(wrap(1, p.stores[1].Open()), codec.String{}, &o)},
	}, append([]multi.Option{multi.WithLogger(quiet)}, options...)...)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.Close() })
	return c
}

func put(t *testing.T, c kv.Client, key, value string) {
	t.Helper()
	if err := c.CAS(t.Context(), key, func(any) (any, bool, error) { return value, false, nil }); err != nil {
		t.Fatalf("writing %q: %v", key, err)
	}
}

func get(t *testing.T, c kv.Client, key string) any {
	t.Helper()
	value, err := c.Get(t.Context(), key)
	if err != nil {
		t.Fatalf("reading %q: %v", key, err)
	}
	return value
}

// eventually waits for something that must happen.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// wantEqual wants both stores to hold the same.
func (p *pair) wantEqual() {
	p.t.Helper()
	var contents [2][]string
	for i, c := range p.plain {
		for e, err := range kv.Entries(p.t.Context(), c, "") {
			if err != nil {
				p.t.Fatal(err)
			}
			contents[i] = append(contents[i], fmt.Sprint(e.Key, "=", e.Value))
		}
	}
	if !slices.Equal(contents[0], contents[1]) {
		p.t.Fatalf("the stores differ:\n%q\n%q", contents[0], contents[1])
	}
}

// hooked is a store whose swaps and reads of users' keys can be held up.
type hooked struct {
	driver.Store
	beforeSwap func(driver.Swap) error // an error: the swap is not sent
	afterSwap  func(driver.Swap) error // an error: the answer is lost
	afterGet   func(key string)
	swapped    func(driver.Swap, driver.Result)
}

func (h *hooked) Swap(ctx context.Context, s driver.Swap) (driver.Result, error) {
	if isOwn(s.Key) {
		return h.Store.Swap(ctx, s)
	}
	if h.beforeSwap != nil {
		if err := h.beforeSwap(s); err != nil {
			return driver.Result{Outcome: driver.NotApplied}, err
		}
	}
	result, err := h.Store.Swap(ctx, s)
	if h.swapped != nil {
		h.swapped(s, result)
	}
	if h.afterSwap != nil {
		if lost := h.afterSwap(s); lost != nil {
			return driver.Result{Outcome: driver.Unknown}, lost
		}
	}
	return result, err
}

func (h *hooked) Get(ctx context.Context, r driver.GetRequest) (driver.Entry, error) {
	e, err := h.Store.Get(ctx, r)
	if h.afterGet != nil && !isOwn(r.Key) {
		h.afterGet(r.Key)
	}
	return e, err
}

func TestWritesAreMirroredBeforeTheyReturn(t *testing.T) {
	p := newPair(t)
	c := p.open(multi.DefaultConfig(), nil)
	put(t, c, "a", "1")
	put(t, c, "b", "1")
	put(t, c, "a", "2")
	if err := c.Delete(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	v, err := kv.Versioned(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.SwapVersion(t.Context(), "c", 0, "3"); err != nil {
		t.Fatal(err)
	}
	if got := get(t, p.plain[1], "a"); got != "2" {
		t.Errorf("the mirror of a is %v", got)
	}
	if got := get(t, p.plain[1], "c"); got != "3" {
		t.Errorf("the mirror of c is %v", got)
	}
	p.wantEqual()
	if s := c.Status(); s.Mirrors[1].Mirrored == 0 || s.Mirrors[1].Backlog != 0 || s.Mirror != "second" || s.Primary != "first" {
		t.Errorf("the status is %+v", s)
	}
}

// A write that has landed though its answer was lost is mirrored too.
func TestUnknownWritesAreMirrored(t *testing.T) {
	p := newPair(t)
	lost := errors.New("the answer was lost")
	var losing atomic.Bool
	c := p.open(multi.DefaultConfig(), func(at int, s driver.Store) driver.Store {
		if at == 1 {
			return s
		}
		return &hooked{Store: s, afterSwap: func(driver.Swap) error {
			if losing.Load() {
				return lost
			}
			return nil
		}}
	})
	losing.Store(true)
	err := c.CAS(t.Context(), "k", func(any) (any, bool, error) { return "v", false, nil })
	if !errors.Is(err, kv.ErrIndeterminate) {
		t.Fatalf("a creation whose answer was lost returned %v", err)
	}
	losing.Store(false)
	eventually(t, "the write is mirrored", func() bool { return get(t, p.plain[1], "k") == "v" })
}

// The interleaving for which a task reads the primary again after its swap:
// the secondary is B; the primary goes from B to A, and one task reads (B, A) and
// stalls; the primary goes back to B, and another task finds both equal
// and declines; then the first one's swap lands.
func TestAStalledTaskDoesNotLeaveAnOldValue(t *testing.T) {
	p := newPair(t)
	put(t, p.plain[0], "k", "B")
	put(t, p.plain[1], "k", "B")
	stalled, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	first := p.open(multi.DefaultConfig(), func(at int, s driver.Store) driver.Store {
		if at == 0 {
			return s
		}
		return &hooked{Store: s, beforeSwap: func(w driver.Swap) error {
			if string(w.Value) == "A" {
				once.Do(func() {
					close(stalled)
					<-goOn
				})
			}
			return nil
		}}
	})
	second := p.open(multi.DefaultConfig(), nil)
	var writing sync.WaitGroup
	writing.Go(func() { put(t, first, "k", "A") })
	<-stalled
	put(t, second, "k", "B")
	close(goOn)
	writing.Wait()
	eventually(t, "both are B", func() bool { return get(t, p.plain[1], "k") == "B" })
	p.wantEqual()
}

// Many writes of one key that wait for its mirror share it.
func TestWritesOfOneKeyShareAMirror(t *testing.T) {
	p := newPair(t)
	var swaps atomic.Int64
	inside, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	c := p.open(multi.DefaultConfig(), func(at int, s driver.Store) driver.Store {
		if at == 0 {
			return s
		}
		return &hooked{Store: s, beforeSwap: func(driver.Swap) error {
			swaps.Add(1)
			once.Do(func() {
				close(inside)
				<-goOn
			})
			return nil
		}}
	})
	var writers sync.WaitGroup
	writers.Go(func() { put(t, c, "k", "0") })
	<-inside
	const more = 50
	var returned atomic.Int64
	for range more {
		writers.Go(func() {
			if err := c.CAS(t.Context(), "k", increment); err != nil {
				t.Error(err)
			}
			returned.Add(1)
		})
	}
	eventually(t, "the writes are done", func() bool { return get(t, p.plain[0], "k") == fmt.Sprint(more) })
	close(goOn)
	writers.Wait()
	if returned.Load() != more {
		t.Errorf("%d of %d writes returned", returned.Load(), more)
	}
	p.wantEqual()
	if n := swaps.Load(); n > more/2 {
		t.Errorf("%d writes of one key took %d swaps of its mirror", more+1, n)
	}
}

// A secondary that does not answer costs one write its patience, and the others
// nothing; everything is mirrored when it is back.
func TestADeadSecondaryNeitherFailsNorDelaysWrites(t *testing.T) {
	p := newPair(t)
	cfg := multi.DefaultConfig()
	cfg.MirrorTimeout = 100 * time.Millisecond
	cfg.MirrorMaxBackoff = 200 * time.Millisecond
	var dead atomic.Bool
	revived := make(chan struct{})
	c := p.open(cfg, func(at int, s driver.Store) driver.Store {
		if at == 0 {
			return s
		}
		return &hooked{Store: s, beforeSwap: func(driver.Swap) error {
			if dead.Load() {
				<-revived
			}
			return nil
		}}
	})
	put(t, c, "warm", "up")
	dead.Store(true)
	put(t, c, "k", "noticed")
	if s := c.Status().Mirrors[1]; !s.Dead || s.Late == 0 || s.Backlog != 1 {
		t.Fatalf("after a write in vain the mirror is %+v", s)
	}
	const writes, keys = 400, 20
	for i := range writes {
		put(t, c, fmt.Sprint("key", i%keys), fmt.Sprint(i))
	}
	s := c.Status().Mirrors[1]
	if s.Late != 1 {
		t.Errorf("%d writes waited for a secondary that is known to be dead", s.Late-1)
	}
	if s.Backlog != keys+1 || s.Oldest <= 0 {
		t.Errorf("the backlog after %d writes of %d keys is %+v", writes, keys, s)
	}
	dead.Store(false)
	close(revived)
	eventually(t, "the backlog is drained", func() bool { return c.Status().Mirrors[1].Backlog == 0 })
	p.wantEqual()
	put(t, c, "k", "waited for again")
	p.wantEqual()
}

// One key that the secondary can't take holds up no other.
func TestAKeyThatCannotBeMirroredHoldsUpNoOther(t *testing.T) {
	p := newPair(t)
	cfg := multi.DefaultConfig()
	cfg.MirrorMaxBackoff = 200 * time.Millisecond
	var small atomic.Bool
	small.Store(true)
	c := p.open(cfg, func(at int, s driver.Store) driver.Store {
		if at == 0 {
			return s
		}
		return &hooked{Store: s, beforeSwap: func(w driver.Swap) error {
			if small.Load() && w.Key == "large" {
				return fmt.Errorf("no room: %w", kv.ErrTooLarge)
			}
			return nil
		}}
	})
	put(t, c, "large", "v")
	for i := range 10 {
		put(t, c, fmt.Sprint("key", i), "v")
	}
	s := c.Status().Mirrors[1]
	if s.Dead || s.Backlog != 1 || s.Failed == 0 || s.Error == "" {
		t.Errorf("with one key that can't be mirrored the mirror is %+v", s)
	}
	err := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		return c.SetPrimary(ctx, "second")
	}()
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, kv.ErrTooLarge) || c.Primary() != "first" {
		t.Errorf("a switch with a key that can't be mirrored returned %v; the primary is %q", err, c.Primary())
	}
	small.Store(false)
	eventually(t, "the last key is mirrored", func() bool { return c.Status().Mirrors[1].Backlog == 0 })
	p.wantEqual()
}

// A process that ends between its write and the mirror leaves a difference that
// a repair finds.
func TestRepairRemovesEveryDifference(t *testing.T) {
	p := newPair(t)
	put(t, p.plain[0], "missing", "v")
	put(t, p.plain[0], "different", "new")
	put(t, p.plain[1], "different", "old")
	put(t, p.plain[1], "extra", "v")
	c := p.open(multi.DefaultConfig(), nil)
	totals, differences, err := c.Verify(t.Context())
	if err != nil || totals.Keys != 3 || len(differences) != 3 {
		t.Fatalf("Verify = %+v, %v, %v", totals, differences, err)
	}
	if totals, err := c.Backfill(t.Context(), nil); err != nil || totals.Copied != 2 || totals.Kept != 1 {
		t.Fatalf("Backfill = %+v, %v", totals, err)
	}
	if totals, err := c.Repair(t.Context()); err != nil || totals.Deleted != 1 {
		t.Fatalf("Repair = %+v, %v", totals, err)
	}
	p.wantEqual()
	s := c.Status()
	if s.Verify == nil || len(s.Verify.Differences) != 3 || s.Repair == nil || s.Repair.Totals.Deleted != 1 {
		t.Errorf("the status is %+v", s)
	}
}

// Values that a backend calls equal are no difference, whatever their bytes:
// neither repairs nor mirrors write them again.
func TestValuesThatAreAsGoodAsEqual(t *testing.T) {
	p := newPair(t)
	put(t, p.plain[0], "k", "VALUE")
	put(t, p.plain[1], "k", "value")
	var backends []multi.Backend
	for i, s := range p.stores {
		client := kv.New(s.Open(), codec.String{}, &kv.Options{Logger: quiet})
		backends = append(backends, multi.Backend{Name: fmt.Sprint("store", i), Client: client})
	}
	backends[1].Equal = bytes.EqualFold
	c, err := multi.New(multi.DefaultConfig(), backends, multi.WithLogger(quiet))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if totals, differences, err := c.Verify(t.Context()); err != nil || totals.Keys != 1 || len(differences) != 0 {
		t.Errorf("Verify = %+v, %v, %v", totals, differences, err)
	}
	if totals, err := c.Repair(t.Context()); err != nil || totals.Copied != 0 {
		t.Errorf("Repair = %+v, %v", totals, err)
	}
	put(t, c, "k", "Value")
	for i, want := range []string{"Value", "value"} {
		if got := get(t, p.plain[i], "k"); got != want {
			t.Errorf("store %d holds %v, want %s", i, got, want)
		}
	}
	put(t, c, "k", "other")
	p.wantEqual()
}

// Repairs run by themselves.
func TestRepairsRunNowAndThen(t *testing.T) {
	p := newPair(t)
	cfg := multi.DefaultConfig()
	cfg.RepairInterval = 20 * time.Millisecond
	c := p.open(cfg, nil)
	put(t, p.plain[0], "foreign", "v") // past the client
	eventually(t, "a repair copies it", func() bool { return get(t, p.plain[1], "foreign") == "v" })
	if err := c.SetMirroring(false); err != nil {
		t.Fatal(err)
	}
	put(t, c, "k", "v")
	if got := get(t, p.plain[1], "k"); got != nil {
		t.Errorf("a write was mirrored though mirroring is off: %v", got)
	}
	if err := c.SetMirroring(true); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what was written meanwhile is copied", func() bool { return get(t, p.plain[1], "k") == "v" })
}

// mirrorings counts what an observer is told of mirroring.
type mirrorings struct {
	multi.NopObserver
	mu           sync.Mutex
	made, failed uint64
	backlog      map[string]int
}

func (m *mirrorings) Mirrored(_ string, _ time.Duration, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.failed++
	} else {
		m.made++
	}
}

func (m *mirrorings) Backlog(store string, keys int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.backlog[store] = keys
}

// The status and the observer say the same of an outage from its begin to its end.
func TestAnOutageOfTheSecondaryIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		cfg := multi.DefaultConfig()
		cfg.MirrorTimeout, cfg.MirrorMaxBackoff = 100*time.Millisecond, 200*time.Millisecond
		seen := &mirrorings{backlog: map[string]int{}}
		var out atomic.Bool
		c := p.open(cfg, func(at int, s driver.Store) driver.Store {
			return &hooked{Store: s, beforeSwap: func(driver.Swap) error {
				if at == 1 && out.Load() {
					return errors.New("out of reach")
				}
				return nil
			}}
		}, multi.WithObserver(seen))
		expect := func(when string, want multi.MirrorStatus, says string) {
			t.Helper()
			synctest.Wait()
			s := c.Status().Mirrors[1]
			seen.mu.Lock()
			defer seen.mu.Unlock()
			if s.Dead != want.Dead || s.Backlog != want.Backlog || s.Mirrored != want.Mirrored || s.Late != want.Late || s.Oldest != want.Oldest || s.Error != says && !strings.Contains(s.Error, "out of reach") {
				t.Errorf("%s: %+v, want %+v and the error %q", when, s, want, says)
			}
			if says == "" && s.Error != "" || seen.made != s.Mirrored || seen.failed != s.Failed || when != "at once" && seen.backlog["second"] != s.Backlog || (s.Failed > 0) != (when != "at first" && when != "at once") {
				t.Errorf("%s: %+v, and the observer was told %+v", when, s, seen)
			}
		}
		took := func(key string) time.Duration {
			start := time.Now()
			put(t, c, key, "v")
			return time.Since(start)
		}
		if d := took("a"); d != 0 {
			t.Errorf("a write that is mirrored took %v", d)
		}
		expect("at first", multi.MirrorStatus{Mirrored: 1}, "")
		out.Store(true)
		if d := took("b"); d != cfg.MirrorTimeout {
			t.Errorf("the first write amid an outage took %v", d)
		}
		expect("at once", multi.MirrorStatus{Mirrored: 1, Dead: true, Late: 1, Backlog: 1, Oldest: cfg.MirrorTimeout}, "no answer within 100ms")
		if d := took("c"); d != 0 {
			t.Errorf("the second write took %v", d)
		}
		time.Sleep(2*time.Second - cfg.MirrorTimeout)
		expect("after 2 s", multi.MirrorStatus{Mirrored: 1, Dead: true, Late: 1, Backlog: 2, Oldest: 2 * time.Second}, "out of reach")
		out.Store(false)
		time.Sleep(time.Second)
		expect("after it", multi.MirrorStatus{Mirrored: 3, Late: 1}, "")
		if d := took("b"); d != 0 {
			t.Errorf("a write after it took %v", d)
		}
		expect("in the end", multi.MirrorStatus{Mirrored: 4, Late: 1}, "")
		p.wantEqual()
		_ = c.Close()
		for _, plain := range p.plain {
			_ = plain.Close()
		}
	})
}
