package multi_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/kv/driver"
)

// moves has the primary changed in the middle of the cases of the suite.
type moves struct {
	unmoved map[string]string // the cases, or rules, during which nothing is moved, with the reason

	mu          sync.Mutex
	random      *rand.Rand
	made, cases int
}

func newMoves(t *testing.T, unmoved map[string]string) *moves {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return &moves{unmoved: unmoved, random: rand.New(rand.NewPCG(seed, 0))}
}

// happenIn reports whether something is moved during a case.
func (m *moves) happenIn(t conformance.T) bool {
	rule, _, _ := strings.Cut(t.Name(), "-")
	return m.unmoved[t.Name()] == "" && m.unmoved[rule] == ""
}

// amid returns what, ticked by the operations of a case, moves the primary to
// the other store after a random few, and after many more back again.
func (m *moves) amid(t conformance.T, move func(target int) error) *countdown {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &countdown{}
	if m.cases++; m.happenIn(t) {
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

// report fails a run in which too little was moved to mean anything.
func (m *moves) report(t *testing.T) {
	t.Logf("%d moves amid %d cases", m.made, m.cases)
	if m.made < m.cases/2 {
		t.Errorf("only %d moves amid %d cases", m.made, m.cases)
	}
}

// trigger lies between clients and a store and starts something at the nth
// write or read of a user's key, whichever client makes it.
type trigger struct {
	driver.Store
	*countdown
}

type countdown struct {
	mu   sync.Mutex
	left int
	fire func()
}

func (c *countdown) tick(key string) {
	if isOwn(key) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left--; c.left == 0 {
		c.fire()
	}
}

func (s trigger) Swap(ctx context.Context, w driver.Swap) (driver.Result, error) {
	s.tick(w.Key)
	return s.Store.Swap(ctx, w)
}

func (s trigger) Get(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
	s.tick(req.Key)
	return s.Store.Get(ctx, req)
}

func (s trigger) Scan(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
	s.tick(req.Prefix + "x")
	return s.Store.Scan(ctx, req)
}
