package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polykv/polykv/kv"
)

// A round is one plan carried out while clients work and watch, and the checks
// after it. Its keys and clients are its own.
type round struct {
	t       testing.TB
	arena   *arena
	options kv.Options
	tally   *tally
	seed    uint64

	prefix    string
	start     time.Time
	pace      time.Duration // between two operations of a worker, up to double
	histories []*history
	counters  []*counter

	gate     sync.RWMutex // held by operations; locked by what needs quiet
	network  sync.Mutex   // held by faults of the network; likewise
	restored atomic.Bool

	endWatches func()

	mu          sync.Mutex
	failures    int
	revoking    int
	refuseUntil time.Time // when the latest of those whose rights were back had them
}

const (
	keysPerRound     = 8
	countersPerRound = 2

	// patience is what a round gives the clients to find back and to end, and
	// the check of one history.
	patience = 2 * time.Minute
)

// run carries out one round and reports whether nothing was wrong with it.
func (a *arena) run(t testing.TB, seed uint64, p plan, total *tally) (fine bool) {
	t.Helper()
	pprof.Do(t.Context(), pprof.Labels(arenaLabel, a.name), func(context.Context) { fine = a.carryOut(t, seed, p, total) })
	return fine
}

func (a *arena) carryOut(t testing.TB, seed uint64, p plan, total *tally) bool {
	t.Helper()
	r := &round{
		t: t, arena: a, options: a.options, tally: newTally(), seed: seed,
		prefix: fmt.Sprintf("round/%x/", rand.Uint64()), start: time.Now(), pace: 8 * time.Millisecond,
	}
	for i := range keysPerRound {
		r.histories = append(r.histories, &history{key: fmt.Sprintf("%skey-%d", r.prefix, i)})
	}
	for i := range countersPerRound {
		r.counters = append(r.counters, &counter{key: fmt.Sprintf("%scounter-%d", r.prefix, i)})
	}
	a.members = nil
	for id := range membersPerRound {
		a.members = append(a.members, a.join(t, id))
	}
	watchers, watchesEnd := r.watch()
	workersEnd := r.work(func() {
		if err := r.chaos(p); err != nil {
			r.fail("the plan could not be carried out: %v", err)
		}
	})
	chaos := r.now()
	r.within("the workers end", workersEnd)
	worked := r.now()
	r.settle(watchers)
	settled := r.now()
	r.leave(watchesEnd)
	left := r.now()
	r.judge()
	t.Logf("seed %d: faults for %.1f s, the last operation %.1f s later, in step again %.1f s later, closed %.1f s later, checked in %.1f s",
		seed, chaos.Seconds(), (worked - chaos).Seconds(), (settled - worked).Seconds(), (left - settled).Seconds(), (r.now() - left).Seconds())
	total.add(r.tally)
	if r.failures > 0 {
		t.Logf("%s: %d failures with %s and this plan:\n%s", a.backend.name, r.failures, replay(seed), p)
	}
	return r.failures == 0
}

func (r *round) now() time.Duration                  { return time.Since(r.start) }
func (r *round) since(begun time.Time) time.Duration { return begun.Sub(r.start) }

// fail notes a failure; a flood of them is cut short.
func (r *round) fail(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failures++; r.failures <= 20 {
		r.t.Errorf(r.arena.backend.name+", seed %d: "+format, append([]any{r.seed}, args...)...)
	}
}

func (r *round) history(key string) *history {
	for _, h := range r.histories {
		if h.key == key {
			return h
		}
	}
	return nil
}

func (r *round) counter(key string) *counter {
	for _, c := range r.counters {
		if c.key == key {
			return c
		}
	}
	return nil
}

// mayRefuse reports whether an operation that began then may have met a time
// without rights.
func (r *round) mayRefuse(begun time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.revoking > 0 || begun.Before(r.refuseUntil)
}

// work runs the workers of all clients until during returns. The channel is
// closed when they have ended.
func (r *round) work(during func()) <-chan struct{} {
	enough, ended := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	for _, m := range r.arena.members {
		for i := range r.arena.workers {
			w := &worker{round: r, of: m, name: fmt.Sprintf("c%dw%d", m.id, i), rand: r.rand(m.id, i)}
			wg.Go(func() { w.run(enough) })
		}
	}
	during()
	close(enough)
	go func() {
		wg.Wait()
		close(ended)
	}()
	return ended
}

// rand is a source for one part of the round, which follows from its seed.
func (r *round) rand(member, part int) *rand.Rand {
	return rand.New(rand.NewPCG(r.seed, uint64(1000*(member+1)+part)))
}

// watch starts each client's watches: one of everything, one of everything
// with a slow callback, one of a single key, and short ones one after another.
// The channel is closed when they have ended.
func (r *round) watch() ([]*watcher, <-chan struct{}) {
	var watchers []*watcher
	var wg sync.WaitGroup
	enough := make(chan struct{})
	for _, m := range r.arena.members {
		one := r.histories[m.id%len(r.histories)].key
		for i, w := range []*watcher{
			{name: "prefix", of: kv.PrefixRange(r.prefix)},
			{name: "slow", of: kv.PrefixRange(r.prefix), slow: r.rand(m.id, 100)},
			{name: "key", of: kv.KeyRange(one)},
		} {
			w.name = fmt.Sprintf("the %s watch of client %d", w.name, m.id)
			watchers = append(watchers, w)
			// Some are ended by ctx, some by Close.
			ctx, cancel := context.WithCancel(context.Background())
			if i == 0 {
				go func() {
					<-enough
					cancel()
				}()
			}
			wg.Go(func() {
				defer cancel()
				r.follow(ctx, m.client, w, forever)
			})
		}
		wg.Go(func() { r.flit(m.client, fmt.Sprintf("a short watch of client %d", m.id), r.rand(m.id, 101), enough) })
	}
	ended := make(chan struct{})
	go func() {
		wg.Wait()
		close(ended)
	}()
	r.endWatches = sync.OnceFunc(func() { close(enough) })
	return watchers, ended
}

// settle wants every client to work again, and every watch to show what the
// store has.
func (r *round) settle(watchers []*watcher) {
	for _, m := range r.arena.members {
		r.finalReads(m)
	}
	deadline := time.Now().Add(patience)
	r.arena.direct(r.t, func(c kv.Client) {
		for {
			store, err := r.contents(c)
			for _, w := range watchers {
				err = errors.Join(err, w.differs(store))
			}
			if err == nil {
				r.checkCounters(store)
				return
			}
			if time.Now().After(deadline) {
				r.fail("%v after all was well again: %v", patience, err)
				return
			}
			time.Sleep(20 * time.Millisecond) // between two looks at the condition
		}
	})
	for _, w := range watchers {
		w.mu.Lock()
		r.tally.watched(w.events)
		w.mu.Unlock()
	}
}

// contents reads all keys of the round.
func (r *round) contents(c kv.Client) (map[string]any, error) {
	store := map[string]any{}
	for e, err := range kv.Entries(context.Background(), c, r.prefix) {
		if err != nil {
			return nil, err
		}
		store[e.Key] = e.Value
	}
	return store, nil
}

func (r *round) checkCounters(store map[string]any) {
	for _, c := range r.counters {
		if err := c.check(store[c.key]); err != nil {
			r.fail("%v", err)
		}
	}
}

// finalReads has a client read every key, through its links.
func (r *round) finalReads(m *member) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, h := range r.histories {
		for {
			o := op{kind: opGet, client: m.id, fate: done, call: r.now()}
			got, err := m.client.Get(ctx, h.key)
			o.ret = r.now()
			if err == nil {
				o.saw, _ = got.(string)
				h.add(o)
				break
			}
			if ctx.Err() != nil {
				r.fail("client %d does not find back: %v", m.id, err)
				return
			}
		}
	}
}

// leave closes the clients and wants nothing of them to stay.
func (r *round) leave(watchesEnd <-chan struct{}) {
	r.endWatches()
	for _, m := range r.arena.members {
		if err := m.client.Close(); err != nil {
			r.fail("client %d: Close: %v", m.id, err)
		}
	}
	r.within("the watches end", watchesEnd)
	if err := eachLink(r.arena.links(), (*link).close); err != nil {
		r.fail("%v", err)
	}
	deadline := time.Now().Add(20 * time.Second)
	left := r.arena.goroutines(clientCode...)
	for len(left) > 0 && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond) // between two looks at the condition
		left = r.arena.goroutines(clientCode...)
	}
	if len(left) > 0 {
		r.fail("%d goroutines of closed clients are left:\n%s", len(left), strings.Join(left, "\n\n"))
	}
}

// clientCode is what the stacks of goroutines that clients start have in them.
var clientCode = []string{"/polykv/kv", "/etcd/client", "google.golang.org/grpc", "net/http.(*persistConn)"}

// arenaLabel marks the goroutines of an arena's round, and those that they start,
// since other tests run meanwhile.
const arenaLabel = "arena"

// goroutines returns the stacks of the arena's with one of the texts in them.
func (a *arena) goroutines(texts ...string) (stacks []string) {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		return []string{err.Error()}
	}
	mark := fmt.Sprintf("%q:%q", arenaLabel, a.name)
	for stack := range strings.SplitSeq(profile.String(), "\n\n") {
		if strings.Contains(stack, mark) && slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(stack, text) }) {
			stacks = append(stacks, stack)
		}
	}
	return stacks
}

// judge checks the histories.
func (r *round) judge() {
	end := r.now()
	for _, h := range r.histories {
		n, err := h.check(end, patience)
		r.tally.checked(n)
		if err != nil {
			r.fail("%v", err)
			file := filepath.Join(r.t.ArtifactDir(), filepath.Base(h.key)+".txt") // go test -artifacts keeps it
			if err := os.WriteFile(file, []byte(h.String()), 0o600); err != nil {
				r.fail("%v", err)
			}
		}
	}
}

// within fails the test, for good, if it doesn't happen in time.
func (r *round) within(what string, happens <-chan struct{}) {
	r.t.Helper()
	select {
	case <-happens:
	case <-time.After(patience):
		r.t.Fatalf("seed %d: after %v it still does not hold that %s:\n%s", r.seed, patience, what, strings.Join(r.arena.goroutines(clientCode...), "\n\n"))
	}
}
