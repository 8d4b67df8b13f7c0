package multi

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/polykv/polykv/internal/wait"
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
	rs := &records{core: c, changed: make(chan struct{}), lastPrimary: -1}
	rs.heartbeat = newHeartbeat(rs.core, rs, side.ModeCoordinated)
	rs.alarm = time.AfterFunc(time.Hour, rs.warn)
	rs.alarm.Stop()
	for i := range rs.refreshes {
		rs.refreshes[i] = make(chan struct{}, 1)
		c.start(func() { rs.read(i) })
		c.start(func() { rs.watch(i) })
	}
	c.start(func() {
		rs.heartbeat.begin(c.ctx)
		rs.heartbeat.run()
	})
	return rs
}

// read reads the record of a store whenever there is a reason to.
func (rs *records) read(i int) {
	pause := wait.NewBackoff(20*time.Millisecond, rs.core.cfg.RefreshInterval)
	for rs.core.ctx.Err() == nil {
		rs.mu.Lock()
		ticket := rs.ticket
		rs.mu.Unlock()
		ctx, cancel := context.WithTimeout(rs.core.ctx, recordTimeout)
		record, version, err := rs.core.stores[i].side.ReadRecord(ctx)
		cancel()
		if rs.core.ctx.Err() != nil {
			return
		}
		rs.saw(i, record, version, err, ticket)
		next := rs.core.cfg.RefreshInterval/2 + rand.N(rs.core.cfg.RefreshInterval)
		if err != nil {
			next = pause.Take()
		} else {
			pause.Reset()
		}
		rs.sleep(i, next)
	}
}

// sleep waits for a reason to read a record.
func (rs *records) sleep(i int, d time.Duration) {
	select {
	case <-time.After(d):
	case <-rs.refreshes[i]:
	case <-rs.core.ctx.Done():
	}
}

// watch has the record of a store read whenever it changed.
func (rs *records) watch(i int) {
	err := kv.Watch(rs.core.ctx, rs.core.stores[i].raw, kv.KeyRange(side.RecordKey), func(ev kv.Event) bool {
		if ev.Type != kv.Interrupted {
			rs.refresh(i)
		}
		return true
	})
	if rs.core.ctx.Err() == nil {
		rs.core.log.Warn("polykv: the record can't be watched, only read now and then", "store", rs.core.stores[i].name, "error", err)
	}
}

func (rs *records) refresh(i int) { wait.Signal(rs.refreshes[i]) }

// demand has both records read again. A sighting with at least the ticket that
// it returns was read since.
func (rs *records) demand() (ticket uint64) {
	rs.mu.Lock()
	rs.ticket++
	ticket = rs.ticket
	rs.mu.Unlock()
	rs.refresh(0)
	rs.refresh(1)
	return ticket
}

// saw takes in what was read.
func (rs *records) saw(i int, record side.Record, version kv.Version, err error, ticket uint64) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	s := &rs.seen[i]
	before := *s
	s.reads++
	s.ticket, s.err = ticket, err
	if err == nil {
		s.record, s.version, s.known = record, version, true
	}
	close(rs.changed)
	rs.changed = make(chan struct{})
	switch {
	case err == nil && (!before.known || before.version != version):
		rs.core.log.Info("polykv: the record of a store was read", "store", rs.core.stores[i].name,
			"state", string(s.state()), "epoch", record.Epoch, "version", uint64(version))
		rs.derive()
	case err != nil && before.err == nil:
		rs.core.log.Warn("polykv: the record of a store can't be read", "store", rs.core.stores[i].name, "error", err)
	}
}

// derive works out what the records say; rs.mu is held.
func (rs *records) derive() {
	primary := rs.highest(side.Primary)
	at, sealed := primary, false
	if at < 0 {
		at = rs.highest(side.Sealed)
		sealed = at >= 0
	}
	was := rs.reads
	rs.reads = rs.route(at, sealed)
	rs.writes = nil
	if !sealed {
		rs.writes = rs.reads
	}
	if was != nil && (rs.reads == nil || rs.reads.at != was.at) {
		was.leave()
	}
	if rs.writes != nil && rs.writes.at != rs.lastPrimary {
		rs.lastPrimary = rs.writes.at
		rs.core.observer.Moved(rs.core.stores[rs.lastPrimary].name)
	}
	rs.reportStanding()
	for to := range rs.seen {
		rs.core.mirror.set(to, rs.mirrorState(to))
	}
}

// noPrimaryAfter is how long there may be no primary before it is worth a
// warning: a cutover of a store that is not large takes less.
const noPrimaryAfter = time.Second

// reportStanding tells the observer where this client stands, and warns when no
// store has been primary for a while; rs.mu is held.
func (rs *records) reportStanding() {
	phase, primary, epoch := rs.phase(), "", uint64(0)
	if rs.writes != nil {
		primary, epoch = rs.core.stores[rs.writes.at].name, rs.writes.epoch
	}
	rs.core.observer.Standing(string(phase), primary, epoch)
	switch {
	case rs.writes != nil && rs.warned:
		rs.warned = false
		rs.core.log.Info("polykv: a store is primary again", "store", primary)
		fallthrough
	case rs.writes != nil:
		rs.alarm.Stop()
		rs.alarmed = false
	case !rs.alarmed:
		rs.alarmed, rs.alarmedAt = true, time.Now()
		rs.alarm.Reset(noPrimaryAfter)
	}
}

// warn is called when no store has been primary for a while.
func (rs *records) warn() {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.writes != nil || rs.core.ctx.Err() != nil {
		return
	}
	rs.warned = true
	rs.core.log.Warn("polykv: no store is primary, writes wait", "since", noPrimaryAfter.String(),
		"records", rs.describe(), "next", rs.advice(), "waiting", rs.waiting)
}

// highest is the store in that state, of two the one of the higher epoch; -1
// if there is none.
func (rs *records) highest(state side.State) int {
	found := -1
	for i, s := range rs.seen {
		if s.state() == state && (found < 0 || s.record.Epoch > rs.seen[found].record.Epoch) {
			found = i
		}
	}
	return found
}

// route returns the route to a store, nil for none. It is the one that there
// is if nothing has changed.
func (rs *records) route(at int, sealed bool) *route {
	if at < 0 {
		return nil
	}
	s, was := rs.seen[at], rs.reads
	r := &route{at: at, guards: side.Guards(s.version), epoch: s.record.Epoch, sealed: sealed}
	switch {
	case was == nil || was.at != at:
		r.ctx, r.leave = context.WithCancel(rs.core.ctx)
	case was.guards[0].Version == s.version && was.sealed == sealed:
		return was
	default:
		r.ctx, r.leave = was.ctx, was.leave
	}
	return r
}

// mirrorState says what may be mirrored into a store; rs.mu is held.
func (rs *records) mirrorState(to int) mirrorState {
	switch {
	case !rs.core.cfg.Mirror:
		return mirrorOff
	case rs.writes == nil:
		return mirrorPaused
	case rs.writes.at == to:
		return mirrorOff
	}
	s := rs.seen[to]
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

func (rs *records) mirroring(to int) (mirrorState, []kv.Guard) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if state := rs.mirrorState(to); state != mirrorOn {
		return state, nil
	}
	return mirrorOn, side.Guards(rs.seen[to].version)
}

func (rs *records) lost(int) { rs.demand() }

// again has the records read again after a broken guard.
func (rs *records) again(r *route, err error, w *waiting) bool {
	if !isFenced(err) {
		return false
	}
	w.bad, w.ticket = r, rs.demand()
	return true
}

// confirm reads again what r goes by.
func (rs *records) confirm(ctx context.Context, r *route) (bool, error) {
	_, version, err := rs.core.stores[r.at].side.ReadRecord(ctx)
	if err != nil || version != r.guards[0].Version {
		return false, err
	}
	if !r.sealed {
		return true, nil
	}
	// A client that is ahead may have written to the other store by now.
	record, version, err := rs.core.stores[other(r.at)].side.ReadRecord(ctx)
	return version == 0 || record.State != side.Primary, err
}

func (rs *records) limits() (at int, guarded bool) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.reads != nil {
		at = rs.reads.at
	}
	return at, true
}

func (rs *records) leave() {
	rs.alarm.Stop()
	rs.heartbeat.leave()
}

// permanent reports whether err, of reading a record, won't go away by itself.
func permanent(err error) bool {
	return side.IsAny(err, side.ErrBadRecord, kv.ErrPermission, kv.ErrNotSupported, kv.ErrClosed)
}
