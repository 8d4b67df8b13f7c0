package conformance

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/polykv/polykv/kv"
)

// seen is one call of a watch callback.
type seen struct {
	key   string
	value any
}

func (s seen) String() string { return s.key + "=" + show(s.value) }

// watcher records the calls of one watch.
type watcher struct {
	t      *trial
	cancel context.CancelFunc
	ended  *ending
	only   string // the key of a key watch

	mu    sync.Mutex
	calls []seen
	more  chan struct{} // closed and replaced by every call
	hold  chan struct{} // not nil: the callback waits for this before it returns
}

// watchBy starts a watch. A held one does not return from its first call until
// it is released.
func (t *trial) watchBy(held bool, run func(ctx context.Context, f func(string, any) bool)) *watcher {
	ctx, cancel := context.WithCancel(t.Context())
	w := &watcher{t: t, cancel: cancel, more: make(chan struct{})}
	if held {
		w.hold = make(chan struct{})
		t.Cleanup(w.release)
	}
	w.ended = t.start(func() { run(ctx, w.call) })
	t.Cleanup(cancel)
	return w
}

// watchKey starts a WatchKey.
func (t *trial) watchKey(c kv.Client, key string) *watcher {
	w := t.watchBy(false, func(ctx context.Context, f func(string, any) bool) {
		c.WatchKey(ctx, key, func(value any) bool { return f(key, value) })
	})
	w.only = key
	return w
}

// follows reports whether the watch delivers key.
func (w *watcher) follows(key string) bool { return w.only == "" || w.only == key }

// watchPrefix starts a WatchPrefix.
func (t *trial) watchPrefix(c kv.Client, prefix string) *watcher {
	return t.watchBy(false, func(ctx context.Context, f func(string, any) bool) {
		c.WatchPrefix(ctx, prefix, f)
	})
}

// watchBoth starts a WatchKey and a WatchPrefix on each client.
func (t *trial) watchBoth(clients []kv.Client, key, prefix string) (all []*watcher) {
	for _, c := range clients {
		all = append(all, t.watchKey(c, key), t.watchPrefix(c, prefix))
	}
	return all
}

func (w *watcher) call(key string, value any) bool {
	w.mu.Lock()
	w.calls = append(w.calls, seen{key, value})
	close(w.more)
	w.more = make(chan struct{})
	hold := w.hold
	w.mu.Unlock()
	if hold != nil {
		<-hold
	}
	return true
}

// release lets the callback of a held watch return.
func (w *watcher) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hold != nil {
		close(w.hold)
		w.hold = nil
	}
}

// all returns the calls so far.
func (w *watcher) all() []seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.calls)
}

// of returns the values of the calls for one key so far.
func (w *watcher) of(key string) []any {
	var values []any
	for _, s := range w.all() {
		if s.key == key {
			values = append(values, s.value)
		}
	}
	return values
}

// until waits for calls that satisfy cond, which is called under a lock.
func (w *watcher) until(what string, cond func([]seen) bool) {
	w.t.Helper()
	timer := time.NewTimer(w.t.patience)
	defer timer.Stop()
	for {
		w.mu.Lock()
		met, more := cond(w.calls), w.more
		w.mu.Unlock()
		if met {
			return
		}
		select {
		case <-more:
		case <-timer.C:
			w.t.Fatalf("waited %v in vain: the watch delivers %s; it delivered %s", w.t.patience, what, tail(w.all()))
		}
	}
}

// untilIs waits until the last state delivered of key is value.
func (w *watcher) untilIs(key string, value any) {
	w.t.Helper()
	w.until(fmt.Sprintf("%s of %q as the last state", show(value), key), func(calls []seen) bool {
		for _, s := range slices.Backward(calls) {
			if s.key == key {
				return reflect.DeepEqual(s.value, value)
			}
		}
		return false
	})
}

// untilGone waits until the last state delivered of key is its deletion. A
// client that hides deletions has nothing to wait for.
func (w *watcher) untilGone(key string) {
	w.t.Helper()
	if !w.t.features.HidesDeletes {
		w.untilIs(key, nil)
	}
}

// wantExactly wants these values of key to have been delivered, and nothing
// else of it so far.
func (w *watcher) wantExactly(key string, want ...any) {
	w.t.Helper()
	if got := w.of(key); len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) {
		w.t.Fatalf("the watch delivered %s of %q, want %s", showAll(got), key, showAll(want))
	}
}

// wantConflated wants these values of key to have been delivered, and nothing
// else of it so far. All but the last may be left out (W2); none comes twice in a
// row (W4).
func (w *watcher) wantConflated(key string, states ...any) {
	w.t.Helper()
	got, left := w.of(key), states
	for i, v := range got {
		at := slices.IndexFunc(left, func(s any) bool { return reflect.DeepEqual(s, v) })
		if at < 0 || i > 0 && reflect.DeepEqual(got[i-1], v) || i == len(got)-1 && !reflect.DeepEqual(v, states[len(states)-1]) {
			w.t.Fatalf("the watch delivered %s of %q, want %s, of which all but the last may be left out", showAll(got), key, showAll(states))
		}
		left = left[at+1:]
	}
}

// stop ends the watch by its ctx and waits until it has returned.
func (w *watcher) stop() {
	w.t.Helper()
	w.cancel()
	w.ended.wait("the watch returns after its ctx was cancelled")
}

func showAll(values []any) string {
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = show(v)
	}
	return "[" + strings.Join(parts, " ") + "]"
}

// tail prints the last calls.
func tail(calls []seen) string {
	const most = 20
	if len(calls) > most {
		return fmt.Sprintf("%d calls, the last of them %v", len(calls), calls[len(calls)-most:])
	}
	return fmt.Sprintf("%v", calls)
}
