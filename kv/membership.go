package kv

import (
	"context"
	"slices"
	"time"

	"github.com/polykv/polykv/internal/wait"
)

// phase is how far a member of a group is. These are all the states, and steps
// has all the ways between them:
//
//	 join        take        beginTurn       respond        seal
//	------> queued ---> chosen ---> deciding ---> decided ---> sent
//	           ^           |                         |           |
//	           +-----------+-------- putBack --------+-----------+
//	                       |                         |           |
//	                       +-------- settle ---------+-----------+---> settled
//
// From everywhere but settled a member may become absent: by leave (its context
// ended, the client was closed, or its callback panicked), and by collect while
// its callback holds others up. Its call may join again, as a new member.
type phase uint8

const (
	queued   phase = iota // waits for the next round
	chosen                // in a round, and it was not its turn yet
	deciding              // its callback is running
	decided               // its decision is in answer
	sent                  // the round's swap is on its way
	settled               // its result is in done
	absent                // the group goes on without it
)

var steps = [...][]phase{
	queued:   {chosen, absent},
	chosen:   {deciding, queued, settled, absent},
	deciding: {decided, absent},
	decided:  {sent, queued, settled, absent},
	sent:     {queued, settled, absent},
	settled:  {},
	absent:   {},
}

// onStep is told of every step. Tests set it before there is any.
var onStep func(from, to phase)

// membership is what a call needs to be in a group. The shard's lock guards
// phase, answer and writes.
type membership struct {
	turns  chan turn  // of capacity 1
	done   chan error // of capacity 1
	phase  phase
	answer decision
	writes bool // valid when sent: the swap carries a write of this member
}

// turn asks a member to run its callback.
type turn struct {
	state state
	base  cached
	pure  bool      // state is base's: no member before this one changed it
	began time.Time // see casCall.clock
}

func (m *membership) to(next phase) {
	if onStep != nil {
		onStep(m.phase, next)
	}
	m.phase = next
}

// over reports whether a result would reach nobody any more.
func (m *membership) over() bool { return m.phase == absent || m.phase == settled }

// waiting returns how many calls are in the queue.
func (g *group) waiting() int {
	g.shard.mu.Lock()
	defer g.shard.mu.Unlock()
	return len(g.queue)
}

// take makes a round of the queue. Its context ends when all of its members have
// left, and has the values of the first one's. If the queue is empty the group
// ends, and calls that come later begin a new one.
func (g *group) take() (ctx context.Context, members []*casCall) {
	g.shard.mu.Lock()
	defer g.shard.mu.Unlock()
	if len(g.queue) == 0 {
		g.end()
		return nil, nil
	}
	members, g.queue = g.queue, nil
	for _, c := range members {
		c.to(chosen)
	}
	g.present = len(members)
	ctx, g.cancel = context.WithCancel(g.e.shared(context.WithoutCancel(members[0].ctx), members))
	return ctx, members
}

// putBack returns members to the front of the queue, those that left excluded,
// and reports whether any remain. Failure is that of the round, if it failed.
func (g *group) putBack(members []*casCall, failure error) (remain bool) {
	g.shard.mu.Lock()
	defer g.shard.mu.Unlock()
	back := make([]*casCall, 0, len(members)+len(g.queue))
	for _, c := range members {
		if !c.over() {
			c.to(queued)
			c.failure = failure
			back = append(back, c)
		}
	}
	g.queue = append(back, g.queue...)
	return len(back) > 0
}

// beginTurn reports whether c is still there to run its callback.
func (g *group) beginTurn(c *casCall) bool {
	g.shard.mu.Lock()
	defer g.shard.mu.Unlock()
	if c.phase == absent {
		return false
	}
	c.to(deciding)
	return true
}

// respond hands a member's decision to the group, whose turn began at began.
// It reports false if the group has gone on without it.
func (g *group) respond(c *casCall, d decision, began time.Time) bool {
	g.shard.mu.Lock()
	defer g.shard.mu.Unlock()
	if c.phase != deciding {
		return false
	}
	c.to(decided)
	c.answer = d
	c.worked(began)
	wait.Signal(g.responded)
	return true
}

// collect returns the answer of the member whose turn it is. waiting is true if
// there is none yet; with evict it is then made to leave.
func (g *group) collect(c *casCall, evict bool) (d decision, present, waiting bool) {
	g.shard.mu.Lock()
	defer g.shard.mu.Unlock()
	switch {
	case c.phase == decided:
		return c.answer, true, false
	case c.phase == deciding && !evict:
		return decision{}, false, true
	case c.phase == deciding:
		g.lose(c)
	}
	return decision{}, false, false
}

// seal marks members as sent, unless one that wrote has left: then the rest
// has to decide again, and seal reports false.
func (g *group) seal(members []*casCall, decisions []decision) bool {
	g.shard.mu.Lock()
	defer g.shard.mu.Unlock()
	for i, c := range members {
		if c.phase == absent && decisions[i].writes() {
			return false
		}
	}
	for i, c := range members {
		if c.phase == decided {
			c.to(sent)
			c.writes = decisions[i].writes()
		}
	}
	return true
}

// settle gives a member its result.
func (g *group) settle(c *casCall, err error) {
	g.shard.mu.Lock()
	defer g.shard.mu.Unlock()
	if !c.over() {
		c.to(settled)
		c.done <- err
	}
}

// lose goes on without a member; the shard's lock is held.
func (g *group) lose(c *casCall) {
	if c.phase != queued {
		if g.present--; g.present == 0 {
			g.cancel()
		}
	}
	c.to(absent)
}

// leave takes a member out that waits no longer, since its ctx has ended or the
// client is closed, and returns the call's result.
func (g *group) leave(c *casCall) error {
	g.shard.mu.Lock()
	defer g.shard.mu.Unlock()
	err := g.e.ended(c.ctx, nil)
	switch c.phase {
	case settled:
		return <-c.done
	case absent:
		return err
	case queued:
		err = g.e.ended(c.ctx, c.failure)
		if i := slices.Index(g.queue, c); i >= 0 {
			g.queue = slices.Delete(g.queue, i, i+1)
		}
		if len(g.queue) == 0 {
			wait.Signal(g.emptied)
		}
	case deciding:
		wait.Signal(g.responded)
	case sent:
		if c.writes {
			err = because(err, ErrIndeterminate)
		}
	}
	g.lose(c)
	return err
}

// await runs c's callback whenever it is c's turn, on the caller's goroutine,
// until c has its result.
func (g *group) await(c *casCall) error {
	for {
		select {
		case t := <-c.turns:
			if over, err := g.takeTurn(c, t); over {
				return err
			}
		case err := <-c.done:
			return err
		case <-c.ctx.Done():
			return g.leave(c)
		case <-g.e.ctx.Done():
			return g.leave(c)
		}
	}
}

// takeTurn runs the callback. over is true if the membership ended with it.
func (g *group) takeTurn(c *casCall, t turn) (over bool, err error) {
	e, returned := g.e, false
	defer func() {
		if !returned { // a panic or Goexit: it stays with its owner, the others go on
			_ = g.leave(c)
		}
	}()
	d := c.decide(t.state)
	returned = true
	if c.ctx.Err() != nil || e.ctx.Err() != nil {
		return true, g.leave(c)
	}
	if g.respond(c, d, t.began) {
		return false, nil
	}
	// Too late for the group. On the store's own state the decision may still
	// hold, so that a callback slower than any patience can succeed.
	if t.pure {
		err := e.conclude(c, &t.base, &d)
		if err != errUnfinished { //nolint:errorlint // never wrapped
			return true, err
		}
	}
	c.evicted()
	return true, errEvicted
}
