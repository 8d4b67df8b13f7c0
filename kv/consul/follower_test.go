package consul

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polykv/polykv/kv/driver"
)

// follower runs one watch session and keeps the picture it paints.
type follower struct {
	cancel   context.CancelFunc
	done     chan struct{} // closed when Watch returned
	requests atomic.Int64

	mu       sync.Mutex
	events   []driver.Event
	arrived  []time.Time
	picture  map[string]string
	versions map[string]driver.Version
	synced   int
	wrong    error // an event that should not be
	err      error // of Watch
}

func follow(t testing.TB, s *store, r driver.Range) *follower {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{cancel: cancel, done: make(chan struct{}), picture: map[string]string{}, versions: map[string]driver.Version{}}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { f.requests.Add(1) }})
	go func() {
		defer close(f.done)
		err := s.Watch(ctx, r, f.take)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.err = err
	}()
	t.Cleanup(func() { f.stop(); <-f.done })
	return f
}

func (f *follower) stop() { f.cancel() }

func (f *follower) take(ev driver.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events, f.arrived = append(f.events, ev), append(f.arrived, time.Now())
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
		f.synced++
	case driver.Restart:
		clear(f.picture)
		clear(f.versions)
	}
}

// sees waits until the picture is want.
func (f *follower) sees(t testing.TB, want map[string]string) {
	t.Helper()
	eventually(t, func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.wrong != nil {
			t.Fatal(f.wrong)
		}
		if f.synced > 0 && maps.Equal(f.picture, want) {
			return nil
		}
		return fmt.Errorf("sees %v (synced %d, session's end: %v), want %v", f.picture, f.synced, f.err, want)
	})
}

// isSynced waits for the end of the first snapshot.
func (f *follower) isSynced(t testing.TB) {
	t.Helper()
	eventually(t, func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.synced == 0 {
			return errors.New("not synced")
		}
		return nil
	})
}

// count returns how many events of a type there were.
func (f *follower) count(of driver.EventType) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, ev := range f.events {
		if ev.Type == of {
			n++
		}
	}
	return n
}

// ends waits for the session's error.
func (f *follower) ends(t testing.TB, within time.Duration) error {
	t.Helper()
	select {
	case <-f.done:
		return f.err
	case <-time.After(within):
		t.Fatalf("the watch still runs after %v", within)
		return nil
	}
}

// eventually polls until check returns nil, for at most 20 seconds.
func eventually(t testing.TB, check func() error) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}
