package kv

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/polykv/polykv/internal/wait"
)

// QueueLen tells tests how many calls wait for their turn on key.
func QueueLen(c Client, key string) int {
	cl, ok := c.(*client)
	if !ok {
		return -1
	}
	id := groupID{key: key}
	sh := cl.engine.groups.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.groups[id] == nil {
		return 0
	}
	return len(sh.groups[id].queue)
}

// Remembered tells how many entries of how many bytes the client remembers.
func Remembered(c Client) (entries, bytes int) {
	cl, ok := c.(*client)
	if !ok {
		return -1, -1
	}
	m := cl.engine.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lru.Len(), m.bytes
}

// LoneTries is how often a call tries in its turn while nobody waits for it.
const LoneTries = loneTries

// TurnTries is how often it does while somebody waits.
const TurnTries = turnTries

// TurnsLen tells how many calls wait for their turns on key, with the one whose
// turn it is; -1: none does.
func TurnsLen(c Client, key string) int {
	cl, ok := c.(*client)
	if !ok {
		return -1
	}
	sh := cl.engine.groups.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if t := sh.turns[key]; t != nil {
		return int(t.users.Load())
	}
	return -1
}

// Pauses returns the first n pauses of one failing call.
func Pauses(first, longest time.Duration, n int) []time.Duration {
	p := wait.NewBackoff(first, longest)
	pauses := make([]time.Duration, n)
	for i := range pauses {
		pauses[i] = p.Take()
	}
	return pauses
}

// phaseNames are those of membership.go, in order.
var phaseNames = [...]string{"queued", "chosen", "deciding", "decided", "sent", "settled", "absent"}

var seen struct {
	mu    sync.Mutex
	steps map[[2]phase]bool
}

func init() {
	seen.steps = map[[2]phase]bool{}
	onStep = func(from, to phase) {
		seen.mu.Lock()
		defer seen.mu.Unlock()
		seen.steps[[2]phase{from, to}] = true
	}
}

// Steps returns the steps of the table that no member has made so far, and those
// beside it that one has made.
func Steps() (missing, wrong []string) {
	seen.mu.Lock()
	defer seen.mu.Unlock()
	for from := range steps {
		for to := range steps {
			step := [2]phase{phase(from), phase(to)}
			allowed, name := slices.Contains(steps[from], phase(to)), fmt.Sprintf("%s to %s", phaseNames[from], phaseNames[to])
			switch {
			case allowed && !seen.steps[step]:
				missing = append(missing, name)
			case !allowed && seen.steps[step]:
				wrong = append(wrong, name)
			}
		}
	}
	return missing, wrong
}
