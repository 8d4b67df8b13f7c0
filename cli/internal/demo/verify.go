package demo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	humanize "github.com/dustin/go-humanize"

	"github.com/polykv/polykv/kv"
)

// verify compares the store and the watchers with what the workers know they
// wrote. Nobody writes any more.
func (r *run) verify(ctx context.Context, elapsed time.Duration) (*Report, error) {
	defer r.reporting("verifying")()
	store, err := r.content(ctx)
	if err != nil {
		return nil, fmt.Errorf("could not verify: %w", err)
	}
	r.verifyCounters(store)
	r.verifyKeys(store)
	if err := r.verifyList(ctx, store); err != nil {
		return nil, fmt.Errorf("could not verify: %w", err)
	}
	if err := r.verifyPictures(ctx); err != nil {
		return nil, fmt.Errorf("could not verify: %w", err)
	}
	if err := r.verifyMove(ctx); err != nil {
		return nil, err
	}
	return r.report(elapsed), nil
}

// content reads the whole store.
func (r *run) content(ctx context.Context) (map[string]string, error) {
	content := map[string]string{}
	for entry, err := range kv.Entries(ctx, r.verifier, "") {
		if err != nil {
			return nil, err
		}
		content[entry.Key] = fmt.Sprint(entry.Value)
	}
	return content, nil
}

func (r *run) verifyCounters(store map[string]string) {
	var updates, unknown int64
	for i := range r.counters {
		c := &r.counters[i]
		low := c.successes.Load()
		high := low + c.unknown.Load()
		updates, unknown = updates+low, unknown+high-low
		var stored any
		if text, ok := store[c.key]; ok {
			stored = text
		}
		if n, err := number(stored); err != nil || n < low || n > high {
			r.promises.counters.breaks("%s is %s after %s", c.key, show(stored), countUpdates(low, high))
		}
	}
	r.promises.counters.Evidence = count(updates, "update") + " of " + count(int64(len(r.counters)), "counter")
	if unknown > 0 {
		r.promises.counters.Evidence += fmt.Sprintf(", %s of unknown outcome", humanize.Comma(unknown))
	}
	r.promises.reads.Evidence = count(r.readsCompared.Load(), "read") + " through any client"
}

func countUpdates(low, high int64) string {
	if low == high {
		return count(low, "update")
	}
	return humanize.Comma(low) + " to " + count(high, "update")
}

func (r *run) verifyKeys(store map[string]string) {
	var present, absent int
	for _, w := range r.workers {
		for i := range w.slots {
			s := &w.slots[i]
			var stored any
			if text, ok := store[s.key]; ok {
				stored = text
			}
			if stored != s.content() {
				r.promises.keys.breaks("%s was left as %s and is %s", s.key, show(s.content()), show(stored))
			}
			if s.present {
				present++
			} else {
				absent++
			}
		}
	}
	r.promises.keys.Evidence = fmt.Sprintf("%d keys present, %d absent", present, absent)
}

// verifyList compares a listing with the content and with the order of keys.
func (r *run) verifyList(ctx context.Context, store map[string]string) error {
	listed, err := r.verifier.List(ctx, "")
	if err != nil {
		return err
	}
	promise := &r.promises.list
	promise.Evidence = count(int64(len(listed)), "key")
	for i := 1; i < len(listed); i++ {
		if listed[i-1] >= listed[i] {
			promise.breaks("%q is listed before %q", listed[i-1], listed[i])
			return nil
		}
	}
	if want := slices.Sorted(maps.Keys(store)); !slices.Equal(listed, want) && !r.uncertain() {
		promise.breaks("%d keys are listed, %d were read", len(listed), len(want))
	}
	return nil
}

// uncertain tells whether a write may still be applied.
func (r *run) uncertain() bool {
	return slices.ContainsFunc(r.workers, func(w *worker) bool { return len(w.retired) > 0 })
}

// verifyPictures waits until each watcher's picture equals the store.
func (r *run) verifyPictures(ctx context.Context) error {
	deadline := time.Now().Add(r.Settle)
	differing := r.watchers
	difference := ""
	for len(differing) > 0 {
		store, err := r.content(ctx) // afresh: a write of unknown outcome may be applied late
		if err != nil {
			return err
		}
		var still []*watcher
		for _, w := range differing {
			if d := w.differs(store); d != "" {
				still, difference = append(still, w), d
			}
		}
		if differing = still; len(differing) > 0 && time.Now().After(deadline) {
			break
		}
		if len(differing) > 0 {
			time.Sleep(tick / 10)
		}
	}
	if len(differing) > 0 {
		r.promises.pictures.breaks("after %v %s", r.Settle, difference)
	}
	r.promises.pictures.Evidence = count(int64(len(r.watchers)), "watcher") + ", " + count(int64(r.events()), "event")
	return nil
}

func (r *run) events() int {
	sum := 0
	for _, w := range r.watchers {
		sum += w.seen()
	}
	return sum
}

// cleanUp removes every key.
func (r *run) cleanUp(ctx context.Context) error {
	defer r.reporting("cleaning up")()
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout)
	defer cancel()
	left, err := r.verifier.List(ctx, "")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLeftBehind, err)
	}
	keys := make(chan string)
	var deleters sync.WaitGroup
	errs := make([]error, len(r.clients))
	for i, c := range r.clients {
		deleters.Go(func() {
			for key := range keys {
				errs[i] = errors.Join(errs[i], c.Delete(ctx, key))
			}
		})
	}
	for _, key := range left {
		keys <- key
	}
	close(keys)
	deleters.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w: %w", ErrLeftBehind, err)
	}
	return nil
}
