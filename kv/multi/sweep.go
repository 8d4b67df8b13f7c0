package multi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// Totals are how many keys a comparison of the whole stores looked at and what
// it did.
type Totals = side.Totals

// Difference is a key that the stores don't agree on. It never holds values.
type Difference = side.Difference

// maxDifferences is how many differences Verify returns.
const maxDifferences = 100

// sweeps are the comparisons of the whole stores.
type sweeps struct {
	core *core
	wake chan struct{} // of capacity 1: repair at once

	mu             sync.Mutex
	verify, repair *Comparison
}

func (s *sweeps) last() (verify, repair *Comparison) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.verify, s.repair
}

// soon has a repair run now.
func (s *sweeps) soon() { wait.Signal(s.wake) }

// Backfill copies every key of the primary to the secondary that differs there,
// and deletes nothing. Progress, unless nil, is called now and then. It is an
// error if nothing may be mirrored now.
func (c *Client) Backfill(ctx context.Context, progress func(Totals)) (Totals, error) {
	return c.core.sweeps.copy(ctx, "backfill", progress)
}

// Repair makes the secondary equal to the primary: it copies what differs for a
// second and deletes what the primary doesn't have. It is run every RepairInterval
// too. Writes may go on. It is an error if nothing may be mirrored now.
func (c *Client) Repair(ctx context.Context) (Totals, error) {
	return c.core.sweeps.copy(ctx, "repair", nil)
}

// direction returns what may be mirrored now.
func (s *sweeps) direction() (to int, guards []kv.Guard, err error) {
	for to := range s.core.stores {
		if state, guards := s.core.selector.mirroring(to); state == mirrorOn {
			return to, guards, nil
		}
	}
	return 0, nil, fmt.Errorf("%w: neither store may be mirrored into now", kv.ErrFenced)
}

func (s *sweeps) copy(ctx context.Context, kind string, progress func(Totals)) (Totals, error) {
	if s.core.ctx.Err() != nil {
		return Totals{}, s.core.fail(kind, "", kv.ErrClosed)
	}
	to, guards, err := s.direction()
	if err != nil {
		return Totals{}, s.core.fail(kind, "", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.core.ctx, cancel)()
	from, into := s.core.stores[other(to)], s.core.stores[to]
	c := &Comparison{Kind: kind, From: from.name, To: into.name, Started: time.Now()}
	var strays []string
	c.Totals, err = side.Copy(ctx, from.side, into.side, side.CopyOptions{
		Attempts: map[string]int{"repair": side.Patient}[kind], // what clients are about to mirror is nothing to repair
		Guards:   guards, Equal: s.core.equal, DeleteExtra: kind == "repair", Progress: progress, Wrote: func(key string) {
			if len(strays) < namedKeys {
				strays = append(strays, key)
			}
		},
	})
	if isFenced(err) {
		s.core.selector.lost(to)
	}
	s.keep(c, err)
	if n := c.Totals.Copied + c.Totals.Deleted; kind == "repair" {
		s.core.observer.Strays(into.name, n)
		if n > 0 {
			s.core.log.Warn("polykv: keys differed that nobody had mirrored, and were made as they are in the primary: "+
				"a client crashed before it had mirrored them, or somebody writes past polykv", "store", into.name,
				"copied", c.Totals.Copied, "deleted", c.Totals.Deleted, "first", strays)
		}
	}
	return c.Totals, s.core.fail(kind, "", err)
}

// Verify compares every key of both stores and returns how many there are and
// the first hundred that differ. While clients write it is an observation; that
// both are equal is proven only while both are fenced.
func (c *Client) Verify(ctx context.Context) (Totals, []Difference, error) {
	s := c.core.sweeps
	if c.core.ctx.Err() != nil {
		return Totals{}, nil, c.core.fail("verify", "", kv.ErrClosed)
	}
	var w waiting
	r, err := c.core.selector.reading(ctx, &w)
	if err != nil {
		return Totals{}, nil, c.core.fail("verify", "", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.core.ctx, cancel)()
	from, to := c.core.stores[r.at], c.core.stores[other(r.at)]
	result := &Comparison{Kind: "verify", From: from.name, To: to.name, Started: time.Now()}
	result.Totals, err = side.Compare(ctx, from.side, to.side, side.CompareOptions{Equal: c.core.equal, Found: func(d Difference) error {
		if len(result.Differences) < maxDifferences {
			result.Differences = append(result.Differences, d)
		}
		return nil
	}})
	s.keep(result, err)
	return result.Totals, result.Differences, c.core.fail("verify", "", err)
}

// keep remembers and reports how a comparison ended.
func (s *sweeps) keep(c *Comparison, err error) {
	c.Ended = time.Now()
	if err != nil {
		c.Error = err.Error()
	}
	s.mu.Lock()
	if c.Kind == "verify" {
		s.verify = c
	} else {
		s.repair = c
	}
	s.mu.Unlock()
	s.core.observer.Repaired(c.To, c.Totals.Different, err)
}

// run repairs every RepairInterval, give or take a half, or when it is wanted,
// until Close.
func (s *sweeps) run() {
	for {
		wanted := false
		select {
		case <-time.After(s.interval()):
		case <-s.wake:
			wanted = true
		case <-s.core.ctx.Done():
			return
		}
		if _, _, err := s.direction(); err != nil || !s.mine(wanted) {
			continue
		}
		totals, err := s.copy(s.core.ctx, "repair", nil)
		if s.core.ctx.Err() != nil {
			return
		}
		if err != nil {
			s.core.log.Warn("polykv: a repair of the secondary failed", "keys", totals.Keys, "error", err)
		}
	}
}

// mine reports whether it is for this client to repair.
func (s *sweeps) mine(wanted bool) bool {
	if s.core.owner != nil {
		return s.core.owner.owns()
	}
	return wanted || s.claim()
}

// interval is the time until the next repair.
func (s *sweeps) interval() time.Duration {
	d := s.core.cfg.RepairInterval
	if d == 0 {
		return math.MaxInt64
	}
	return d/2 + rand.N(d)
}

// claimKey is where the clients of a store agree who repairs it next.
const claimKey = kv.ReservedSegment + "/repair"

// claim is what it holds.
type claim struct {
	At time.Time `json:"at"` // of the last repair, by the clock of whoever made it
}

// claim reports whether no other client has begun a repair lately, so that a
// fleet doesn't compare the stores as often as it has clients. Where clocks
// differ, or the store can't tell, it is repaired more often than needed.
func (s *sweeps) claim() bool {
	to, _, err := s.direction()
	if err != nil || s.core.stores[to].raw == nil {
		return err == nil
	}
	ctx, cancel := context.WithTimeout(s.core.ctx, recordTimeout)
	defer cancel()
	mine := false
	err = s.core.stores[to].side.CAS(ctx, claimKey, nil, func(in []byte, exists bool) ([]byte, kv.Action, error) {
		var last claim
		now := time.Now().UTC()
		mine = !exists || json.Unmarshal(in, &last) != nil || now.Sub(last.At).Abs() > s.core.cfg.RepairInterval/2
		if !mine {
			return nil, kv.Keep, nil
		}
		out, err := json.Marshal(claim{now})
		return out, kv.Put, err
	})
	return mine && (err == nil || errors.Is(err, kv.ErrIndeterminate))
}
