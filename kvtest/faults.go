package kvtest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv/driver"
)

var errForgotten = errors.New("the store has forgotten its history")

// faults is what a Store was told to do to requests to come.
type faults struct {
	mu        sync.Mutex
	writes    []writeFault // the first one befalls the next write
	delay     time.Duration
	forgotten int           // how often the store forgot its history
	history   int           // how often it was set back
	forget    chan struct{} // closed, and replaced, when it forgets; nil until somebody waits for it
}

type writeFault uint8

const (
	noFault writeFault = iota
	loseAnswer
	loseWrite
	conflict
)

// LoseNextAnswer has the next write carried out and its answer lost: its outcome is unknown to whoever made it. Faults
// of several calls befall one write each, in the order of the calls.
func (l *Store) LoseNextAnswer() { l.faults.add(loseAnswer) }

// LoseNextWrite has the next write lost on its way, which to whoever made it looks just like [Store.LoseNextAnswer].
func (l *Store) LoseNextWrite() { l.faults.add(loseWrite) }

// ConflictNext has the next write refused as if somebody else had been faster, so that it is decided again.
func (l *Store) ConflictNext() { l.faults.add(conflict) }

// Slow has every request, watches included, wait so long before it is made. 0 ends it.
func (l *Store) Slow(d time.Duration) {
	l.faults.mu.Lock()
	defer l.faults.mu.Unlock()
	l.faults.delay = d
}

// Forget has the store lose its history, as by a compaction: watch sessions end and can't go on from where they were, and
// a listing that is under way has to begin again. The data stays.
func (l *Store) Forget() { l.faults.lose(false) }

// Backup reads all that the store holds, polykv's own keys included. restore sets it back to that, as a server is that
// was restored from a backup: the values are those of then, and versions seen before mean nothing. Nobody should write
// meanwhile.
func (l *Store) Backup(ctx context.Context) (restore func(context.Context) error, err error) {
	then, err := l.all(ctx)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		now, err := l.all(ctx)
		if err != nil {
			return err
		}
		for key, entry := range now {
			if _, stays := then[key]; !stays {
				if err := l.write(ctx, driver.Swap{Key: key, Prev: entry, Remove: true}); err != nil {
					return err
				}
			}
		}
		for key, entry := range then {
			if err := l.write(ctx, driver.Swap{Key: key, Prev: now[key], Value: entry.Value, Object: entry.Object}); err != nil {
				return err
			}
		}
		l.faults.lose(true)
		return nil
	}, nil
}

// all reads the store beneath, whatever the line does.
func (l *Store) all(ctx context.Context) (map[string]driver.Entry, error) {
	entries := map[string]driver.Entry{}
	for req := (driver.ScanRequest{}); ; {
		page, err := l.store.Scan(ctx, req)
		if err != nil {
			return nil, err
		}
		for _, e := range page.Entries {
			entries[e.Key] = e
			req.After = e.Key
		}
		if !page.More {
			return entries, nil
		}
		req.Snapshot = page.Snapshot
	}
}

func (l *Store) write(ctx context.Context, s driver.Swap) error {
	s.ID = 1
	result, err := l.store.Swap(ctx, s)
	if err == nil && result.Outcome != driver.Applied {
		err = errors.New("kvtest: somebody writes while the store is set back: " + s.Key + ": " + result.Outcome.String())
	}
	return err
}

func (f *faults) add(w writeFault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes = append(f.writes, w)
}

// next returns the fault of the write that is made now.
func (f *faults) next() writeFault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.writes) == 0 {
		return noFault
	}
	w := f.writes[0]
	f.writes = f.writes[1:]
	return w
}

func (f *faults) lose(setBack bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forgotten++
	if setBack {
		f.history++
	}
	if f.forget != nil {
		close(f.forget)
		f.forget = nil
	}
}

// age tells how often the store forgot, and returns what is closed when it does so next.
func (f *faults) age() (forgotten int, next <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.forget == nil {
		f.forget = make(chan struct{})
	}
	return f.forgotten, f.forget
}

// pause waits as long as requests are to be slow.
func (f *faults) pause(ctx context.Context) error {
	f.mu.Lock()
	delay := f.delay
	f.mu.Unlock()
	if delay <= 0 {
		return nil
	}
	return wait.For(ctx, delay)
}

// generation turns the driver's word for a history into this store's, and back.
func (f *faults) generation(g uint64) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return g ^ uint64(f.history)*0x9e3779b97f4a7c15 // spreads small numbers over all bits
}

// dated is a snapshot of a scan or a position of a watch, and how often the store had forgotten by then.
type dated[T any] struct {
	inner     T
	forgotten int
}

type position dated[driver.Position]

// Covers implements driver.Position.
func (p position) Covers(other driver.Position) bool {
	o, ok := other.(position)
	return ok && p.forgotten == o.forgotten && p.inner.Covers(o.inner)
}
