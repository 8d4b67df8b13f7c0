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

// casLocal runs c without a group, on a store that never waits: there is no
// round trip that callers could share, and a read, a callback and a swap are
// over sooner than two goroutines meet. Who loses to another waits for its turn
// to try again, since each processor that tries at the same time only makes the
// others lose, too. Who loses all its turn long, or finds a group at work, joins
// that, and then new callers do too, so that nobody loses for ever. It returns
// errUnfinished if c has to go on in a group.
func (e *engine) casLocal(c *casCall) error {
	sh := e.groups.shard(c.id.key)
	if sh.used.Load() > 0 {
		return errUnfinished
	}
	err := e.once(c, nil)
	if err != errUnfinished { //nolint:errorlint // never wrapped, on the hot path
		return err
	}
	turns := sh.turnsOf(c.id.key)
	defer sh.leave(turns)
	if !turns.wait(e, c) {
		return errUnfinished
	}
	defer turns.pass() // also after a panic or a Goexit of the callback
	for tries := 0; tries < loneTries || tries < turnTries && turns.users.Load() > 1; tries++ {
		if sh.used.Load() > 0 || !c.failingSince.IsZero() {
			break
		}
		err := e.once(c, nil)
		if err != errUnfinished { //nolint:errorlint // as above
			return err
		}
	}
	return errUnfinished
}

// keyTurns is where calls on one key wait for their turns, those that lost.
type keyTurns struct {
	key   string
	turn  chan struct{} // of capacity 1: full while it is somebody's turn
	users atomic.Int32  // that wait, or have their turn; changed under the shard's lock
}

// turnsOf returns the turns of a key, which leave must be called for.
func (sh *shard) turnsOf(key string) *keyTurns {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	t := sh.turns[key]
	if t == nil {
		if sh.turns == nil {
			sh.turns = make(map[string]*keyTurns)
		}
		t = &keyTurns{key: key, turn: make(chan struct{}, 1)}
		sh.turns[key] = t
	}
	t.users.Add(1)
	return t
}

func (sh *shard) leave(t *keyTurns) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if t.users.Add(-1) == 0 {
		delete(sh.turns, t.key)
	}
}

// wait waits for c's turn. It reports false if there is none: because c is to
// end, or because a callback holds the others up.
func (t *keyTurns) wait(e *engine, c *casCall) bool {
	select {
	case t.turn <- struct{}{}:
		return true
	default:
	}
	timer := time.NewTimer(c.patience)
	defer timer.Stop()
	select {
	case t.turn <- struct{}{}:
		return true
	case <-timer.C:
	case <-c.ctx.Done():
	case <-e.ctx.Done():
	}
	return false
}

// pass lets the next one in.
func (t *keyTurns) pass() { <-t.turn }
