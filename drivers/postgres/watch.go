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
	"github.com/polykv/polykv/kv/driver/kit"
)

const (
	quiet  = 5 * time.Second // after so long the connection is tried
	answer = 5 * time.Second // for that to be answered
)

var (
	errBehind = errors.New("what was removed since the last look is forgotten already")
	errMoved  = errors.New("the connection that listens is one to another server")
)

// listener is a connection that hears of writes, for all sessions of a handle.
type listener struct {
	ctx    context.Context // done when the connection broke
	origin origin          // of whose writes it hears
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
	cfg := s.pool.Config().ConnConfig
	conn, err := kit.Use(s.password, isLogin, func(password string) (*pgx.Conn, error) {
		cfg.Password = password
		return pgx.ConnectConfig(dial, cfg)
	})
	if err != nil {
		return nil, err
	}
	if err = s.met(dial, conn); err == nil {
		_, err = conn.Exec(dial, "LISTEN "+pgx.Identifier{originOf(conn.PgConn()).table}.Sanitize())
	}
	if err != nil {
		_ = conn.Close(dial)
		return nil, err
	}
	l := &listener{origin: originOf(conn.PgConn()), wakes: map[*wake]struct{}{}}
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	s.listeners.Go(func() {
		l.cancel(s.hear(l, conn))
		end, cancel := context.WithTimeout(context.Background(), answer)
		defer cancel()
		_ = conn.Close(end)
	})
	return l, nil
}

// hear wakes sessions until the connection breaks, and tends the leases: at once,
// when one was granted, and when one may be over. That shows that the connection
// is alive, too.
func (s *store) hear(l *listener, conn *pgx.Conn) error {
	for due := time.Now(); ; {
		if !time.Now().Before(due) {
			pause, err := s.tend(l.ctx, conn)
			if err != nil {
				return err
			}
			due = time.Now().Add(pause)
		}
		wait, cancel := context.WithDeadline(l.ctx, due)
		n, err := conn.WaitForNotification(wait)
		late := wait.Err() != nil && l.ctx.Err() == nil
		cancel()
		switch {
		case err != nil && !late:
			return err
		case err != nil:
		case n.Payload == "":
			due = time.Now()
		default:
			key, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(n.Payload, "\n", ""))
			if err != nil {
				return err
			}
			l.tell(string(key))
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
	at, resumed := req.Position.(*position)
	var events []driver.Event
	if resumed {
		if events, at, err = s.since(ctx, req.Range, at); err == nil {
			emit(driver.Event{Type: driver.Resumed})
		} else if !errors.Is(err, errBehind) {
			return err
		}
		resumed = err == nil
	}
	if !resumed {
		if req.BeforeSnapshot != nil {
			if err := req.BeforeSnapshot(ctx); err != nil {
				return err
			}
		}
		if events, at, err = s.since(ctx, req.Range, nil); err != nil {
			return err
		}
	}
	if at.origin != l.origin { // one of them is of a primary that another took the place of
		l.cancel(errMoved)
		return errMoved
	}
	for _, ev := range events {
		emit(ev)
	}
	emit(driver.Event{Type: driver.Synced, Position: at})
	for {
		select {
		case <-w.ch:
		case <-ctx.Done():
			return ctx.Err()
		case <-l.ctx.Done():
			return s.wrap(ctx, context.Cause(l.ctx))
		}
		if events, at, err = s.since(ctx, req.Range, at); err != nil {
			return err
		}
		for i, ev := range events {
			if i == len(events)-1 { // before that, an older write may be missing that a newer one replaced
				ev.Position = at
			}
			emit(ev)
		}
	}
}

// since returns what happened in a range after a position, all that exists if that
// is nil, and the position up to which nothing is missing then.
func (s *store) since(ctx context.Context, r driver.Range, from *position) (events []driver.Event, at *position, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	q := query{where: "NOT e.removed", order: "e.key"}.within(r)
	if from != nil {
		q = newer(r, from.now)
	}
	found, c, err := s.read(ctx, q)
	if err == nil && from != nil && (c.forgotten > from.now || !from.same(&c.position)) {
		err = errBehind
	}
	if err != nil {
		return nil, nil, err
	}
	for _, r := range found {
		events = append(events, r.entry(c.gen).Event())
	}
	return events, &c.position, nil
}

// readTimeout bounds what a session reads at once: all of its range, perhaps.
const readTimeout = time.Minute
