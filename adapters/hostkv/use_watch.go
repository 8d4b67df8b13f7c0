package hostkv

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv/driver"
)

// soon is when a watch looks again for the first time: the host's watch begins
// on a goroutine, and tells nobody when it has.
const soon = 100 * time.Millisecond

// errHostEnded makes the engine begin another session.
var errHostEnded = errors.New("the host's client ended its watch")

// Watch follows the host's watch, which only says which keys to read.
func (s *store) Watch(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
	r := req.Range
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.closing, cancel)()
	w := &session{store: s, rng: r, emit: emit, known: map[string]driver.Version{}, changed: newKeys()}
	ended := make(chan struct{})
	s.calls.Go(func() {
		defer close(ended)
		if r.IsPrefix {
			s.host.WatchPrefix(ctx, r.Key, func(key string, _ any) bool { return w.changed.add(ctx, key) })
		} else {
			s.host.WatchKey(ctx, r.Key, func(any) bool { return w.changed.add(ctx, r.Key) })
		}
	})
	if err := w.rescan(ctx); err != nil {
		return err
	}
	emit(driver.Event{Type: driver.Synced})
	return w.follow(ctx, ended)
}

// session is one watch session.
type session struct {
	store   *store
	rng     driver.Range
	emit    func(driver.Event)
	known   map[string]driver.Version // what was emitted, and not as deleted
	changed *keys
}

// follow reads what changes, until it fails.
func (w *session) follow(ctx context.Context, ended <-chan struct{}) error {
	next := time.NewTimer(min(soon, w.store.options.RescanInterval))
	defer next.Stop()
	for {
		var err error
		select {
		case <-w.changed.more:
			for _, key := range w.changed.take() {
				err = errors.Join(err, w.look(ctx, key))
			}
		case <-next.C:
			err = w.rescan(ctx)
			next.Reset(w.store.options.RescanInterval)
		case <-ended:
			err = errHostEnded
		case <-ctx.Done():
		}
		switch {
		case w.store.closing.Err() != nil:
			return driver.ErrClosed
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return err
		}
	}
}

// rescan reads everything in the range.
func (w *session) rescan(ctx context.Context) error {
	if !w.rng.IsPrefix {
		return w.look(ctx, w.rng.Key)
	}
	page, err := w.store.Scan(ctx, driver.ScanRequest{Prefix: w.rng.Key})
	if err != nil {
		return err
	}
	gone := maps.Clone(w.known)
	for _, e := range page.Entries {
		delete(gone, e.Key)
		w.tell(e)
	}
	for _, key := range slices.Sorted(maps.Keys(gone)) {
		w.tell(driver.Entry{Key: key})
	}
	return nil
}

// look reads one key.
func (w *session) look(ctx context.Context, key string) error {
	e, err := w.store.get(ctx, key)
	if err == nil {
		w.tell(e)
	}
	return err
}

// tell emits what is new.
func (w *session) tell(e driver.Entry) {
	switch before := w.known[e.Key]; {
	case e.Version == before:
	case e.Exists():
		w.known[e.Key] = e.Version
		w.emit(driver.Event{Type: driver.Put, Entry: e})
	default:
		delete(w.known, e.Key)
		w.emit(driver.Event{Type: driver.Delete, Entry: e})
	}
}

// keys are those to look at, each once.
type keys struct {
	more chan struct{} // of capacity 1: there are some

	mu  sync.Mutex
	set map[string]struct{}
}

func newKeys() *keys { return &keys{more: make(chan struct{}, 1), set: map[string]struct{}{}} }

// add is called by the host's watch, which goes on while ctx isn't done.
func (k *keys) add(ctx context.Context, key string) bool {
	k.mu.Lock()
	k.set[key] = struct{}{}
	k.mu.Unlock()
	wait.Signal(k.more)
	return ctx.Err() == nil
}

// take empties k.
func (k *keys) take() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	taken := slices.Sorted(maps.Keys(k.set))
	clear(k.set)
	return taken
}
