package kv

import (
	"context"
	"encoding/binary"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// cellID tells which calls can share a swap: those on one key with the same
// guards.
type cellID struct {
	key    string
	guards string // see guardsID
}

// guardsID is a string that equal lists of guards have in common.
func guardsID(guards []Guard) string {
	var id []byte
	for _, g := range guards {
		id = binary.AppendUvarint(id, uint64(len(g.Key)))
		id = append(id, g.Key...)
		id = binary.AppendUvarint(id, uint64(g.Version))
	}
	return string(id)
}

// cells holds a cell for every key that is under CAS right now.
type cells struct {
	seed   maphash.Seed
	shards [64]shard
}

func (cs *cells) init() {
	cs.seed = maphash.MakeSeed()
	for i := range cs.shards {
		cs.shards[i].cells = make(map[cellID]*cell)
	}
}

func (cs *cells) shard(key string) *shard {
	return &cs.shards[maphash.String(cs.seed, key)%uint64(len(cs.shards))]
}

type shard struct {
	mu    sync.Mutex
	cells map[cellID]*cell
	used  atomic.Int32 // len(cells), for those who don't need the lock otherwise
	lines map[string]*line
}

// cell is where the calls on one key meet. It is held either by a single call,
// which runs on its own goroutine, or by a group's goroutine. The shard's lock
// guards all of it.
type cell struct {
	shard *shard
	id    cellID

	holder    *casCall      // the call that is alone; nil: the group holds the cell
	inside    bool          // the holder's callback is running
	waited    time.Duration // how long others have waited for it, at least
	grouped   bool          // a group's goroutine exists
	handover  chan struct{}
	queue     []*casCall
	responded chan struct{} // wakes the group when the member whose turn it is has answered
	emptied   chan struct{} // wakes the group from a pause when nobody waits any more
}

// phase is how far a member of a cell is.
type phase uint8

const (
	queued   phase = iota
	chosen         // in the group, not sent; its turn may be over
	deciding       // its callback is running
	sent           // the group's swap is on its way
	settled        // its result is in done
	absent         // it left, or was evicted
)

// membership is what a call needs to be in a cell. The phase, and the answer,
// are guarded by the shard's lock.
type membership struct {
	turns  chan turn  // of capacity 1
	done   chan error // of capacity 1
	phase  phase
	answer decision
	writes bool // valid when sent: the swap on its way carries a write of this member
}

// turn asks a member to run its callback.
type turn struct {
	state state
	base  recollection
	pure  bool      // state is base's: no member before this one changed it
	began time.Time // see casCall.clock
}

// join finds or makes the cell of c. If c is alone it holds the cell;
// otherwise it is in the queue.
func (cs *cells) join(e *engine, c *casCall) (cl *cell, alone bool) {
	sh := cs.shard(c.id.key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	cl = sh.cells[c.id]
	if cl == nil {
		cl = &cell{shard: sh, id: c.id, holder: c}
		sh.cells[c.id] = cl
		sh.used.Add(1)
		return cl, true
	}
	cl.ensureGroup(e)
	cl.enqueue(c)
	return cl, false
}

// ensureGroup starts the group's goroutine. If the client is closed there is
// none any more, which whoever is in the queue sees by itself.
func (cl *cell) ensureGroup(e *engine) {
	if cl.grouped || !e.gate.enter() {
		return
	}
	cl.grouped = true
	cl.handover = make(chan struct{})
	cl.responded = make(chan struct{}, 1)
	cl.emptied = make(chan struct{}, 1)
	go func() {
		defer e.gate.leave()
		newGroup(e, cl).run()
	}()
}

func (cl *cell) enqueue(c *casCall) {
	c.membership = &membership{turns: make(chan turn, 1), done: make(chan error, 1)}
	cl.queue = append(cl.queue, c)
}

// release ends c's hold on the cell, if it still has it.
func (cl *cell) release(c *casCall) {
	cl.shard.mu.Lock()
	defer cl.shard.mu.Unlock()
	if cl.holder == c {
		cl.handOver()
		if !cl.grouped {
			cl.remove()
		}
	}
}

func (cl *cell) handOver() {
	cl.holder = nil
	cl.inside = false
	if cl.handover != nil {
		close(cl.handover)
	}
}

// remove takes the cell out of the map; calls that come later make a new one.
func (cl *cell) remove() {
	if cl.shard.cells[cl.id] == cl {
		delete(cl.shard.cells, cl.id)
		cl.shard.used.Add(-1)
	}
}

// demote makes the holder a member of the queue.
func (cl *cell) demote(e *engine, c *casCall) {
	cl.shard.mu.Lock()
	defer cl.shard.mu.Unlock()
	cl.ensureGroup(e)
	cl.enqueue(c)
	cl.handOver()
}

// enterCallback notes that the holder's callback begins.
func (cl *cell) enterCallback() {
	cl.shard.mu.Lock()
	defer cl.shard.mu.Unlock()
	cl.inside = true
}

// leaveCallback notes that it ended, and reports whether the group has taken
// the cell over meanwhile.
func (cl *cell) leaveCallback(c *casCall) (evicted bool) {
	cl.shard.mu.Lock()
	defer cl.shard.mu.Unlock()
	if cl.holder != c {
		return true
	}
	cl.inside = false
	return false
}

// evict is called every tick that others wait for a holder, and takes the cell
// from one whose callback runs for too long. It reports whether the cell is
// the group's now.
func (cl *cell) evict(tick time.Duration) bool {
	cl.shard.mu.Lock()
	defer cl.shard.mu.Unlock()
	if cl.holder != nil && cl.inside {
		if cl.waited += tick; cl.waited >= cl.holder.patience {
			cl.handOver()
		}
	}
	return cl.holder == nil
}

// waiting returns how many calls are in the queue.
func (cl *cell) waiting() int {
	cl.shard.mu.Lock()
	defer cl.shard.mu.Unlock()
	return len(cl.queue)
}

// take moves the queue into a group. If it is empty the cell ends.
func (cl *cell) take() []*casCall {
	cl.shard.mu.Lock()
	defer cl.shard.mu.Unlock()
	if len(cl.queue) == 0 {
		cl.remove()
		return nil
	}
	members := cl.queue
	cl.queue = nil
	for _, c := range members {
		c.phase = chosen
	}
	return members
}

// putBack returns members to the front of the queue, those that left excluded,
// and reports whether any remain.
func (cl *cell) putBack(members []*casCall) (remain bool) {
	cl.shard.mu.Lock()
	defer cl.shard.mu.Unlock()
	back := make([]*casCall, 0, len(members)+len(cl.queue))
	for _, c := range members {
		if c.phase != absent && c.phase != settled {
			c.phase = queued
			back = append(back, c)
		}
	}
	cl.queue = append(back, cl.queue...)
	return len(back) > 0
}

// beginTurn reports whether c is still there to run its callback.
func (cl *cell) beginTurn(c *casCall) bool {
	cl.shard.mu.Lock()
	defer cl.shard.mu.Unlock()
	if c.phase == absent {
		return false
	}
	c.phase = deciding
	return true
}

// respond hands a member's decision to the group, whose turn began at began.
// It reports false if the group has gone on without it.
func (cl *cell) respond(c *casCall, d decision, began time.Time) bool {
	cl.shard.mu.Lock()
	defer cl.shard.mu.Unlock()
	if c.phase != deciding {
		return false
	}
	c.phase, c.answer = chosen, d
	c.worked(began)
	signal(cl.responded)
	return true
}

// signal leaves word in a channel of capacity 1.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// collect returns the answer of the member whose turn it is. waiting is true
// if there is none yet; with evict it is then made to leave.
func (cl *cell) collect(c *casCall, evict bool) (d decision, present, waiting bool) {
	cl.shard.mu.Lock()
	defer cl.shard.mu.Unlock()
	switch {
	case c.phase == chosen:
		return c.answer, true, false
	case c.phase == deciding && !evict:
		return decision{}, false, true
	}
	c.phase = absent
	return decision{}, false, false
}

// seal marks members as sent, unless one that wrote has left: then the rest
// has to decide again, and seal reports false.
func (cl *cell) seal(members []*casCall, decisions []decision) bool {
	cl.shard.mu.Lock()
	defer cl.shard.mu.Unlock()
	for i, c := range members {
		if c.phase == absent && decisions[i].writes() {
			return false
		}
	}
	for i, c := range members {
		if c.phase == chosen {
			c.phase, c.writes = sent, decisions[i].writes()
		}
	}
	return true
}

// settle gives a member its result.
func (cl *cell) settle(c *casCall, err error) {
	cl.shard.mu.Lock()
	defer cl.shard.mu.Unlock()
	if c.phase != absent && c.phase != settled {
		c.phase = settled
		c.done <- err
	}
}

// leave takes a member out because of err, its ctx's or ErrClosed, and returns
// the call's result.
func (cl *cell) leave(c *casCall, err error) error {
	cl.shard.mu.Lock()
	defer cl.shard.mu.Unlock()
	was := c.phase
	switch was {
	case settled:
		return <-c.done
	case queued:
		if i := slices.Index(cl.queue, c); i >= 0 {
			cl.queue = slices.Delete(cl.queue, i, i+1)
		}
		if len(cl.queue) == 0 {
			signal(cl.emptied)
		}
	case deciding:
		signal(cl.responded)
	}
	c.phase = absent
	if was == sent && c.writes {
		return because(err, ErrIndeterminate)
	}
	return err
}

// attend waits for c's turns and its result, on the caller's goroutine.
func (e *engine) attend(cl *cell, c *casCall) error {
	for {
		select {
		case t := <-c.turns:
			if over, err := e.takeTurn(cl, c, t); over {
				return err
			}
		case err := <-c.done:
			return err
		case <-c.ctx.Done():
			return cl.leave(c, ctxError(c.ctx, nil))
		case <-e.ctx.Done():
			return cl.leave(c, ErrClosed)
		}
	}
}

// takeTurn runs the callback. over is true if the membership ended with it.
func (e *engine) takeTurn(cl *cell, c *casCall, t turn) (over bool, err error) {
	returned := false
	defer func() {
		if !returned { // a panic or Goexit: it stays with its owner, the others go on
			_ = cl.leave(c, context.Canceled)
		}
	}()
	d := c.decide(t.state)
	returned = true
	if c.ctx.Err() != nil || e.ctx.Err() != nil {
		return true, cl.leave(c, e.ended(c.ctx, nil))
	}
	if cl.respond(c, d, t.began) {
		return false, nil
	}
	// Too late for the group. On the store's own state the decision may still
	// hold, so that a callback slower than any patience can succeed.
	if t.pure {
		err := e.conclude(c, &t.base, &d)
		if err != errDemoted { //nolint:errorlint // never wrapped
			return true, err
		}
	}
	c.evicted()
	return true, errEvicted
}
