package conformance

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
)

// server makes of the in-memory store one that is reached over lines, so that
// it can be restarted, compacted and set back to a backup, as a real server.
type server struct {
	mu         sync.Mutex
	data       *inmemory.Store
	journal    *journal
	generation uint64
	lines      []*StoreLine
	writes     map[string]lastWrite // the last one of each key
	compacted  int                  // how often
	full       bool
	sessions   context.Context // ends when watches lose track
	endAll     context.CancelFunc
}

func newServer() *server {
	s := &server{data: inmemory.NewStore(), journal: newJournal(1, nil), generation: 1, writes: map[string]lastWrite{}}
	s.sessions, s.endAll = context.WithCancel(context.Background())
	return s
}

// lastWrite names the write that made a version.
type lastWrite struct {
	version driver.Version
	id      uint64
}

// remote is the harness of a server that offers every hook.
func remote() Harness {
	return Harness{New: func(T) Store { return newServer().store() }}
}

func (s *server) store() Store {
	return Store{
		Open: func(c codec.Codec, o kv.Options) (kv.Client, error) {
			return kv.New(s.line(), c, &o), nil
		},
		OpenLine: func(c codec.Codec, o kv.Options) (kv.Client, Line, error) {
			line := s.line()
			return kv.New(line, c, &o), line, nil
		},
		OpenDriver: func() (driver.Store, error) { return s.line(), nil },
		Plant: func(ctx context.Context, key string, value []byte) error {
			return plant(ctx, func() (driver.Store, error) { return s.line(), nil }, key, value)
		},
		Restart:      func(context.Context) error { s.restart(); return nil },
		ChangeLeader: func(context.Context) error { s.restart(); return nil },
		Compact:      func(context.Context) error { s.compact(); return nil },
		Snapshot:     s.snapshot,
		Full:         s.fill,
	}
}

func (s *server) line() *StoreLine { return s.lineTo(&handle{server: s}) }

// lineTo is a line to something that stands before the server.
func (s *server) lineTo(d driver.Store) *StoreLine {
	line := Breakable(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
	return line
}

// restart breaks every connection. Those that a case has cut stay cut.
func (s *server) restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.lines {
		if line.Whole() {
			line.Cut()
			defer line.Mend()
		}
	}
	time.Sleep(20 * time.Millisecond) // it is down for a while
}

// compact forgets the moments that pages of a scan were read at, and loses
// track of watches.
func (s *server) compact() {
	s.mu.Lock()
	s.compacted++
	s.journal.compact()
	s.mu.Unlock()
	s.loseTrack()
}

// loseTrack ends every watch session.
func (s *server) loseTrack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endAll()
	s.sessions, s.endAll = context.WithCancel(context.Background())
}

func (s *server) fill(context.Context) (drain func(context.Context) error, err error) {
	set := func(full bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.full = full
	}
	set(true)
	return func(context.Context) error { set(false); return nil }, nil
}

func (s *server) snapshot(ctx context.Context) (restore func(context.Context) error, err error) {
	from := s.data.Open()
	page, err := from.Scan(ctx, driver.ScanRequest{})
	if err != nil || page.More {
		return nil, errors.Join(err, from.Close())
	}
	return func(ctx context.Context) error {
		fresh := inmemory.NewStore()
		to := fresh.Open()
		for i, entry := range page.Entries {
			if _, err := to.Swap(ctx, driver.Swap{Key: entry.Key, Value: entry.Value, ID: uint64(i + 1)}); err != nil {
				return err
			}
		}
		now, err := to.Scan(ctx, driver.ScanRequest{}) // with the versions of the new history
		if err != nil || now.More {
			return errors.Join(err, errors.New("the restored store can't be read at once"))
		}
		s.mu.Lock()
		s.data = fresh
		s.generation++
		s.journal.restore(s.generation, now.Entries)
		s.mu.Unlock()
		s.loseTrack()
		return errors.Join(from.Close(), to.Close())
	}, nil
}

// handle is one client's view of a server. It opens a handle on the data for
// every request, since the data may be another by then.
type handle struct {
	server *server
}

var errLostTrack = errors.New("the session lost track")

func (h *handle) now() (driver.Store, uint64, context.Context) {
	h.server.mu.Lock()
	defer h.server.mu.Unlock()
	return h.server.data.Open(), h.server.generation, h.server.sessions
}

func (h *handle) Get(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
	data, generation, _ := h.now()
	entry, err := data.Get(ctx, req)
	entry.Generation = generation
	return entry, err
}

// moment is the snapshot of a page and when it was taken.
type moment struct {
	snapshot  any
	compacted int
}

func (h *handle) Scan(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
	data, generation, _ := h.now()
	h.server.mu.Lock()
	now := h.server.compacted
	h.server.mu.Unlock()
	if m, ok := req.Snapshot.(moment); ok {
		if m.compacted != now {
			return driver.Page{}, driver.ErrSnapshotLost
		}
		req.Snapshot = m.snapshot
	}
	page, err := data.Scan(ctx, req)
	page.Snapshot = moment{page.Snapshot, now}
	page.Generation = generation
	for i := range page.Entries {
		page.Entries[i].Generation = generation
	}
	return page, err
}

// Swap refuses versions of another generation: they mean nothing here.
func (h *handle) Swap(ctx context.Context, s driver.Swap) (driver.Result, error) {
	h.server.mu.Lock() // no restore in between
	defer h.server.mu.Unlock()
	data, generation := h.server.data.Open(), h.server.generation
	if s.Prev.Version != 0 && s.Prev.Generation != 0 && s.Prev.Generation != generation {
		return driver.Result{Outcome: driver.Conflict}, nil
	}
	if h.server.full && len(s.Value) >= 64<<10 {
		return driver.Result{Outcome: driver.NotApplied}, driver.ErrFull
	}
	result, err := data.Swap(ctx, s)
	result.Entry.Generation = generation
	if result.Outcome == driver.Applied {
		h.server.writes[s.Key] = lastWrite{result.Entry.Version, s.ID}
		entry := result.Entry
		entry.Key, entry.Value = s.Key, s.Value
		h.server.journal.add(entry)
	}
	return result, err
}

// Resolve knows whose write made a version, as a store that keeps the id does.
func (h *handle) Resolve(s driver.Swap, now driver.Entry) driver.Outcome {
	h.server.mu.Lock()
	defer h.server.mu.Unlock()
	if last := h.server.writes[s.Key]; now.Exists() && last == (lastWrite{now.Version, s.ID}) {
		return driver.Applied
	}
	return driver.Unknown
}

// Watch finds back by itself once in a session, as a driver may.
func (h *handle) Watch(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
	err := h.session(ctx, req, emit)
	if errors.Is(err, errLostTrack) && ctx.Err() == nil {
		emit(driver.Event{Type: driver.Restart})
		err = h.session(ctx, driver.WatchRequest{Range: req.Range}, emit)
	}
	return err
}

// Locate implements driver.Locator.
func (h *handle) Locate(ctx context.Context, r driver.Range, _ driver.Position) (driver.Position, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return h.server.journal.locate(r), nil
}

func (h *handle) session(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
	_, _, sessions := h.now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(sessions, func() { cancel(errLostTrack) })()
	err := h.server.journal.follow(ctx, req, emit)
	if errors.Is(context.Cause(ctx), errLostTrack) {
		return errLostTrack
	}
	return err
}

func (h *handle) Limits() driver.Limits {
	data, _, _ := h.now()
	return data.Limits()
}

func (h *handle) Close() error { return nil }

func TestRemote(t *testing.T) { Run(t, remote()) }
