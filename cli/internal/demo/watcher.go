package demo

import (
	"context"
	"fmt"
	"maps"
	"sync"
)

// watcher mirrors what one client's watch tells it.
type watcher struct {
	name  string
	order *Promise

	mu      sync.Mutex
	picture map[string]string
	newest  map[string]int64 // the highest value seen of each key, deleted ones too
	events  int
}

func newWatcher(name string, order *Promise) *watcher {
	return &watcher{name: name, order: order, picture: map[string]string{}, newest: map[string]int64{}}
}

// watch returns when ctx is done.
func (w *watcher) watch(ctx context.Context, r *run, client int) {
	r.clients[client].WatchPrefix(ctx, "", func(key string, value any) bool {
		w.see(key, value)
		return true
	})
	if ctx.Err() == nil {
		w.order.breaks("%s ended by itself", w.name)
	}
}

// see takes one event in.
func (w *watcher) see(key string, value any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events++
	old, known := w.picture[key]
	if value == nil {
		if !known {
			w.order.breaks("%s was told that %s is deleted, which it had not been shown", w.name, key)
		}
		delete(w.picture, key)
		return
	}
	n, err := number(value)
	switch newest := w.newest[key]; {
	case err != nil:
		w.order.breaks("%s got a value of %s that nobody wrote: %s", w.name, key, show(value))
		return
	case known && old == value:
		w.order.breaks("%s got %s twice as %s", w.name, key, show(value))
	case n <= newest:
		w.order.breaks("%s got %s as %d after it was %d", w.name, key, n, newest)
	}
	w.newest[key] = max(n, w.newest[key])
	w.picture[key] = fmt.Sprint(value)
}

// differs says how the picture differs from the store's content, "" if it
// doesn't.
func (w *watcher) differs(store map[string]string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if maps.Equal(w.picture, store) {
		return ""
	}
	for key, value := range store {
		if seen, ok := w.picture[key]; !ok {
			return fmt.Sprintf("%s lacks %s, which is %q", w.name, key, value)
		} else if seen != value {
			return fmt.Sprintf("%s has %s as %q, which is %q", w.name, key, seen, value)
		}
	}
	for key, seen := range w.picture {
		if _, ok := store[key]; !ok {
			return fmt.Sprintf("%s still has %s as %q, which is deleted", w.name, key, seen)
		}
	}
	return ""
}

func (w *watcher) seen() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.events
}
