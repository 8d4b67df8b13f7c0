package coordination

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv"
)

// session is one participant: it beats while it has attempts or a hold, follows
// the lock's keys, and clears away what its attempts left behind.
type session struct {
	names
	*life
	id       string
	client   kv.Client // of bytes
	versions kv.VersionedClient
	guarded  kv.GuardedClient
	own      kv.Client // as given

	kick chan struct{} // of capacity 1: the beat's loop has something to do

	// Under mu.
	started  bool
	running  map[string]struct{}  // attempts and holds
	attempts uint64               // how many there were
	beats    uint64               // the last one written
	beaten   time.Time            // when that began; zero: there is none in the store
	urgent   bool                 // the next beat must not wait for its time
	valid    time.Time            // until when the last beat counts; zero: not at all
	refused  error                // why the store took no beat, if trying again doesn't cure that
	refusedN uint64               // which beat
	held     *Held                // what this session holds; nil: nothing
	ended    map[string]struct{}  // attempts that are over, to be cleared away
	seen     view                 // what the watch told
	peers    map[string]*lastBeat // of beats, by session
}

// view is what a participant knows of a lock.
type view struct {
	synced bool
	holder standing
	queue  []string
}

// standing is the holder's record at a version; 0: it isn't known.
type standing struct {
	holder
	version kv.Version
}

// lastBeat is since when a beat stands still, as far as this process knows.
type lastBeat struct {
	stored string // the beat; empty: there is none
	since  time.Time
}

func newSession(c kv.Client, name string, opts Options) (*session, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	own, id := names{name}, rand.Text()
	if err := check(c, name, own.beat(id)); err != nil {
		return nil, err
	}
	bytes, err := kv.WithCodec(c, codec.Bytes{})
	if err != nil {
		return nil, err
	}
	s := &session{
		names: own, life: newLife(opts), id: id, client: bytes, own: c, kick: make(chan struct{}, 1),
		running: map[string]struct{}{}, ended: map[string]struct{}{}, peers: map[string]*lastBeat{},
	}
	if s.versions, err = kv.Versioned(bytes); err == nil {
		s.guarded, err = kv.Guarded(bytes)
	}
	if err != nil {
		return nil, fmt.Errorf("coordination: %q: %w", name, err)
	}
	return s, nil
}

// close ends everything, and leaves nothing in the store if that answers soon.
func (s *session) close() error {
	s.mu.Lock()
	held, used := s.held, s.started
	s.cancel()
	s.mu.Unlock()
	s.wg.Wait()
	if held != nil {
		held.end(ErrReleased, Released)
	}
	if !used {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), min(s.opts.requestTimeout(), closeTimeout))
	defer cancel()
	own := func(attempt string) bool { return sessionOf(attempt) == s.id }
	err := errors.Join(s.release(ctx, standing{}, own), s.dequeue(ctx, own), s.client.Delete(ctx, s.names.beat(s.id)))
	if err != nil && !errors.Is(err, kv.ErrClosed) {
		s.opts.Logger.Warn("polykv: a lock was closed and could not be given back; others take it over after a TTL", "name", s.name, "error", err)
	}
	return nil
}

// enter counts one more attempt and waits until a beat says that the session is
// alive, or can't be written.
func (s *session) enter(ctx context.Context) error {
	s.mu.Lock()
	before := s.beats // what these met may have been cured
	if !s.started {
		s.started = true
		s.wg.Go(func() { s.watch(s.client, s.names, s.take) })
		s.wg.Go(s.live)
	}
	s.mu.Unlock()
	wait.Signal(s.kick)
	var refused error
	err := s.wait(ctx, func() bool {
		if s.refusedN > before {
			refused = s.refused
		}
		return refused != nil || time.Now().Before(s.valid) && s.seen.synced
	})
	return cmp.Or(err, refused)
}

// leave is the end of an attempt or a hold, of which something may be left in the
// store.
func (s *session) leave(attempt string) {
	s.mu.Lock()
	delete(s.running, attempt)
	s.ended[attempt] = struct{}{}
	s.mu.Unlock()
	wait.Signal(s.kick)
}

// live writes the beat, and clears away, until Close.
func (s *session) live() {
	for next := time.Duration(0); s.ctx.Err() == nil; {
		_ = s.pause(context.Background(), s.kick, next)
		if s.ctx.Err() != nil {
			return
		}
		s.mu.Lock()
		due := s.beaten.Add(s.opts.beatEvery())
		idle, present := len(s.running) == 0, !s.beaten.IsZero()
		if s.urgent || s.valid.IsZero() {
			due = time.Time{}
		}
		s.urgent = false
		s.mu.Unlock()
		well := s.clear()
		switch now := time.Now(); {
		case now.Before(due):
		case !idle:
			well = s.beat() && well
			s.tidy()
		case present:
			well = s.removeBeat() && well
		}
		s.mu.Lock()
		next = time.Until(s.beaten.Add(s.opts.beatEvery()))
		s.mu.Unlock()
		switch {
		case !well:
			next = s.opts.lookEvery()
		case next <= 0:
			next = s.opts.beatEvery()
		}
	}
}

// beat writes one beat, under the fence of what is held.
func (s *session) beat() (ok bool) {
	s.mu.Lock()
	s.beats++
	n, held := s.beats, s.held
	s.mu.Unlock()
	var guards []kv.Guard
	if held != nil {
		guards = append(guards, held.guard)
	}
	ctx, cancel := s.bounded()
	defer cancel()
	began := time.Now()
	err := s.guarded.CASGuarded(ctx, s.names.beat(s.id), func(any) (any, bool, error) { return encode(beat{N: n}), false, nil }, guards...)
	if errors.Is(err, kv.ErrFenced) && held != nil {
		held.lose("the fence is broken")
		return false // the attempts of this session still need a beat
	}
	if err != nil {
		if s.ctx.Err() == nil {
			s.opts.Logger.Warn("polykv: a beat could not be written", "name", s.name, "error", err)
		}
		if errors.Is(err, kv.ErrPermission) || errors.Is(err, kv.ErrInvalidKey) {
			s.mu.Lock()
			s.refused, s.refusedN = err, n
			s.tell()
			s.mu.Unlock()
		}
		return false
	}
	s.mu.Lock()
	s.beaten, s.valid = began, began.Add(s.opts.counts())
	s.tell()
	s.mu.Unlock()
	return true
}

// tidy has a holder remove the beat of a session that is gone and neither waited
// nor held, so that nobody else would; one at a time.
func (s *session) tidy() {
	still := ""
	s.mu.Lock()
	for id, p := range s.peers {
		if s.held != nil && p.stored != "" && time.Since(p.since)/3 >= s.opts.TTL {
			still = id
		}
	}
	s.mu.Unlock()
	if still != "" {
		ctx, cancel := s.bounded()
		defer cancel()
		_, _ = s.dead(ctx, still)
	}
}

// removeBeat removes the beat of a session that neither waits nor holds.
func (s *session) removeBeat() bool {
	s.mu.Lock()
	if len(s.running) > 0 {
		s.mu.Unlock()
		return false
	}
	s.valid = time.Time{} // whoever comes now waits for another beat
	s.mu.Unlock()
	ctx, cancel := s.bounded()
	defer cancel()
	if s.client.Delete(ctx, s.names.beat(s.id)) != nil {
		return false
	}
	s.mu.Lock()
	s.beaten = time.Time{}
	s.mu.Unlock()
	return true
}

// clear takes attempts that are over out of the queue, and gives back what one of
// them may have got. It reports whether all is clear.
func (s *session) clear() bool {
	s.mu.Lock()
	over := s.ended
	s.ended = map[string]struct{}{} // what comes late meanwhile takes another turn
	s.mu.Unlock()
	if len(over) == 0 {
		return true
	}
	ctx, cancel := s.bounded()
	defer cancel()
	gone := func(attempt string) bool { _, ok := over[attempt]; return ok }
	if s.release(ctx, standing{}, gone) == nil && s.dequeue(ctx, gone) == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(s.ended, over)
	return false
}

// release frees the lock if one of these attempts has it, as known or as it turns
// out.
func (s *session) release(ctx context.Context, known standing, gone func(attempt string) bool) error {
	_, err := s.replace(ctx, known, func(now holder) (holder, bool) {
		return holder{Term: now.Term}, now.ID != "" && gone(now.ID)
	})
	if errors.Is(err, kv.ErrConflict) {
		return nil // somebody took it over
	}
	return err
}

// replace swaps the holder's record for what next makes of it, if anything, and
// returns what stands then. A version stands for one state, so what is known of one,
// from a watch or because this session wrote it, takes no read; one that is over
// is found out by the store.
func (s *session) replace(ctx context.Context, known standing, next func(now holder) (holder, bool)) (standing, error) {
	for read := false; ; known.version = 0 {
		if known.version == 0 {
			now, err := s.current(ctx)
			if err != nil {
				return standing{}, err
			}
			read, known = true, now
		}
		to, ok := next(known.holder)
		if !ok {
			return known, nil
		}
		version, err := s.versions.SwapVersion(ctx, s.names.holder(), known.version, encode(to))
		if read || !errors.Is(err, kv.ErrConflict) {
			return standing{to, version}, err
		}
	}
}

// current reads who has the lock, linearizably.
func (s *session) current(ctx context.Context) (standing, error) {
	value, version, err := s.versions.GetVersion(ctx, s.names.holder())
	if err != nil {
		return standing{}, err
	}
	now, err := decode[holder](s.names.holder(), value)
	return standing{now, version}, err
}

// dequeue takes attempts out of the queue.
func (s *session) dequeue(ctx context.Context, gone func(attempt string) bool) error {
	return s.requeue(ctx, func(queue []string) []string { return slices.DeleteFunc(queue, gone) })
}

// requeue changes the queue.
func (s *session) requeue(ctx context.Context, change func([]string) []string) error {
	return s.client.CAS(ctx, s.names.queue(), func(in any) (any, bool, error) {
		queue, err := decode[[]string](s.names.queue(), in)
		if err != nil {
			return nil, false, err
		}
		before := len(queue)
		if queue = change(queue); len(queue) == before {
			return nil, false, nil
		}
		return encode(queue), false, nil
	})
}

// take keeps seen and peers up to date, and tells of what anybody has to look at.
func (s *session) take(e kv.Event) {
	session, below := ownPart(e.Key, s.names.beats())
	switch {
	case e.Type == kv.Interrupted:
		s.seen.synced = false
	case e.Type == kv.Synced:
		s.seen.synced = true
		for _, p := range s.peers { // what happened meanwhile nobody saw
			p.since = time.Now()
		}
		s.tell()
	case e.Key == s.names.holder():
		now, err := decode[holder](e.Key, e.Value)
		if s.seen.holder = (standing{now, e.Version}); err != nil || e.Type != kv.Put {
			s.seen.holder.version = 0 // the one who wants it reads it
		}
		if s.held != nil && s.held.id != now.ID {
			s.urgent = true // a beat under the fence finds out
			wait.Signal(s.kick)
		}
		s.disown(now.ID)
		s.tell()
	case e.Key == s.names.queue():
		s.seen.queue, _ = decode[[]string](e.Key, e.Value)
		s.disown(s.seen.queue...)
		s.tell()
	case below:
		delete(s.peers, session)
		if now, err := decode[beat](e.Key, e.Value); err == nil && now.N > 0 && now.Run == "" { // not of another lock or presence
			stored, _ := e.Value.([]byte)
			s.peers[session] = &lastBeat{stored: string(stored), since: time.Now()}
		}
	}
}

// disown has cleared away what own attempts left in the store when they were over
// already: writes that the store made late. s.mu is held.
func (s *session) disown(attempts ...string) {
	for _, attempt := range attempts {
		if _, running := s.running[attempt]; !running && sessionOf(attempt) == s.id {
			s.ended[attempt] = struct{}{}
			wait.Signal(s.kick)
		}
	}
}
