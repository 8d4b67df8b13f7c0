package kv

import (
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv/driver"
)

// group runs the calls that meet on one key: round after round it lets every
// waiting call's callback decide on the result of the one before, and carries
// the outcome to the store in one swap (group commit). The first caller leads it,
// on its own goroutine, for one try. When others wait then, or it has to try
// again, a goroutine goes on, since each of them may end at any time.
type group struct {
	e     *engine
	shard *shard
	id    groupID

	// The shard's lock guards these; see membership.go for what changes them.
	leader  *casCall // nil: there is none any more
	inside  bool     // the leader's callback is running
	queue   []*casCall
	present int                // how many members of the round have not left
	cancel  context.CancelFunc // ends the round's context

	responded chan struct{} // wakes the group when the member whose turn it is has answered
	emptied   chan struct{} // wakes the group from a pause when nobody waits any more

	// The rest is the goroutine's own.
	ctx   context.Context // of the round, see take
	timer *time.Timer     // rings by the time that the turn under way is overdue
	rings time.Time       // when it does; zero: it isn't set

	trip    time.Duration // how long the last round waited for the store
	awaited int           // how many callers the next round may find, see gather

	lost      int           // conflicts in a row
	conflicts *wait.Backoff // between them
	failures  *wait.Backoff // between failures in a row
}

func (g *group) run() {
	g.timer = time.NewTimer(time.Hour)
	g.timer.Stop()
	for g.e.ctx.Err() == nil {
		g.gather()
		ctx, members := g.take()
		if members == nil {
			return
		}
		g.ctx = ctx
		g.round(members)
		g.cancel()
	}
	// Closed: every member sees that by itself and leaves.
}

// gather lets callers that have just got their results come back, as those do
// that call in a loop. Without it the next round takes only those that came
// while the last one was under way, and the callers of a key share two swaps,
// each half full, where one would do. Who comes back at once is there after
// the others on its processor had a turn: gather stops when nobody comes any
// more, and never takes longer than a part of what it may save.
func (g *group) gather() {
	const (
		share = 8 // of a round trip
		turns = 4 // of the other goroutines without anybody coming
	)
	awaited := g.awaited
	g.awaited = 0
	if awaited < 2 || g.e.local { // who is alone goes faster without a group, and nothing is saved without a trip
		return
	}
	began := time.Now()
	have := g.waiting()
	for left := turns; have < awaited && left > 0 && time.Since(began) < g.trip/share; left-- {
		runtime.Gosched()
		if now := g.waiting(); now > have {
			have, left = now, turns
		}
	}
}

// round lets members decide and settles their results; those that have to
// decide again are back in the queue afterwards.
func (g *group) round(members []*casCall) {
	base, err := g.e.base(g.ctx, g.id.key, members[0].guards, time.Now())
	if err != nil {
		g.failed(members, err)
		return
	}
	present, decisions, final := g.consult(members, base)
	if len(present) == 0 {
		return
	}
	writes := false
	for _, d := range decisions {
		writes = writes || d.writes()
	}
	switch {
	case writes && !g.seal(present, decisions):
		g.putBack(present, nil)
	case writes && (final.exists || base.entry.Exists()):
		g.commit(present, decisions, base, final)
	default: // also writes that cancel each other out
		g.decline(present, decisions, base)
	}
}

// consult gives each member its turn, one after another.
func (g *group) consult(members []*casCall, base cached) (present []*casCall, decisions []decision, final state) {
	final = stateOf(base.entry)
	pure := true
	for _, c := range members {
		d, ok := g.turn(c, turn{final, base, pure, c.clock()})
		if !ok {
			continue
		}
		present, decisions = append(present, c), append(decisions, d)
		final = final.after(&d)
		pure = pure && !d.writes()
	}
	return present, decisions, final
}

// turn runs one member's callback, on that member's goroutine. ok is false if
// it left or took too long.
func (g *group) turn(c *casCall, t turn) (d decision, ok bool) {
	if !g.beginTurn(c) {
		return decision{}, false
	}
	began, late := time.Now(), false
	c.turns <- t
	g.ringBy(began.Add(c.patience), c.patience)
	for {
		select {
		case <-g.responded:
		case <-g.timer.C:
			g.rings = time.Time{}
			if left := c.patience - time.Since(began); left > 0 { // it was set for an earlier turn
				g.ringBy(began.Add(c.patience), left)
				continue
			}
			late = true
		case <-g.e.ctx.Done():
			return decision{}, false
		}
		d, ok, waiting := g.collect(c, late)
		if !waiting {
			return d, ok
		}
	}
}

// ringBy has the timer ring at a time, which is so far away, or earlier. It is
// not set anew for each turn, of which there may be a hundred thousand a second.
func (g *group) ringBy(at time.Time, away time.Duration) {
	if g.rings.IsZero() || g.rings.After(at) {
		g.rings = at
		g.timer.Reset(away)
	}
}

// decline ends a round that needs no write.
func (g *group) decline(members []*casCall, decisions []decision, base cached) {
	since := members[0].begun
	for _, c := range members {
		if c.begun.After(since) {
			since = c.begun
		}
	}
	asked := time.Now()
	same, err := g.e.confirm(g.ctx, g.id.key, members[0].guards, &base, since)
	g.trip = time.Since(asked)
	switch {
	case err != nil:
		g.failed(members, err)
	case !same:
		g.conflicted(members)
	default:
		g.succeeded(members, decisions)
	}
}

// commit carries a round to the store.
func (g *group) commit(members []*casCall, decisions []decision, base cached, final state) {
	s := members[0].swap(&base.entry, final)
	sent := time.Now()
	result, err := g.e.settle(g.ctx, &s, len(members))
	g.trip = time.Since(sent)
	switch {
	case err == nil && result.Outcome == driver.Applied:
		g.succeeded(members, decisions)
	case err == nil:
		g.conflicted(members)
	case errors.Is(err, ErrIndeterminate):
		g.unknown(members, decisions, err)
	default:
		g.failed(members, err)
	}
}

func (g *group) succeeded(members []*casCall, decisions []decision) {
	g.lost, g.conflicts, g.failures = 0, nil, nil
	g.awaited = g.waiting() + len(members)
	for i, c := range members {
		g.settle(c, decisions[i].result())
	}
}

// conflicted sends members around again, after a pause that grows while others
// keep winning.
func (g *group) conflicted(members []*casCall) {
	var rest []*casCall
	for _, c := range members {
		c.conflicted()
		if g.e.overdue(c) {
			g.settle(c, ErrConflict)
			continue
		}
		rest = append(rest, c)
	}
	g.failures = nil
	g.putBack(rest, nil)
	if g.lost++; g.lost <= swiftRetries {
		return
	}
	if g.conflicts == nil {
		g.conflicts = wait.NewBackoff(max(g.e.opts.MinBackoff/10, time.Microsecond), max(g.e.opts.MaxBackoff/200, time.Microsecond))
	}
	g.pause(g.conflicts)
	g.e.forget(g.id.key) // what the conflict showed is old by now and would lose again
}

// swiftRetries is how many conflicts in a row are retried without a pause. One
// of those who fight wins each time, and the winner doesn't pause: whoever does
// loses the next round too. So pauses come late and stay short, to spare the
// store only where very many fight.
const swiftRetries = 4

// unknown ends a round whose swap has no known outcome. Members that wrote
// nothing can decide again; a deletion that finds its key gone is done.
func (g *group) unknown(members []*casCall, decisions []decision, err error) {
	var rest []*casCall
	for i, c := range members {
		switch {
		case !decisions[i].writes():
			rest = append(rest, c)
		case c.f == nil && gone(err):
			g.settle(c, nil)
		default:
			g.settle(c, err)
		}
	}
	g.putBack(rest, nil)
}

// failed ends a round that wrote nothing for the reason err.
func (g *group) failed(members []*casCall, err error) {
	if final, err := g.e.final(context.Background(), err); final {
		for _, c := range members {
			g.settle(c, err)
		}
		return
	}
	var rest []*casCall
	for _, c := range members {
		if g.e.unavailable(c) {
			g.settle(c, because(ErrUnavailable, err))
			continue
		}
		rest = append(rest, c)
	}
	if !g.putBack(rest, err) {
		return // all have left, and who is in the queue came afterwards
	}
	if g.failures == nil {
		g.failures = g.e.pauses()
	}
	g.pause(g.failures)
}

// pause waits before the next round, unless everybody leaves: who comes
// afterwards shall not wait for a failure of others.
func (g *group) pause(p *wait.Backoff) {
	p.Sleep(g.e.ctx, g.e.ctx, g.emptied)
}
