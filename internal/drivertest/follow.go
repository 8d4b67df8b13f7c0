package drivertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/polykv/polykv/kv/driver"
)

// Follower runs one watch session, keeps the picture that it paints, and
// notes what no session may tell.
type Follower struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when Watch returned
	check  func(before []driver.Event, ev driver.Event) error

	mu       sync.Mutex
	events   []driver.Event
	picture  map[string]string
	versions map[string]driver.Version
	synced   int
	midway   bool  // a snapshot is being told
	wrong    error // an event that should not be
	err      error // of Watch
}

// Follow starts a session, which ends with ctx or the test. check, unless nil,
// says what is wrong with an event after those that came before.
func Follow(ctx context.Context, t testing.TB, s driver.Store, r driver.Range, check func(before []driver.Event, ev driver.Event) error) *Follower {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	f := &Follower{
		cancel: cancel, done: make(chan struct{}), check: check, midway: true,
		picture: map[string]string{}, versions: map[string]driver.Version{},
	}
	go func() {
		defer close(f.done)
		err := s.Watch(ctx, driver.WatchRequest{Range: r}, f.take)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.err = err
	}()
	t.Cleanup(func() { f.Stop(); <-f.done })
	return f
}

// Stop ends the session.
func (f *Follower) Stop() { f.cancel() }

// Done is closed once the session has ended.
func (f *Follower) Done() <-chan struct{} { return f.done }

func (f *Follower) take(ev driver.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.check != nil {
		f.wrong = errors.Join(f.wrong, f.check(f.events, ev))
	}
	f.events = append(f.events, ev)
	key := ev.Entry.Key
	switch ev.Type {
	case driver.Put:
		if f.versions[key] >= ev.Entry.Version {
			f.wrong = fmt.Errorf("%q: version %d after %d", key, ev.Entry.Version, f.versions[key])
		}
		f.picture[key], f.versions[key] = string(ev.Entry.Value), ev.Entry.Version
	case driver.Delete:
		if _, ok := f.picture[key]; !ok {
			f.wrong = fmt.Errorf("%q: deleted, and was not there", key)
		}
		delete(f.picture, key)
	case driver.Synced:
		if !f.midway {
			f.wrong = errors.New("synced without a snapshot before it")
		}
		f.synced++
		f.midway = false
	case driver.Restart:
		clear(f.picture)
		clear(f.versions)
		f.midway = true
	}
}

// Sees waits until the picture is want.
func (f *Follower) Sees(t testing.TB, want map[string]string) {
	t.Helper()
	Eventually(t, func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.wrong != nil {
			t.Fatal(f.wrong)
		}
		if f.synced > 0 && maps.Equal(f.picture, want) {
			return nil
		}
		return errors.Join(fmt.Errorf("sees %v (synced %d), want %v", f.picture, f.synced, want), f.err)
	})
}

// IsSynced waits for the end of the first snapshot.
func (f *Follower) IsSynced(t testing.TB) {
	t.Helper()
	Eventually(t, func() error {
		if f.Synced() == 0 {
			return errors.New("not synced")
		}
		return nil
	})
}

// Synced returns how many snapshots were complete.
func (f *Follower) Synced() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.synced
}

// Events returns the events so far.
func (f *Follower) Events() []driver.Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.events)
}

// Now returns what it sees of a key, empty if nothing, and what was wrong.
func (f *Follower) Now(key string) (value string, wrong error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.picture[key], f.wrong
}

// Count returns how many events of a type there were.
func (f *Follower) Count(of driver.EventType) (n int) {
	for _, ev := range f.Events() {
		if ev.Type == of {
			n++
		}
	}
	return n
}

// Ends waits for the session's error.
func (f *Follower) Ends(t testing.TB) error {
	t.Helper()
	select {
	case <-f.done:
		return f.err
	case <-time.After(patience):
		t.Fatalf("the watch still runs after %v", patience)
		return nil
	}
}
