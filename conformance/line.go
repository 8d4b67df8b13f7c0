package conformance

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polykv/polykv/kv/driver"
)

// StoreLine is a [Line] between the engine and a driver: a driver.Store that
// hands everything to another one as long as it is whole. Make one with
// [Breakable].
type StoreLine struct {
	store    driver.Store
	attempts atomic.Int64

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
	_ driver.Store      = (*StoreLine)(nil)
	_ driver.Resolver   = (*StoreLine)(nil)
	_ driver.Deliberate = (*StoreLine)(nil)
	_ driver.Epocher    = (*StoreLine)(nil)
	_ driver.Locator    = (*StoreLine)(nil)
	_ Line              = (*StoreLine)(nil)
)

var (
	errLineCut    = errors.New("the line is cut")
	errAnswerLost = errors.New("the answer was lost")
)

// Breakable returns a line to s, which it owns. It forwards driver.Resolver,
// driver.Deliberate, driver.Epocher and driver.Locator, but not driver.NonBlocking, since it
// may hang.
func Breakable(s driver.Store) *StoreLine {
	l := &StoreLine{store: s, changed: make(chan struct{})}
	l.intact, l.cut = context.WithCancel(context.Background())
	return l
}

// Cut implements Line.
func (l *StoreLine) Cut() { l.set(lineCut) }

// Hang implements Line.
func (l *StoreLine) Hang() { l.set(lineHung) }

// Mend implements Line.
func (l *StoreLine) Mend() { l.set(lineWhole) }

// OnWrite implements Line.
func (l *StoreLine) OnWrite(f func(carryOut func()) (answer bool)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onWrite = f
}

// Attempts implements Line.
func (l *StoreLine) Attempts() int { return int(l.attempts.Load()) }

func (l *StoreLine) set(s lineState) {
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

func (l *StoreLine) now() (state lineState, changed <-chan struct{}, intact context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state, l.changed, l.intact
}

// wait returns the context of an intact line once the line is whole, or an
// error when it is cut or ctx is done.
func (l *StoreLine) wait(ctx context.Context) (context.Context, error) {
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
func (l *StoreLine) enter(ctx context.Context) (context.Context, func(), error) {
	l.attempts.Add(1)
	intact, err := l.wait(ctx)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(intact, func() { cancel(errLineCut) })
	return ctx, func() {
		stop()
		cancel(nil)
	}, nil
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
func (l *StoreLine) Get(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
	ctx, leave, err := l.enter(ctx)
	if err != nil {
		return driver.Entry{}, err
	}
	defer leave()
	entry, err := l.store.Get(ctx, req)
	return entry, ended(ctx, err)
}

// Scan implements driver.Store.
func (l *StoreLine) Scan(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
	ctx, leave, err := l.enter(ctx)
	if err != nil {
		return driver.Page{}, err
	}
	defer leave()
	page, err := l.store.Scan(ctx, req)
	return page, ended(ctx, err)
}

// Swap implements driver.Store. A write into a cut line provably goes nowhere;
// what became of one into a hung line is unknown.
func (l *StoreLine) Swap(ctx context.Context, s driver.Swap) (driver.Result, error) {
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
	if onWrite == nil {
		return l.store.Swap(ctx, s)
	}

	l.writing.Lock()
	defer l.writing.Unlock()
	result, err := driver.Result{}, errAnswerLost
	answer := onWrite(func() { result, err = l.store.Swap(ctx, s) })
	if !answer {
		return driver.Result{Outcome: driver.Unknown}, errAnswerLost
	}
	return result, err
}

// Watch implements driver.Store. In a hung line events wait, but not in the
// driver's emit, which must not be held up.
func (l *StoreLine) Watch(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
	ctx, leave, err := l.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	var q eventQueue
	q.more = make(chan struct{}, 1)
	go func() {
		err := l.store.Watch(ctx, req, q.add)
		q.end(err)
	}()
	for {
		events, over, err := q.take()
		for _, e := range events {
			if _, err := l.wait(ctx); err == nil && ctx.Err() == nil {
				emit(e)
			}
		}
		if over {
			return ended(ctx, err)
		}
		<-q.more
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
	q.signal()
}

func (q *eventQueue) end(err error) {
	q.mu.Lock()
	q.err, q.over = err, true
	q.mu.Unlock()
	q.signal()
}

func (q *eventQueue) signal() {
	select {
	case q.more <- struct{}{}:
	default:
	}
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
func (l *StoreLine) Resolve(s driver.Swap, now driver.Entry) driver.Outcome {
	if r, ok := l.store.(driver.Resolver); ok {
		return r.Resolve(s, now)
	}
	return driver.Unknown
}

// Locate implements driver.Locator, if the driver does.
func (l *StoreLine) Locate(ctx context.Context, r driver.Range, from driver.Position) (driver.Position, error) {
	locator, ok := l.store.(driver.Locator)
	if !ok {
		return nil, driver.ErrNotSupported
	}
	ctx, leave, err := l.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	at, err := locator.Locate(ctx, r, from)
	return at, ended(ctx, err)
}

// Epoch implements driver.Epocher: 0 if the store beneath has none.
func (l *StoreLine) Epoch() uint64 {
	if e, ok := l.store.(driver.Epocher); ok {
		return e.Epoch()
	}
	return 0
}

// AttemptTimeout implements driver.Deliberate: 0, which is none of its own, if
// the driver does not.
func (l *StoreLine) AttemptTimeout() time.Duration {
	if d, ok := l.store.(driver.Deliberate); ok {
		return d.AttemptTimeout()
	}
	return 0
}

// Limits implements driver.Store.
func (l *StoreLine) Limits() driver.Limits { return l.store.Limits() }

// Close implements driver.Store.
func (l *StoreLine) Close() error { return l.store.Close() }
