// Package switchtest changes the primary of two stores in the middle of the cases of
// the conformance suite. It is for tests.
package switchtest

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// UnmovedCoordinated are the cases of the suite during which a coordinated fleet
// is not moved, with the reason.
var UnmovedCoordinated = map[string]string{
	"Guarded":            "versions don't outlive a change of the primary",
	"C7-guarded":         "versions don't outlive a change of the primary",
	"Entries-current":    "versions don't outlive a change of the primary",
	"C2-writes-nothing":  "versions don't outlive a change of the primary",
	"Raw-reserved":       "reserved keys stay in their store",
	"K3-reserved-hidden": "reserved keys stay in their store",
	"W7-counted":         "the engine's observer sees bytes once a watch has moved",
	"C8-before-sending":  "mirrors count as writes",
	"X1-ends-waiting":    "who waits for a callback does not wait for it in the other store",
}

// RulesCoordinated are the rules of the suite but Versioned: versions don't
// outlive a change of the primary.
func RulesCoordinated() []string {
	return strings.Fields("A1 C1 C2 C3 C4 C5 C6 C7 C8 D1 Entries G1 G2 Guarded K1 K2 K3 L1 LimitsOf Linearizable Ping Raw Typed W1 W2 W3 W4 W5 W6 W7 W8 WithCodec X1 X2")
}

// Moves has the primary changed in the middle of the cases of the suite.
type Moves struct {
	unmoved map[string]string // the cases, or rules, during which nothing is moved, with the reason

	mu          sync.Mutex
	random      *rand.Rand
	made, cases int
}

// New returns the moves of one run of the suite, of all cases, or those of all
// rules, but unmoved.
func New(t *testing.T, unmoved map[string]string) *Moves {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return &Moves{unmoved: unmoved, random: rand.New(rand.NewPCG(seed, 0))}
}

// HappenIn reports whether something is moved during a case.
func (m *Moves) HappenIn(t conformance.T) bool {
	rule, _, _ := strings.Cut(t.Name(), "-")
	return m.unmoved[t.Name()] == "" && m.unmoved[rule] == ""
}

// During returns what, ticked by the operations of a case, moves the primary to
// the other store after a random few, and after many more back again.
func (m *Moves) During(t conformance.T, move func(target int) error) *Countdown {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &Countdown{}
	if m.cases++; m.HappenIn(t) {
		c.left = 1 + m.random.IntN(8)
	}
	var running sync.WaitGroup
	at := 0
	c.fire = func() {
		at = 1 - at
		target := at
		c.left = 200
		running.Go(func() {
			if err := move(target); err != nil {
				t.Errorf("the move to store %d: %v", target, err)
			}
			m.mu.Lock()
			m.made++
			m.mu.Unlock()
		})
	}
	t.Cleanup(func() {
		c.mu.Lock()
		c.left = -1
		c.mu.Unlock()
		running.Wait()
	})
	return c
}

// Report fails a run in which too little was moved to mean anything.
func (m *Moves) Report(t *testing.T) {
	t.Helper()
	t.Logf("%d moves during %d cases", m.made, m.cases)
	if m.made < m.cases/2 {
		t.Errorf("only %d moves during %d cases", m.made, m.cases)
	}
}

// Trigger lies between clients and a store and starts something at the nth
// write or read of a user's key, whichever client makes it.
type Trigger struct {
	driver.Store
	*Countdown
}

// Countdown starts something at the nth tick.
type Countdown struct {
	mu   sync.Mutex
	left int
	fire func()
}

func (c *Countdown) tick(key string) {
	if strings.Contains(key, kv.ReservedSegment) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left--; c.left == 0 {
		c.fire()
	}
}

// Swap implements driver.Store.
func (s Trigger) Swap(ctx context.Context, w driver.Swap) (driver.Result, error) {
	s.tick(w.Key)
	return s.Store.Swap(ctx, w)
}

// Get implements driver.Store.
func (s Trigger) Get(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
	s.tick(req.Key)
	return s.Store.Get(ctx, req)
}

// Scan implements driver.Store.
func (s Trigger) Scan(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
	s.tick(req.Prefix + "x")
	return s.Store.Scan(ctx, req)
}
