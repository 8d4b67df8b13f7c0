package kv

import (
	"sync/atomic"
	"time"
)

// How often a call is tried in its turn, when the only ones that it can lose
// to are those who have not lost yet.
const (
	loneTries = 2   // while nobody waits for the next turn: few want the key, and a group serves them sooner
	turnTries = 100 // while somebody does
)

// dash runs c without a cell, on a store that never waits: there is no round
// trip that callers could share, and a read, a callback and a swap are over
// sooner than the book-keeping of a meeting. Who loses to another waits in a
// line for its turn, since each processor that tries at the same time only
// makes the others lose, too. Who loses all its turn long, or finds a cell in
// use, meets the others there, and then new callers do too, so that nobody
// loses for ever. It returns errDemoted if c has to go on.
func (e *engine) dash(c *casCall) error {
	sh := e.cells.shard(c.id.key)
	if sh.used.Load() > 0 {
		return errDemoted
	}
	err := e.dashOnce(c)
	if err != errDemoted { //nolint:errorlint // never wrapped, on the hot path
		return err
	}
	l := sh.lineUp(c.id.key)
	defer sh.leaveLine(l)
	if !l.await(e, c) {
		return errDemoted
	}
	defer l.pass() // also after a panic or a Goexit of the callback
	for tries := 0; tries < loneTries || tries < turnTries && l.users.Load() > 1; tries++ {
		if sh.used.Load() > 0 || !c.failingSince.IsZero() {
			break
		}
		began := c.clock()
		err := e.dashOnce(c)
		if err != errDemoted { //nolint:errorlint // as above
			return err
		}
		c.worked(began)
	}
	return errDemoted
}

func (e *engine) dashOnce(c *casCall) error {
	base, err := e.look(c.ctx, c.id.key, nil, c.begun)
	if err != nil {
		return e.orDemote(c, err)
	}
	d := c.decide(stateOf(base.entry))
	if c.ctx.Err() != nil || e.ctx.Err() != nil {
		return e.ended(c.ctx, nil)
	}
	return e.conclude(c, &base, &d)
}

// line is where calls on one key wait for their turns, those that lost.
type line struct {
	key   string
	turn  chan struct{} // of capacity 1: full while it is somebody's turn
	users atomic.Int32  // in the line, or in their turn; changed under the shard's lock
}

// lineUp returns the line of a key, which leaveLine must be called for.
func (sh *shard) lineUp(key string) *line {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	l := sh.lines[key]
	if l == nil {
		if sh.lines == nil {
			sh.lines = make(map[string]*line)
		}
		l = &line{key: key, turn: make(chan struct{}, 1)}
		sh.lines[key] = l
	}
	l.users.Add(1)
	return l
}

func (sh *shard) leaveLine(l *line) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if l.users.Add(-1) == 0 {
		delete(sh.lines, l.key)
	}
}

// await waits for c's turn. It reports false if there is none: because c is to
// end, or because a callback holds the others up.
func (l *line) await(e *engine, c *casCall) bool {
	select {
	case l.turn <- struct{}{}:
		return true
	default:
	}
	timer := time.NewTimer(c.patience)
	defer timer.Stop()
	select {
	case l.turn <- struct{}{}:
		return true
	case <-timer.C:
	case <-c.ctx.Done():
	case <-e.ctx.Done():
	}
	return false
}

// pass lets the next one in.
func (l *line) pass() { <-l.turn }
