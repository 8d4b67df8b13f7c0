package postgres

import (
	"context"
	"encoding/hex"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/polykv/polykv/kv/driver"
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

	wakes sync.Map // channels of capacity 1, by which sessions hear of writes, to their ranges
}

// listen opens the connection and begins to listen.
func (s *store) listen(ctx context.Context) (*listener, error) {
	dial, cancel := context.WithTimeout(ctx, s.cfg.DialTimeout+answer)
	defer cancel()
	pooled, err := s.acquire(dial)
	if err != nil {
		return nil, err
	}
	conn := pooled.Hijack()
	if _, err = conn.Exec(dial, "LISTEN "+pgx.Identifier{originOf(conn.PgConn()).table}.Sanitize()); err != nil {
		_ = conn.Close(dial)
		return nil, s.wrap(dial, err)
	}
	l := &listener{origin: originOf(conn.PgConn())}
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	s.listeners.Go(func() {
		l.cancel(s.hear(l, conn))
		end, cancel := context.WithTimeout(context.Background(), answer)
		defer cancel()
		_ = conn.Close(end)
		<-conn.PgConn().CleanupDone()
	})
	return l, nil
}

// hear wakes sessions until the connection breaks, and tends the leases: at once,
// when one was granted, and when one may be over. That shows that the connection
// is alive, too.
func (s *store) hear(l *listener, conn *pgx.Conn) error {
	for due := time.Now(); ; {
		if !time.Now().Before(due) {
			pause, err := s.tend(l.ctx, l, conn)
			switch {
			case err != nil && (outcome(err) != driver.NotApplied || state(err) == undefinedTable):
				return err
			case err != nil: // such as of a full disk
				pause = time.Second
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
			key, err := hex.DecodeString(n.Payload)
			if err != nil {
				return err
			}
			l.tell(string(key))
		}
	}
}

// tell wakes the sessions of a key.
func (l *listener) tell(key string) {
	l.wakes.Range(func(wake, of any) bool {
		if of.(driver.Range).Contains(key) {
			select {
			case wake.(chan struct{}) <- struct{}{}:
			default: // it is woken already
			}
		}
		return true
	})
}

// Watch implements driver.Store. A session listens before it reads; then it reads
// what is newer than all that it has read, each time that it is woken.
func (s *store) Watch(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
	l, err := s.listeners.Get(ctx)
	if err != nil {
		return err
	}
	wake := make(chan struct{}, 1)
	l.wakes.Store(wake, req.Range)
	defer l.wakes.Delete(wake)
	var events []driver.Event
	at, resumes := req.Position.(*position)
	if resumes {
		if events, at, err = s.since(ctx, req.Range, at); err == nil {
			emit(driver.Event{Type: driver.Resumed})
		} else if !errors.Is(err, errBehind) {
			return err
		}
	}
	if !resumes || err != nil {
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
		case <-wake:
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
	q := query{rng: r}
	if from != nil {
		q.newer, q.since = true, from.now
	}
	v, err := s.read(ctx, q)
	if err == nil && from != nil && (v.at.forgotten > from.now || !from.same(&v.at)) {
		err = errBehind
	}
	if err != nil {
		return nil, nil, err
	}
	for _, e := range v.found {
		events = append(events, e.Event())
	}
	return events, &v.at, nil
}

// readTimeout bounds what a session reads at once: all of its range, perhaps.
const readTimeout = time.Minute
