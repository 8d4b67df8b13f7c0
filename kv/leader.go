package kv

import "time"

// join makes c a member of the group of its key, or, if there is none, the
// leader of a new one.
func (gs *groups) join(e *engine, c *casCall) (g *group, leads bool) {
	sh := gs.shard(c.id.key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	g = sh.groups[c.id]
	if g == nil {
		g = &group{e: e, shard: sh, id: c.id, leader: c}
		sh.groups[c.id] = g
		sh.used.Add(1)
		return g, true
	}
	if g.enqueue(c); g.leader != nil && len(g.queue) == 1 {
		time.AfterFunc(g.leader.patience, g.overtake)
	}
	return g, false
}

// lead tries c on its own goroutine, by itself.
func (g *group) lead(c *casCall) error {
	unfinished := false
	defer func() { g.resign(c, unfinished) }() // also after a panic or a Goexit of the callback
	err := g.e.once(c, g)
	unfinished = err == errUnfinished //nolint:errorlint // never wrapped, on the hot path
	return err
}

// enter notes that the leader's callback begins.
func (g *group) enter() {
	g.shard.mu.Lock()
	defer g.shard.mu.Unlock()
	g.inside = true
}

// exit notes that c's callback ended, and reports whether c still leads.
func (g *group) exit(c *casCall) bool {
	g.shard.mu.Lock()
	defer g.shard.mu.Unlock()
	g.inside = false
	return g.leader == c
}

// resign ends c's lead, if it still leads. If it has to go on it waits with the
// others, for the goroutine. If nobody waits the group ends.
func (g *group) resign(c *casCall, unfinished bool) {
	g.shard.mu.Lock()
	defer g.shard.mu.Unlock()
	if g.leader != c {
		return
	}
	g.leader = nil
	if unfinished {
		g.enqueue(c)
	}
	g.proceed()
}

// overtake goes on without the leader if its callback holds the others up. A
// request is waited for: it ends by itself.
func (g *group) overtake() {
	g.shard.mu.Lock()
	defer g.shard.mu.Unlock()
	switch {
	case g.leader == nil:
	case g.inside && len(g.queue) > 0:
		g.leader = nil
		g.proceed()
	default:
		time.AfterFunc(g.leader.patience, g.overtake)
	}
}

func (g *group) enqueue(c *casCall) {
	c.membership = &membership{turns: make(chan turn, 1), done: make(chan error, 1)}
	g.queue = append(g.queue, c)
}

// proceed starts the goroutine if anybody waits. On a closed client there is
// none any more; the members see that by themselves.
func (g *group) proceed() {
	switch {
	case len(g.queue) == 0:
		g.end()
	case g.e.gate.enter():
		g.responded, g.emptied = make(chan struct{}, 1), make(chan struct{}, 1)
		go func() {
			defer g.e.gate.leave()
			g.run()
		}()
	}
}

// end takes the group out of the map; calls that come later begin a new one.
func (g *group) end() {
	delete(g.shard.groups, g.id)
	g.shard.used.Add(-1)
}
