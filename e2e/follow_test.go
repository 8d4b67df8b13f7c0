package e2e

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/polykv/polykv/kv"
)

// A watcher is one watch, with what it was told of each key last.
type watcher struct {
	round *round
	name  string
	of    kv.Range
	slow  *rand.Rand // makes some callbacks slow; nil: none

	begun time.Duration

	mu      sync.Mutex
	picture map[string]any
	number  map[string]int // of this watch in each key's history
	events  int
}

// follow runs a watch until its ctx is done, its client closes, or enough
// reports false.
func (r *round) follow(ctx context.Context, c kv.Client, w *watcher, enough func(events int) bool) {
	w.round, w.picture, w.number = r, map[string]any{}, map[string]int{}
	for _, h := range r.histories {
		if !w.of.Contains(h.key) {
			continue
		}
		w.number[h.key] = h.begin()
	}
	w.begun = r.now()
	if w.of.IsPrefix {
		c.WatchPrefix(ctx, w.of.Key, func(key string, value any) bool { return w.told(key, value) && !enough(w.events) })
	} else {
		c.WatchKey(ctx, w.of.Key, func(value any) bool { return w.told(w.of.Key, value) && !enough(w.events) })
	}
}

func forever(int) bool { return false }

// told takes in one call of the callback.
func (w *watcher) told(key string, value any) bool {
	if w.slow != nil && w.slow.IntN(100) == 0 {
		time.Sleep(time.Duration(w.slow.IntN(400)) * time.Millisecond) // a slow callback, whose states are conflated
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events++
	text, _ := value.(string)
	switch h, c := w.round.history(key), w.round.counter(key); {
	case h != nil:
		h.saw(w.number[key], text, w.begun, w.round.now())
	case c != nil:
		w.counted(key, text)
	default:
		w.round.fail("%s was told of %q, which is not below its prefix", w.name, key)
	}
	if value == nil {
		delete(w.picture, key)
	} else {
		w.picture[key] = value
	}
	return true
}

// counted checks that a counter only grows, unless it was set back.
func (w *watcher) counted(key, text string) {
	if w.round.restored.Load() {
		return
	}
	before, _ := w.picture[key].(string)
	m, _ := strconv.Atoi(before)
	if n, err := strconv.Atoi(text); err != nil || n <= m {
		w.round.fail("%s was told that counter %q is %q after %q", w.name, key, text, before)
	}
}

// differs returns what the watcher shows otherwise than the store has it.
func (w *watcher) differs(store map[string]any) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	want := maps.Clone(store)
	maps.DeleteFunc(want, func(key string, _ any) bool { return !w.of.Contains(key) })
	for _, key := range sortedKeys(want) {
		if w.picture[key] != want[key] {
			return fmt.Errorf("%s has %q at %v; the store has %v", w.name, key, w.picture[key], want[key])
		}
	}
	for _, key := range sortedKeys(w.picture) {
		if _, ok := want[key]; !ok {
			return fmt.Errorf("%s has %q at %v; the store has no such key", w.name, key, w.picture[key])
		}
	}
	return nil
}

// flit begins and ends watches, one after another, until enough is closed.
func (r *round) flit(c kv.Client, name string, rnd *rand.Rand, enough <-chan struct{}) {
	for n := 0; ; n++ {
		select {
		case <-enough:
			return
		default:
		}
		w := &watcher{name: fmt.Sprintf("%s, number %d,", name, n), of: kv.PrefixRange(r.prefix)}
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(200+rnd.IntN(4000))*time.Millisecond)
		most := rnd.IntN(2000)
		r.follow(ctx, c, w, func(events int) bool { return events > most })
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond): // between two watches
		}
		cancel()
		r.tally.watched(w.events)
	}
}
