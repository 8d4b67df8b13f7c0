package kvtest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv/driver"
)

// Store is a driver.Store that hands everything to another one and misbehaves
// when it is told to, as a server, or the line to it, does. Its methods may be
// called concurrently. Make one with [Wrap].
type Store struct {
	store    driver.Store
	attempts atomic.Int64
	faults   faults

	mu      sync.Mutex
	state   lineState
	changed chan struct{}      // closed when state changes
	intact  context.Context    // ends when the line is cut
	cut     context.CancelFunc // ends intact
	onWrite func(carryOut func()) (answer bool)

	writing sync.Mutex // held while onWrite runs
}

type lineState uint8

const (
	lineWhole lineState = iota
	lineCut
	lineHung
)

var (
	_ driver.Store      = (*Store)(nil)
	_ driver.Resolver   = (*Store)(nil)
	_ driver.Deliberate = (*Store)(nil)
	_ driver.Epocher    = (*Store)(nil)
	_ driver.Locator    = (*Store)(nil)
)

var (
	errLineCut    = errors.New("the line is cut")
	errAnswerLost = errors.New("the answer was lost")
)

// Wrap returns a store that hands everything to s, which it owns from now on. It forwards driver.Resolver,
// driver.Deliberate, driver.Epocher, driver.Locator and driver.WatchComparer, but not driver.NonBlocking, since it may hang.
func Wrap(s driver.Store) *Store {
	l := &Store{store: s, changed: make(chan struct{})}
	l.intact, l.cut = context.WithCancel(context.Background())
	return l
}

// Cut breaks the line to the store: what is under way fails, and so does, at once, everything that is tried until Mend.
// A write that is tried meanwhile provably did not happen.
func (l *Store) Cut() { l.set(lineCut) }

// Hang leaves whatever is under way or tried without an answer until Mend.
func (l *Store) Hang() { l.set(lineHung) }

// Mend makes the line work again.
func (l *Store) Mend() { l.set(lineWhole) }

// OnWrite has every later write handed to f, which decides what becomes of it: f carries it out or not, and returns
// whether the client gets the answer. A write whose answer is withheld is one of unknown outcome. f is called from one
// goroutine at a time. Nil ends it.
func (l *Store) OnWrite(f func(carryOut func()) (answer bool)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onWrite = f
}

// Attempts is the number of requests, watches included, that were tried so far, whatever became of them.
func (l *Store) Attempts() int { return int(l.attempts.Load()) }

// Whole reports whether the line is neither cut nor hung.
func (l *Store) Whole() bool {
	state, _, _ := l.now()
	return state == lineWhole
}

func (l *Store) set(s lineState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = s
	close(l.changed)
	l.changed = make(chan struct{})
	switch {
	case s == lineCut:
		l.cut()
	case l.intact.Err() != nil:
		l.intact, l.cut = context.WithCancel(context.Background())
	}
}

func (l *Store) now() (state lineState, changed <-chan struct{}, intact context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state, l.changed, l.intact
}

// wait returns the context of an intact line once the line is whole, or an
// error when it is cut or ctx is done.
func (l *Store) wait(ctx context.Context) (context.Context, error) {
	for {
		state, changed, intact := l.now()
		switch state {
		case lineWhole:
			return intact, nil
		case lineCut:
			return nil, errLineCut
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// enter waits for the line and returns a ctx that ends when it is cut.
func (l *Store) enter(ctx context.Context) (context.Context, func(), error) {
	l.attempts.Add(1)
	intact, err := l.wait(ctx)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(intact, func() { cancel(errLineCut) })
	leave := func() {
		stop()
		cancel(nil)
	}
	if err := l.faults.pause(ctx); err != nil {
		err = ended(ctx, err)
		leave()
		return nil, nil, err
	}
	return ctx, leave, nil
}

// ended is the error of a call that was under way: what broke the line, if it
// did, and else the driver's own.
func ended(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errLineCut) {
		return errLineCut
	}
	return err
}

// Get implements driver.Store.
func (l *Store) Get(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
	ctx, leave, err := l.enter(ctx)
	if err != nil {
		return driver.Entry{}, err
	}
	defer leave()
	entry, err := l.store.Get(ctx, req)
	entry.Generation = l.faults.generation(entry.Generation)
	return entry, ended(ctx, err)
}

// Scan implements driver.Store.
func (l *Store) Scan(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
	ctx, leave, err := l.enter(ctx)
	if err != nil {
		return driver.Page{}, err
	}
	defer leave()
	forgotten, _ := l.faults.age()
	if s, ok := req.Snapshot.(dated[any]); ok {
		if s.forgotten != forgotten {
			return driver.Page{}, driver.ErrSnapshotLost
		}
		req.Snapshot = s.inner
	}
	page, err := l.store.Scan(ctx, req)
	page.Snapshot = dated[any]{page.Snapshot, forgotten}
	page.Generation = l.faults.generation(page.Generation)
	for i := range page.Entries {
		page.Entries[i].Generation = l.faults.generation(page.Entries[i].Generation)
	}
	return page, ended(ctx, err)
}

// Swap implements driver.Store. A write into a cut line provably goes nowhere;
// what became of one into a hung line is unknown.
func (l *Store) Swap(ctx context.Context, s driver.Swap) (driver.Result, error) {
	ctx, leave, err := l.enter(ctx)
	switch {
	case errors.Is(err, errLineCut):
		return driver.Result{Outcome: driver.NotApplied}, err
	case err != nil:
		return driver.Result{Outcome: driver.Unknown}, err
	}
	defer leave()
	l.mu.Lock()
	onWrite := l.onWrite
	l.mu.Unlock()
	swap := func() (driver.Result, error) {
		s.Prev.Generation = l.faults.generation(s.Prev.Generation)
		result, err := l.store.Swap(ctx, s)
		result.Entry.Generation = l.faults.generation(result.Entry.Generation)
		return result, err
	}
	switch l.faults.next() {
	case conflict:
		return driver.Result{Outcome: driver.Conflict}, nil
	case loseAnswer:
		_, _ = swap()
		return driver.Result{Outcome: driver.Unknown}, errAnswerLost
	case loseWrite:
		return driver.Result{Outcome: driver.Unknown}, errAnswerLost
	}
	if onWrite == nil {
		return swap()
	}

	l.writing.Lock()
	defer l.writing.Unlock()
	result, err := driver.Result{}, errAnswerLost
	answer := onWrite(func() { result, err = swap() })
	if !answer {
		return driver.Result{Outcome: driver.Unknown}, errAnswerLost
	}
	return result, err
}

// Watch implements driver.Store. In a hung line events wait, but not in the
// driver's emit, which must not be held up.
func (l *Store) Watch(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
	ctx, leave, err := l.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	forgotten, forget := l.faults.age()
	if p, ok := req.Position.(position); ok {
		req.Position = p.inner
		if p.forgotten != forgotten {
			req.Position = nil
		}
	}
	session, end := context.WithCancelCause(ctx)
	defer end(nil)
	var q eventQueue
	q.more = make(chan struct{}, 1)
	go func() {
		err := l.store.Watch(session, req, q.add)
		q.end(err)
	}()
	for {
		events, over, err := q.take()
		for _, e := range events {
			if _, err := l.wait(ctx); err == nil && session.Err() == nil {
				if e.Position != nil {
					e.Position = position{e.Position, forgotten}
				}
				e.Entry.Generation = l.faults.generation(e.Entry.Generation)
				emit(e)
			}
		}
		if over {
			if context.Cause(session) == errForgotten { //nolint:errorlint // nobody wraps it
				return errForgotten
			}
			return ended(ctx, err)
		}
		select {
		case <-q.more:
		case <-forget:
			end(errForgotten)
			forget = nil
		}
	}
}

// eventQueue is what a watch session has emitted and the line has not carried.
type eventQueue struct {
	mu     sync.Mutex
	events []driver.Event
	err    error
	over   bool
	more   chan struct{} // holds one signal that something was added
}

func (q *eventQueue) add(e driver.Event) {
	q.mu.Lock()
	q.events = append(q.events, e)
	q.mu.Unlock()
	wait.Signal(q.more)
}

func (q *eventQueue) end(err error) {
	q.mu.Lock()
	q.err, q.over = err, true
	q.mu.Unlock()
	wait.Signal(q.more)
}

// take returns what was added since the last time, and whether and how the
// session ended after it.
func (q *eventQueue) take() (events []driver.Event, over bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	events, q.events = q.events, nil
	return events, q.over, q.err
}

// Resolve implements driver.Resolver.
func (l *Store) Resolve(s driver.Swap, now driver.Entry) driver.Outcome {
	if r, ok := l.store.(driver.Resolver); ok {
		s.Prev.Generation, now.Generation = l.faults.generation(s.Prev.Generation), l.faults.generation(now.Generation)
		return r.Resolve(s, now)
	}
	return driver.Unknown
}

// Locate implements driver.Locator, if the driver does.
func (l *Store) Locate(ctx context.Context, r driver.Range, from driver.Position) (driver.Position, error) {
	locator, ok := l.store.(driver.Locator)
	if !ok {
		return nil, driver.ErrNotSupported
	}
	ctx, leave, err := l.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	forgotten, _ := l.faults.age()
	if p, ok := from.(position); ok {
		from = p.inner
	}
	at, err := locator.Locate(ctx, r, from)
	if at != nil {
		at = position{at, forgotten}
	}
	return at, ended(ctx, err)
}

// Epoch implements driver.Epocher: 0 if the store beneath has none.
func (l *Store) Epoch() uint64 {
	if e, ok := l.store.(driver.Epocher); ok {
		return e.Epoch()
	}
	return 0
}

// AttemptTimeout implements driver.Deliberate: 0, which is none of its own, if
// the driver does not.
func (l *Store) AttemptTimeout() time.Duration {
	if d, ok := l.store.(driver.Deliberate); ok {
		return d.AttemptTimeout()
	}
	return 0
}

// ComparesWatches implements driver.WatchComparer: false if the store beneath does not.
func (l *Store) ComparesWatches() bool {
	c, ok := l.store.(driver.WatchComparer)
	return ok && c.ComparesWatches()
}

// Limits implements driver.Store.
func (l *Store) Limits() driver.Limits { return l.store.Limits() }

// Close implements driver.Store.
func (l *Store) Close() error { return l.store.Close() }
