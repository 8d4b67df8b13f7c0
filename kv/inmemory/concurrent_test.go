package inmemory

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"

	"github.com/polykv/polykv/kv/driver"
)

// Each write of a key writes a number one higher, so a lost or doubled write
// shows in the sum.
func TestConcurrentSwaps(t *testing.T) {
	s := NewStore()
	const writers, each, keys = 8, 500, 3
	var wg sync.WaitGroup
	for g := range writers {
		wg.Go(func() {
			h := s.Open()
			defer h.Close()
			for i := range each {
				increment(t, h, benchKey((g+i)%keys))
				if i%50 == 0 { // opens a new epoch
					_, _ = h.Scan(ctx, driver.ScanRequest{})
				}
			}
		})
	}
	wg.Wait()
	sum := 0
	for i := range keys {
		n, _ := strconv.Atoi(string(get(t, s.Open(), benchKey(i)).Value))
		sum += n
	}
	if sum != writers*each {
		t.Fatalf("%d increments were made and %d are seen", writers*each, sum)
	}
}

func increment(t testing.TB, h driver.Store, key string) {
	for {
		e := get(t, h, key)
		n, _ := strconv.Atoi(string(e.Value))
		r, err := h.Swap(ctx, driver.Swap{Key: key, Prev: e, Value: []byte(strconv.Itoa(n + 1)), ID: 1})
		if err != nil {
			t.Error(err)
			return
		}
		if r.Outcome == driver.Applied {
			return
		}
	}
}

// One writer sets a and then b to the same number, again and again, with all
// that can happen to a key. Whatever shows one moment shows b = a or b = a-1.
func TestSnapshotsShowOneMoment(t *testing.T) {
	s := NewStore()
	h := s.Open()
	put(t, h, "k/a", "0")
	put(t, h, "k/b", "0")
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(done)
		for i := 1; i <= 5000; i++ {
			put(t, h, "k/a", strconv.Itoa(i))
			put(t, h, "k/b", strconv.Itoa(i))
			if i%7 == 0 {
				put(t, h, "k/"+strconv.Itoa(i%91), "")
			}
		}
	})
	for reader := range 3 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				var err error
				if reader == 0 {
					err = checkWatchMoment(h)
				} else {
					err = checkScanMoment(h, reader)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func checkScanMoment(h driver.Store, limit int) error {
	seen := map[string]string{}
	for req := (driver.ScanRequest{Prefix: "k/", Limit: limit}); ; {
		p, err := h.Scan(ctx, req)
		if err != nil {
			return err
		}
		for _, e := range p.Entries {
			seen[e.Key] = string(e.Value)
			req.After = e.Key
		}
		if req.Snapshot = p.Snapshot; !p.More {
			return checkMoment(seen)
		}
	}
}

func checkWatchMoment(h driver.Store) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	seen := map[string]string{}
	var wrong error
	_ = h.Watch(ctx, driver.WatchRequest{Range: driver.Range{Key: "k/", IsPrefix: true}}, func(e driver.Event) {
		if e.Type == driver.Synced { // later, a change of one key may be conflated and another's not
			wrong = checkMoment(seen)
			cancel()
		}
		seen[e.Entry.Key] = string(e.Entry.Value)
	})
	return wrong
}

func checkMoment(seen map[string]string) error {
	a, errA := strconv.Atoi(seen["k/a"])
	b, errB := strconv.Atoi(seen["k/b"])
	if errA != nil || errB != nil || b != a && b != a-1 {
		return fmt.Errorf("a is %q and b is %q", seen["k/a"], seen["k/b"])
	}
	return nil
}

// While "lock" is held by a version, only its holder writes "data". A guarded
// read that succeeds therefore sees the holder's data.
func TestGuardedGetIsAtomic(t *testing.T) {
	s := NewStore()
	h := s.Open()
	lock := put(t, h, "lock", "")
	put(t, h, "data", strconv.FormatUint(uint64(lock.Version), 10))
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(done)
		for range 5000 {
			lock := put(t, h, "lock", "")
			// Between these two writes the data is the predecessor's.
			put(t, h, "data", strconv.FormatUint(uint64(lock.Version), 10))
			held := []driver.Guard{{Key: "lock", Version: lock.Version}}
			swap(t, h, driver.Swap{
				Key: "data", Prev: get(t, h, "data"), Guards: held, ID: 1,
				Value: []byte(strconv.FormatUint(uint64(lock.Version), 10)),
			}, driver.Applied)
		}
	})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				guard := driver.Guard{Key: "lock", Version: get(t, h, "lock").Version}
				e, err := h.Get(ctx, driver.GetRequest{Key: "data", Guards: []driver.Guard{guard}})
				if errors.Is(err, driver.ErrFenced) {
					continue
				}
				n, _ := strconv.ParseUint(string(e.Value), 10, 64)
				if err != nil || driver.Version(n) > guard.Version {
					t.Errorf("guarded by %d, got %q, %v", guard.Version, e.Value, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// history is what one watch saw, checked as it comes.
type history struct {
	mu       sync.Mutex
	state    map[string]driver.Entry
	versions map[string]driver.Version // the highest seen of a key
	last     driver.Version            // of any change
	synced   bool
	news     chan struct{} // holds a token if something came
	err      error
}

func (h *history) emit(e driver.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch e.Type {
	case driver.Synced:
		h.synced = true
		return
	case driver.Delete:
		if !h.state[e.Entry.Key].Exists() && h.err == nil && !h.synced {
			h.err = fmt.Errorf("a deletion in the snapshot: %v", e)
		}
		delete(h.state, e.Entry.Key)
		return
	}
	v := e.Entry.Version
	if v <= h.versions[e.Entry.Key] && h.err == nil {
		h.err = fmt.Errorf("%v came after version %d", e, h.versions[e.Entry.Key])
	}
	if h.synced && v <= h.last && h.err == nil {
		h.err = fmt.Errorf("%v came after version %d of another key", e, h.last)
	}
	h.versions[e.Entry.Key] = v
	h.last = max(h.last, v)
	h.state[e.Entry.Key] = e.Entry
	select {
	case h.news <- struct{}{}:
	default:
	}
}

// await waits until the change v was seen.
func (h *history) await(t *testing.T, v driver.Version) {
	t.Helper()
	for {
		h.mu.Lock()
		last := h.last
		h.mu.Unlock()
		if last >= v {
			return
		}
		receive(t, h.news, "the last change")
	}
}

// Watches that begin at any moment among writers end up with the store's final
// state, each change in order and none from before the snapshot.
func TestWatchesMissNothing(t *testing.T) {
	s := NewStore()
	h := s.Open()
	ctx, cancel := context.WithCancel(ctx)
	var writers, watches sync.WaitGroup
	for g := range 4 {
		writers.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 1))
			for range 5000 {
				k := benchKey(rnd.IntN(40))
				e := get(t, h, k)
				s := driver.Swap{Key: k, Prev: e, Value: []byte(k), ID: 1, Remove: e.Exists() && rnd.IntN(3) == 0}
				if _, err := h.Swap(ctx, s); err != nil {
					t.Error(err)
				}
			}
		})
	}
	ranges := []driver.Range{{IsPrefix: true}, {Key: benchKey(1)[:len(benchKey(1))-1], IsPrefix: true}, {Key: benchKey(7)}}
	var histories []*history
	for i := range 60 {
		hist := &history{state: map[string]driver.Entry{}, versions: map[string]driver.Version{}, news: make(chan struct{}, 1)}
		histories = append(histories, hist)
		watches.Go(func() { _ = h.Watch(ctx, driver.WatchRequest{Range: ranges[i%3]}, hist.emit) })
		put(t, h, "pace", "") // spreads the starts
	}
	writers.Wait()
	last := put(t, h, benchKey(7), "end").Version // in all ranges
	for i, hist := range histories {
		hist.await(t, last)
		hist.check(t, h, ranges[i%3])
	}
	cancel()
	watches.Wait()
}

func (h *history) check(t *testing.T, store driver.Store, r driver.Range) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		t.Error(h.err)
	}
	p, err := store.Scan(ctx, driver.ScanRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	for _, e := range p.Entries {
		if !r.Contains(e.Key) {
			continue
		}
		want++
		if !same(h.state[e.Key], e) {
			t.Errorf("watch of %+v ended with %v, the store with %v", r, h.state[e.Key], e)
		}
	}
	if len(h.state) != want {
		t.Errorf("watch of %+v ended with %d keys, the store with %d", r, len(h.state), want)
	}
}
