package postgres

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/polykv/polykv/kv/driver"
)

const (
	quiet  = 5 * time.Second // without a notification the connection is tried
	answer = 5 * time.Second // for that to be answered
)

var errBehind = errors.New("what was removed since the last look is forgotten already")

// listener is a connection that hears of writes, for all sessions of a handle.
type listener struct {
	ctx    context.Context // done when the connection broke
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	wakes map[*wake]struct{}
}

// wake is how a session hears of a write in its range.
type wake struct {
	rng driver.Range
	ch  chan struct{} // of capacity 1
}

// listen opens the connection and begins to listen.
func (s *store) listen(ctx context.Context) (*listener, error) {
	dial, cancel := context.WithTimeout(ctx, s.cfg.DialTimeout+answer)
	defer cancel()
	cfg := s.pool.Config()
	if err := cfg.BeforeConnect(dial, cfg.ConnConfig); err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(dial, cfg.ConnConfig)
	if err != nil {
		return nil, err
	}
	if err = s.met(dial, conn); err == nil {
		_, err = conn.Exec(dial, "LISTEN "+pgx.Identifier{s.names.channel}.Sanitize())
	}
	if err != nil {
		_ = conn.Close(dial)
		return nil, err
	}
	l := &listener{wakes: map[*wake]struct{}{}}
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	s.listeners.Go(func() {
		l.cancel(l.hear(conn))
		end, cancel := context.WithTimeout(context.Background(), answer)
		defer cancel()
		_ = conn.Close(end)
	})
	return l, nil
}

// hear wakes sessions until the connection breaks.
func (l *listener) hear(conn *pgx.Conn) error {
	for {
		wait, cancel := context.WithTimeout(l.ctx, quiet)
		n, err := conn.WaitForNotification(wait)
		overdue := wait.Err() != nil && l.ctx.Err() == nil
		cancel()
		switch {
		case err == nil:
			key, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(n.Payload, "\n", ""))
			if err != nil {
				return err
			}
			l.tell(string(key))
		case overdue:
			ask, cancel := context.WithTimeout(l.ctx, answer)
			err := conn.Ping(ask)
			cancel()
			if err != nil {
				return err
			}
		default:
			return err
		}
	}
}

func (l *listener) tell(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for w := range l.wakes {
		if w.rng.Contains(key) {
			select {
			case w.ch <- struct{}{}:
			default: // it is woken already
			}
		}
	}
}

func (l *listener) subscribe(r driver.Range) (w *wake, end func()) {
	w = &wake{r, make(chan struct{}, 1)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wakes[w] = struct{}{}
	return w, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.wakes, w)
	}
}

// Watch implements driver.Store. A session listens before it reads; then it reads
// what is newer than all that it has read, each time that it is woken.
func (s *store) Watch(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
	l, err := s.listeners.Get(ctx)
	if err != nil {
		return s.wrap(ctx, err)
	}
	w, end := l.subscribe(req.Range)
	defer end()
	if req.BeforeSnapshot != nil {
		if err := req.BeforeSnapshot(ctx); err != nil {
			return err
		}
	}
	q := query{columns: "value", where: "NOT e.removed", order: "e.key"}
	q.within(req.Range)
	now, err := s.emit(ctx, q, 0, emit)
	if err != nil {
		return err
	}
	emit(driver.Event{Type: driver.Synced})
	for {
		select {
		case <-w.ch:
		case <-ctx.Done():
			return ctx.Err()
		case <-l.ctx.Done():
			return s.wrap(ctx, context.Cause(l.ctx))
		}
		q := query{columns: "value", where: "e.version > $1", args: []any{int64(now)}, order: "e.version"} //nolint:gosec // as it came
		q.within(req.Range)
		if now, err = s.emit(ctx, q, now, emit); err != nil {
			return err
		}
	}
}

// emit emits what q selects and returns the version up to which nothing is missing:
// the counter of that moment.
func (s *store) emit(ctx context.Context, q query, last uint64, emit func(driver.Event)) (now uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	conn, err := s.acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Release()
	m := s.history.Mark()
	var events []driver.Event
	_, c, err := s.read(ctx, conn.Conn(), m, q, func(key string, r row, removed bool) {
		ev := driver.Event{Type: driver.Put, Entry: r.entry(key, m.Gen)}
		if removed {
			ev = driver.Event{Type: driver.Delete, Entry: driver.Entry{Key: key, Generation: m.Gen}}
		}
		events = append(events, ev)
	})
	if err == nil && last > 0 && c.forgotten > last {
		err = errBehind
	}
	if err != nil {
		return 0, s.wrap(ctx, err)
	}
	for _, ev := range events {
		emit(ev)
	}
	return c.now, nil
}

// readTimeout bounds what a session reads at once: all of its range, perhaps.
const readTimeout = time.Minute
