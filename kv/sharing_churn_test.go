package kv_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// journal is a store with a log, whose sessions break off at random.
type journal struct {
	driver.Store // nil: what is not asked for

	mu    sync.Mutex
	log   []driver.Event // in the order of versions, from 1 on
	state map[string]driver.Entry
	more  chan struct{} // closed and replaced by every write
}

// revision is a position of one range, which means nothing for another.
type revision struct {
	of  driver.Range
	rev int
}

func (p revision) Covers(other driver.Position) bool {
	o := other.(revision)
	if o.of != p.of {
		panic(fmt.Sprintf("a position of %v is compared with one of %v", p.of, o.of))
	}
	return p.rev >= o.rev
}

func (j *journal) Limits() driver.Limits { return driver.Limits{} }
func (j *journal) Close() error          { return nil }

// write puts or deletes a key.
func (j *journal) write(key string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	v := driver.Version(len(j.log) + 1)
	e := driver.Entry{Key: key, Value: fmt.Append(nil, v), Version: v, Generation: 1}
	ev := driver.Event{Type: driver.Put, Entry: e}
	if rand.N(5) == 0 {
		ev = driver.Event{Type: driver.Delete, Entry: driver.Entry{Key: key, Generation: 1}}
		delete(j.state, key)
	} else {
		j.state[key] = e
	}
	j.log = append(j.log, ev)
	close(j.more)
	j.more = make(chan struct{})
}

func (j *journal) Locate(ctx context.Context, r driver.Range, _ driver.Position) (driver.Position, error) {
	pause()
	j.mu.Lock()
	at := revision{r, len(j.log)}
	j.mu.Unlock()
	pause()
	if rand.N(20) == 0 {
		return nil, errors.New("lost")
	}
	return at, ctx.Err()
}

// pause has others run, sometimes for a while.
func pause() {
	for range rand.N(4) {
		runtime.Gosched()
	}
	if rand.N(10) == 0 {
		time.Sleep(rand.N(300 * time.Microsecond))
	}
}

func (j *journal) Watch(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
	at, resumed := req.Position.(revision)
	if resumed = resumed && rand.N(4) > 0; resumed {
		emit(driver.Event{Type: driver.Resumed, Position: at})
	} else {
		j.mu.Lock()
		state := maps.Clone(j.state)
		at = revision{req.Range, len(j.log)}
		j.mu.Unlock()
		for key, e := range state {
			if !req.Range.Contains(key) {
				continue
			}
			emit(e.Event())
			if pause(); rand.N(100) == 0 {
				return errors.New("broke off in a snapshot")
			}
		}
		emit(driver.Event{Type: driver.Synced, Position: at})
	}
	for end := time.After(rand.N(20 * time.Millisecond)); ; {
		j.mu.Lock()
		news, more := j.log[at.rev:], j.more
		j.mu.Unlock()
		for _, ev := range news {
			at.rev++
			if ev.Position = at; req.Range.Contains(ev.Entry.Key) {
				emit(ev)
			}
		}
		emit(driver.Event{Type: driver.Progress, Position: at})
		if resumed {
			resumed = false
			emit(driver.Event{Type: driver.Synced, Position: at})
		}
		select {
		case <-more:
		case <-end:
			return errors.New("broke off")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Watches of ranges within each other come and go while sessions break off and
// what is kept grows too large. Each is in step with what was written before it
// began, and sees nothing older after newer.
func TestWatchesComeAndGo(t *testing.T) {
	j := &journal{state: map[string]driver.Entry{}, more: make(chan struct{})}
	c := kv.New(j, stringCodec, &kv.Options{
		ShareBytes: 400, CompareWatches: -1, MinBackoff: time.Microsecond, MaxBackoff: time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	})
	ranges := []kv.Range{all, a, ab, key, kv.PrefixRange("a/b/"), kv.KeyRange("a/c"), kv.KeyRange("x"), kv.PrefixRange("x")}
	keys := []string{"a/b", "a/b/c", "a/c", "x", "a/" + strings.Repeat("long", 30)}
	ctx, stop := context.WithCancel(t.Context())
	var writer, watchers sync.WaitGroup
	writer.Go(func() {
		for ctx.Err() == nil {
			j.write(keys[rand.N(len(keys))])
			pause()
		}
	})
	for range 12 {
		watchers.Go(func() {
			for range 200 {
				j.checkWatch(t, c, ranges[rand.N(len(ranges))], rand.N(30))
			}
		})
	}
	watchers.Wait()
	stop()
	writer.Wait()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// checkWatch follows a range until it is in step and has seen n events.
func (j *journal) checkWatch(t *testing.T, c kv.Client, r kv.Range, n int) {
	j.mu.Lock()
	before, begun := maps.Clone(j.state), len(j.log)
	j.mu.Unlock()
	seen := map[string]kv.Version{}
	synced := false
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := kv.Watch(ctx, c, r, func(ev kv.Event) bool {
		switch ev.Type {
		case kv.Put:
			if ev.Version <= seen[ev.Key] {
				t.Errorf("%v: %s of version %d after %d", r, ev.Key, ev.Version, seen[ev.Key])
			}
			seen[ev.Key] = ev.Version
		case kv.Delete:
			delete(seen, ev.Key)
		case kv.Synced:
			for key, e := range before {
				if v := seen[key]; !synced && r.Contains(key) && e.Version > v && (v > 0 || !j.deletedSince(key, begun)) {
					t.Errorf("%v: in step with %s of version %d, and %d was there before", r, key, v, e.Version)
				}
			}
			synced = true
		}
		n--
		return n > 0 || !synced
	})
	if err != nil {
		t.Errorf("%v: in step %t, then %v", r, synced, err)
	}
}

func (j *journal) deletedSince(key string, begun int) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.ContainsFunc(j.log[begun:], func(ev driver.Event) bool { return ev.Type == driver.Delete && ev.Entry.Key == key })
}
