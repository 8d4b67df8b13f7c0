package multi

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// records is the selector of a coordinated client. A goroutine for each store reads
// its record: at once, when a watch tells that it changed, when a call met a
// broken guard, and now and then. What the records say is never more than a
// guess, which the guard of every call confirms.
type records struct {
	core      *core
	refreshes [2]chan struct{} // of capacity 1: the record must be read
	heartbeat *heartbeat

	mu      sync.Mutex
	seen    [2]observation
	ticket  uint64        // counts the demands to read the records again
	changed chan struct{} // closed and replaced by every observation

	writes      *route // of the store that is primary; nil: none is
	reads       *route // the same, or the sealed store's
	lastPrimary int    // the store that was primary last; -1: none was

	waiting   int  // calls that wait for a store to be primary
	impatient bool // a write has waited in vain to know the other store's record

	alarm           *time.Timer // runs while no store is primary
	alarmed, warned bool
	alarmedAt       time.Time // when it began to run
}

// observation is what was last read of one store's record.
type observation struct {
	record  side.Record
	version kv.Version // 0: there is none
	err     error      // why the last read failed; the rest is from before
	known   bool       // a read succeeded once
	reads   uint64     // how often it was tried
	ticket  uint64     // the demand that the last read met
}

func (s observation) state() side.State {
	if s.version == 0 {
		return ""
	}
	return s.record.State
}

// recordTimeout bounds one read of a record. A store that doesn't answer for
// longer has no say.
const recordTimeout = 3 * time.Second

func startRecords(c *core) *records {
	l := &records{core: c, changed: make(chan struct{}), lastPrimary: -1}
	l.heartbeat = newHeartbeat(l.core, l, side.ModeCoordinated)
	l.alarm = time.AfterFunc(time.Hour, l.warn)
	l.alarm.Stop()
	for i := range l.refreshes {
		l.refreshes[i] = make(chan struct{}, 1)
		c.start(func() { l.read(i) })
		c.start(func() { l.watch(i) })
	}
	c.start(func() {
		l.heartbeat.begin(c.ctx)
		l.heartbeat.run()
	})
	return l
}

// read reads the record of a store whenever there is a reason to.
func (l *records) read(i int) {
	pause := side.NewPauses(20*time.Millisecond, l.core.cfg.RefreshInterval)
	for l.core.ctx.Err() == nil {
		l.mu.Lock()
		ticket := l.ticket
		l.mu.Unlock()
		ctx, cancel := context.WithTimeout(l.core.ctx, recordTimeout)
		record, version, err := l.core.stores[i].side.ReadRecord(ctx)
		cancel()
		if l.core.ctx.Err() != nil {
			return
		}
		l.saw(i, record, version, err, ticket)
		next := l.core.cfg.RefreshInterval/2 + rand.N(l.core.cfg.RefreshInterval)
		if err != nil {
			next = pause.NextBackOff()
		} else {
			pause.Reset()
		}
		l.sleep(i, next)
	}
}

// sleep waits for a reason to read a record.
func (l *records) sleep(i int, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.refreshes[i]:
	case <-l.core.ctx.Done():
	}
}

// watch has the record of a store read whenever it changed.
func (l *records) watch(i int) {
	err := kv.Watch(l.core.ctx, l.core.stores[i].raw, kv.KeyRange(side.RecordKey), func(ev kv.Event) bool {
		if ev.Type != kv.Interrupted {
			l.refresh(i)
		}
		return true
	})
	if l.core.ctx.Err() == nil {
		l.core.log.Warn("polykv: the record can't be watched, only read now and then", "store", l.core.stores[i].name, "error", err)
	}
}

func (l *records) refresh(i int) {
	select {
	case l.refreshes[i] <- struct{}{}:
	default:
	}
}

// demand has both records read again. A sighting with at least the ticket that
// it returns was read since.
func (l *records) demand() (ticket uint64) {
	l.mu.Lock()
	l.ticket++
	ticket = l.ticket
	l.mu.Unlock()
	l.refresh(0)
	l.refresh(1)
	return ticket
}

// saw takes in what was read.
func (l *records) saw(i int, record side.Record, version kv.Version, err error, ticket uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.seen[i]
	before := *s
	s.reads++
	s.ticket, s.err = ticket, err
	if err == nil {
		s.record, s.version, s.known = record, version, true
	}
	close(l.changed)
	l.changed = make(chan struct{})
	switch {
	case err == nil && (!before.known || before.version != version):
		l.core.log.Info("polykv: the record of a store was read", "store", l.core.stores[i].name,
			"state", string(s.state()), "epoch", record.Epoch, "version", uint64(version))
		l.derive()
	case err != nil && before.err == nil:
		l.core.log.Warn("polykv: the record of a store can't be read", "store", l.core.stores[i].name, "error", err)
	}
}

// derive works out what the records say; l.mu is held.
func (l *records) derive() {
	primary := l.highest(side.Primary)
	at, sealed := primary, false
	if at < 0 {
		at = l.highest(side.Sealed)
		sealed = at >= 0
	}
	was := l.reads
	l.reads = l.route(at, sealed)
	l.writes = nil
	if !sealed {
		l.writes = l.reads
	}
	if was != nil && (l.reads == nil || l.reads.at != was.at) {
		was.leave()
	}
	if l.writes != nil && l.writes.at != l.lastPrimary {
		l.lastPrimary = l.writes.at
		l.core.observer.Moved(l.core.stores[l.lastPrimary].name)
	}
	l.reportStanding()
	for to := range l.seen {
		l.core.mirror.set(to, l.mirrorState(to))
	}
}

// noPrimaryAfter is how long there may be no primary before it is worth a
// warning: a cutover of a store that is not large takes less.
const noPrimaryAfter = time.Second

// reportStanding tells the observer where this client stands, and warns when no
// store has been primary for a while; l.mu is held.
func (l *records) reportStanding() {
	phase, primary, epoch := l.phase(), "", uint64(0)
	if l.writes != nil {
		primary, epoch = l.core.stores[l.writes.at].name, l.writes.epoch
	}
	l.core.observer.Standing(string(phase), primary, epoch)
	switch {
	case l.writes != nil && l.warned:
		l.warned = false
		l.core.log.Info("polykv: a store is primary again", "store", primary)
		fallthrough
	case l.writes != nil:
		l.alarm.Stop()
		l.alarmed = false
	case !l.alarmed:
		l.alarmed, l.alarmedAt = true, time.Now()
		l.alarm.Reset(noPrimaryAfter)
	}
}

// warn is called when no store has been primary for a while.
func (l *records) warn() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.writes != nil || l.core.ctx.Err() != nil {
		return
	}
	l.warned = true
	l.core.log.Warn("polykv: no store is primary, writes wait", "since", noPrimaryAfter.String(),
		"records", l.describe(), "next", l.advice(), "waiting", l.waiting)
}

// highest is the store in that state, of two the one of the higher epoch; -1
// if there is none.
func (l *records) highest(state side.State) int {
	found := -1
	for i, s := range l.seen {
		if s.state() == state && (found < 0 || s.record.Epoch > l.seen[found].record.Epoch) {
			found = i
		}
	}
	return found
}

// route returns the route to a store, nil for none. It is the one that there
// is if nothing has changed.
func (l *records) route(at int, sealed bool) *route {
	if at < 0 {
		return nil
	}
	s, was := l.seen[at], l.reads
	r := &route{at: at, guards: side.Guards(s.version), epoch: s.record.Epoch, sealed: sealed}
	switch {
	case was == nil || was.at != at:
		r.ctx, r.leave = context.WithCancel(l.core.ctx)
	case was.guards[0].Version == s.version && was.sealed == sealed:
		return was
	default:
		r.ctx, r.leave = was.ctx, was.leave
	}
	return r
}

// mirrorState says what may be mirrored into a store; l.mu is held.
func (l *records) mirrorState(to int) mirrorState {
	switch {
	case !l.core.cfg.Mirror:
		return mirrorOff
	case l.writes == nil:
		return mirrorPaused
	case l.writes.at == to:
		return mirrorOff
	}
	s := l.seen[to]
	switch state := s.state(); {
	case state == side.Standby:
		return mirrorOn
	case state == side.Retired:
		return mirrorOff
	default:
		// No record among them: "migrate start" gives this store its own after
		// it gave the other one its.
		return mirrorPaused
	}
}

func (l *records) mirroring(to int) (mirrorState, []kv.Guard) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if state := l.mirrorState(to); state != mirrorOn {
		return state, nil
	}
	return mirrorOn, side.Guards(l.seen[to].version)
}

func (l *records) lost(int) { l.demand() }

// again has the records read again after a broken guard.
func (l *records) again(r *route, err error, w *waiting) bool {
	if !isFenced(err) {
		return false
	}
	w.bad, w.ticket = r, l.demand()
	return true
}

// confirm reads again what r goes by.
func (l *records) confirm(ctx context.Context, r *route) (bool, error) {
	_, version, err := l.core.stores[r.at].side.ReadRecord(ctx)
	if err != nil || version != r.guards[0].Version {
		return false, err
	}
	if !r.sealed {
		return true, nil
	}
	// A client that is ahead may have written to the other store by now.
	record, version, err := l.core.stores[other(r.at)].side.ReadRecord(ctx)
	return version == 0 || record.State != side.Primary, err
}

func (l *records) limits() (at int, guarded bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reads != nil {
		at = l.reads.at
	}
	return at, true
}

func (l *records) leave() {
	l.alarm.Stop()
	l.heartbeat.leave()
}

// permanent reports whether err, of reading a record, won't go away by itself.
func permanent(err error) bool {
	return side.IsAny(err, side.ErrBadRecord, kv.ErrPermission, kv.ErrNotSupported, kv.ErrClosed)
}
