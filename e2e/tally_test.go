package e2e

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// A tally counts what rounds did, for the table at their end.
type tally struct {
	mu sync.Mutex

	rounds int
	faults map[string]int // by kind and place
	fates  map[fate]int   // operations by how they ended
	kinds  map[opKind]int

	looked int // operations and states of watches in checked histories
	events int // calls of watches' callbacks

	kills []time.Time     // of leaders, since which nothing has succeeded
	after []time.Duration // from such a kill to the first success of a write that began after it
	busy  []float64       // requests per second of one client while the cluster was down
}

func newTally() *tally {
	return &tally{faults: map[string]int{}, fates: map[fate]int{}, kinds: map[opKind]int{}}
}

func (c *tally) injected(f fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults[string(f.What)+" "+string(f.Where)]++
}

// ended notes an operation, which began then.
func (c *tally) ended(o op, begun time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fates[o.fate]++
	c.kinds[o.kind]++
	if o.fate != done || o.kind != opWrite {
		return
	}
	c.kills = slices.DeleteFunc(c.kills, func(kill time.Time) bool {
		if begun.Before(kill) {
			return false
		}
		c.after = append(c.after, time.Since(kill))
		return true
	})
}

func (c *tally) leaderKilled(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kills = append(c.kills, at)
}

func (c *tally) wasDown(requests int64, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = append(c.busy, float64(requests)/d.Seconds())
}

func (c *tally) checked(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looked += n
}

func (c *tally) watched(events int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events += events
}

// add takes in the tally of a round that is over.
func (c *tally) add(o *tally) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rounds++
	addAll(c.faults, o.faults)
	addAll(c.fates, o.fates)
	addAll(c.kinds, o.kinds)
	c.looked += o.looked
	c.events += o.events
	c.after = append(c.after, o.after...)
	c.busy = append(c.busy, o.busy...)
}

func addAll[K comparable](to, from map[K]int) {
	for k, n := range from {
		to[k] += n
	}
}

// String is the table.
func (c *tally) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { _, _ = fmt.Fprintf(w, name+"\t"+format+"\n", args...) }
	operations, faults := 0, 0
	for _, n := range c.fates {
		operations += n
	}
	for _, n := range c.faults {
		faults += n
	}
	row("rounds", "%d", c.rounds)
	row("faults", "%d", faults)
	for _, f := range sortedKeys(c.faults) {
		row("  "+f, "%d", c.faults[f])
	}
	row("operations", "%d", operations)
	for _, k := range sortedKeys(c.kinds) {
		row("  "+string(k), "%d", c.kinds[k])
	}
	row("  indeterminate", "%d (%.2f%%)", c.fates[maybe], 100*float64(c.fates[maybe])/float64(max(1, operations)))
	row("  not done", "%d", c.fates[never])
	row("watch callbacks", "%d", c.events)
	row("checked in histories", "%d", c.looked)
	if len(c.after) > 0 {
		slices.Sort(c.after)
		row("leader killed to first write", "%d times, median %v, at most %v", len(c.after),
			c.after[len(c.after)/2].Round(time.Millisecond), c.after[len(c.after)-1].Round(time.Millisecond))
	}
	if len(c.busy) > 0 {
		slices.Sort(c.busy)
		row("of one client while no leader can be", "%d times, median %.1f requests/s, at most %.1f", len(c.busy), c.busy[len(c.busy)/2], c.busy[len(c.busy)-1])
	}
	_ = w.Flush()
	return b.String()
}
