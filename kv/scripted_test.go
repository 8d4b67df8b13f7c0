package kv_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// scripted is a store whose watch sessions tell what a test says, and which the
// test answers when it is asked where it stands.
type scripted struct {
	driver.Store // nil: what is not asked for
	sessions     chan *session
	questions    chan *question
}

// session is one of a scripted store.
type session struct {
	driver.WatchRequest
	emit func(driver.Event)
	over chan error
	ctx  context.Context
}

// question is a call of Locate.
type question struct {
	from   driver.Position
	answer chan<- error // nil: position at is the answer
	at     driver.Position
}

// at is a position; as two may be of the same point, it has a name.
type at struct {
	n    int
	name string
}

func (p at) Covers(other driver.Position) bool { o, _ := other.(at); return p.n >= o.n }

func (s *scripted) Limits() driver.Limits { return driver.Limits{} }
func (s *scripted) Close() error          { return nil }

func (s *scripted) Watch(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
	over := make(chan error)
	s.sessions <- &session{req, emit, over, ctx}
	select {
	case err := <-over:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *scripted) Locate(ctx context.Context, _ driver.Range, from driver.Position) (driver.Position, error) {
	answer := make(chan error)
	q := &question{from: from, answer: answer}
	select {
	case s.questions <- q:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case err := <-answer:
		return q.at, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// stage is a client over a scripted store, in virtual time.
type stage struct {
	t      *testing.T
	store  *scripted
	client kv.Client
	ends   []func()
	begun  []*session // that nobody asked for yet
}

// play runs a test on a stage, and afterwards wants that no session is left.
func play(t *testing.T, opts kv.Options, f func(s *stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		store := &scripted{sessions: make(chan *session, 100), questions: make(chan *question)}
		opts.CompareWatches, opts.Logger = -1, slog.New(slog.DiscardHandler)
		s := &stage{t: t, store: store, client: kv.New(store, stringCodec, &opts)}
		f(s)
		for _, end := range slices.Backward(s.ends) {
			end()
		}
		synctest.Wait()
		for len(store.sessions) > 0 {
			s.begun = append(s.begun, <-store.sessions)
		}
		for _, session := range s.begun {
			t.Errorf("a session of %v was not expected", session.Range)
		}
		if err := s.client.Close(); err != nil {
			t.Error(err)
		}
	})
}

// session waits for a session of a range. Others may have begun before it.
func (s *stage) session(of kv.Range) *session {
	s.t.Helper()
	for {
		if i := slices.IndexFunc(s.begun, func(b *session) bool { return b.Range == of }); i >= 0 {
			session := s.begun[i]
			s.begun = slices.Delete(s.begun, i, i+1)
			return session
		}
		select {
		case session := <-s.store.sessions:
			s.begun = append(s.begun, session)
		case <-time.After(time.Hour): // longer than any pause
			s.t.Fatalf("no session of %v", of)
		}
	}
}

// asked waits for the store to be asked where it stands.
func (s *stage) asked() *question {
	s.t.Helper()
	return receive(s.t, "question", s.store.questions)
}

func (q *question) is(n int, name string) {
	q.at = at{n, name}
	q.answer <- nil
}

// unasked wants that nobody asks.
func (s *stage) unasked() {
	s.t.Helper()
	synctest.Wait()
	select {
	case <-s.store.questions:
		s.t.Error("the store was asked where it stands")
	default:
	}
}

func (s *session) put(key, value string) {
	s.emit(driver.Event{Type: driver.Put, Entry: driver.Entry{Key: key, Value: []byte(value), Version: 1}})
}

// putAt is a change after the snapshot.
func (s *session) putAt(n int, key, value string) {
	s.emit(driver.Event{Type: driver.Put, Entry: driver.Entry{Key: key, Value: []byte(value), Version: 1}, Position: at{n: n}})
}

func (s *session) synced(n int) { s.emit(driver.Event{Type: driver.Synced, Position: at{n: n}}) }

// snapshot tells of keys with the value "1".
func (s *session) snapshot(n int, keys ...string) {
	for _, key := range keys {
		s.put(key, "1")
	}
	s.synced(n)
}

// heard is what a watch was told.
type heard struct {
	s  *stage
	mu sync.Mutex

	events []string
	end    func()
}

// watch begins one.
func (s *stage) watch(r kv.Range) *heard {
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan struct{})
	h := &heard{s: s}
	h.end = sync.OnceFunc(func() { cancel(); <-ended })
	s.ends = append(s.ends, h.end)
	go func() {
		defer close(ended)
		_ = kv.Watch(ctx, s.client, r, func(ev kv.Event) bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			switch ev.Type {
			case kv.Put:
				h.events = append(h.events, fmt.Sprintf("%s=%v", ev.Key, ev.Value))
			case kv.Interrupted:
				h.events = append(h.events, ev.Err.Error())
			default:
				h.events = append(h.events, ev.Type.String()+ev.Key)
			}
			return true
		})
	}()
	synctest.Wait()
	return h
}

// was wants that these were the events since the last time, and no more.
func (h *heard) was(events ...string) {
	h.s.t.Helper()
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Equal(h.events, events) {
		h.s.t.Errorf("a watch was told %q, want %q", h.events, events)
	}
	h.events = nil
}

var (
	all = kv.PrefixRange("")
	a   = kv.PrefixRange("a/")
	ab  = kv.PrefixRange("a/b")
	key = kv.KeyRange("a/b")
)
