package multi

import (
	"cmp"
	"os"
	"sync"
	"time"

	"github.com/polykv/polykv/kv/multi/internal/side"
)

// Phase says what a client is doing.
type Phase string

// The phases.
const (
	PhasePlain     Phase = "plain"     // not coordinated
	PhaseSwitching Phase = "switching" // not coordinated, and the primary is being switched

	PhaseUnknown   Phase = "unknown"   // coordinated, and no record is known yet
	PhaseMirroring Phase = "mirroring" // one store is primary, the other one standby
	PhaseCutover   Phase = "cutover"   // no store is primary, one is sealed
	PhaseMoved     Phase = "moved"     // one store is primary, the other one still sealed
	PhaseFinished  Phase = "finished"  // one store is primary, the other one out of use
	PhaseFenced    Phase = "fenced"    // no store is primary
)

// Record is what a store's record says, as a client last read it.
type Record struct {
	Store     string `json:"store"`
	State     string `json:"state"` // empty: there is no record
	Epoch     uint64 `json:"epoch"`
	Migration string `json:"migration,omitempty"`
	Version   uint64 `json:"version"`
	Error     string `json:"error,omitempty"` // why it can't be read now
	Known     bool   `json:"known"`           // it was read once
}

// MirrorStatus is one direction of mirroring.
type MirrorStatus struct {
	Store    string        `json:"store"` // that is written
	Open     bool          `json:"open"`  // something may be mirrored now
	Dead     bool          `json:"dead"`  // the store is not answering
	Mirrored uint64        `json:"mirrored"`
	Failed   uint64        `json:"failed"` // attempts
	Late     uint64        `json:"late"`   // writes that stopped waiting
	Backlog  int           `json:"backlog"`
	Oldest   time.Duration `json:"oldest_ns"` // how long the oldest of the backlog has waited
	Error    string        `json:"error,omitempty"`
}

// Sample is the backlog at one moment.
type Sample struct {
	At      time.Time `json:"at"`
	Backlog int       `json:"backlog"`
}

// Comparison is how a comparison of the whole stores ended.
type Comparison struct {
	Kind        string       `json:"kind"` // "verify", "repair" or "backfill"
	From        string       `json:"from"`
	To          string       `json:"to"`
	Started     time.Time    `json:"started"`
	Ended       time.Time    `json:"ended"`
	Totals      Totals       `json:"totals"`
	Differences []Difference `json:"differences,omitempty"` // of a verify; the first hundred
	Error       string       `json:"error,omitempty"`
}

// Status is a snapshot of what a client is doing, for people and as JSON.
type Status struct {
	At          time.Time      `json:"at"`
	Phase       Phase          `json:"phase"`
	Coordinated bool           `json:"coordinated"`
	Primary     string         `json:"primary"` // empty: none is known
	Mirror      string         `json:"mirror"`  // the store that is mirrored into; empty: none
	Records     []Record       `json:"records,omitempty"`
	Mirrors     []MirrorStatus `json:"mirrors"`
	Samples     []Sample       `json:"samples"` // oldest first, of both directions together
	Verify      *Comparison    `json:"verify,omitempty"`
	Repair      *Comparison    `json:"repair,omitempty"`
	Problem     string         `json:"problem,omitempty"` // why no store is primary, and what to run
	Waiting     int            `json:"waiting"`           // calls that wait for a store to be primary

	// NoPrimaryFor is how long no store has been primary, as far as this client
	// knows; 0: one is.
	NoPrimaryFor time.Duration `json:"no_primary_ns"`

	// Name (Config.ClientName), Host, PID and Version (of polykv) are this
	// client's.
	Name    string `json:"name,omitempty"`
	Host    string `json:"host,omitempty"`
	PID     int    `json:"pid"`
	Version string `json:"version,omitempty"`

	// Owner is the client that mirrors for all, as far as this one knows, where
	// a store is spread by gossip; Owns: it is this one.
	Owner string `json:"owner,omitempty"`
	Owns  bool   `json:"owns,omitempty"`
}

// Status tells what the client is doing. It contacts nobody.
func (c *Client) Status() Status {
	s := Status{At: time.Now(), Coordinated: c.core.cfg.Coordinated, Mirrors: c.core.mirror.status(), Samples: c.core.samples.all()}
	s.Verify, s.Repair = c.core.sweeps.last()
	s.Name, s.Host, s.PID, s.Version = c.core.cfg.ClientName, side.Hostname(), os.Getpid(), release()
	c.core.selector.status(&s)
	if c.core.owner != nil {
		c.core.owner.status(&s)
	}
	return s
}

func (rs *records) status(s *Status) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for i, seen := range rs.seen {
		r := Record{
			Store: rs.core.stores[i].name, State: string(seen.state()), Epoch: seen.record.Epoch,
			Migration: seen.record.Migration, Version: uint64(seen.version), Known: seen.known,
		}
		if seen.err != nil {
			r.Error = seen.err.Error()
		}
		s.Records = append(s.Records, r)
		if rs.mirrorState(i) == mirrorOn {
			s.Mirror = r.Store
		}
	}
	s.Phase, s.Waiting = rs.phase(), rs.waiting
	if rs.writes != nil {
		s.Primary = rs.core.stores[rs.writes.at].name
	} else if rs.seen[0].known || rs.seen[1].known {
		s.Problem = "no store is primary: " + rs.describe() + "; " + rs.advice()
	}
	if rs.alarmed {
		s.NoPrimaryFor = time.Since(rs.alarmedAt)
	}
}

// phase works out the phase; rs.mu is held.
func (rs *records) phase() Phase {
	switch {
	case !rs.seen[0].known && !rs.seen[1].known:
		return PhaseUnknown
	case rs.writes == nil && rs.reads != nil:
		return PhaseCutover
	case rs.writes == nil:
		return PhaseFenced
	}
	switch rs.seen[other(rs.writes.at)].state() {
	case side.Standby:
		return PhaseMirroring
	case side.Sealed:
		return PhaseMoved
	default:
		return PhaseFinished
	}
}

// totals is both directions together.
type totals struct {
	backlog          int
	oldest           time.Duration
	mirrored, failed uint64
	err              string // why mirroring fails at present
}

func (m *mirror) totals() (t totals) {
	for _, s := range m.status() {
		t.backlog += s.Backlog
		t.oldest = max(t.oldest, s.Oldest)
		t.mirrored += s.Mirrored
		t.failed += s.Failed
		t.err = cmp.Or(t.err, s.Error)
	}
	return t
}

func (m *mirror) status() []MirrorStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	all := make([]MirrorStatus, 0, len(m.directions))
	for i, d := range m.directions {
		s := MirrorStatus{
			Store: m.core.stores[i].name, Open: d.state == mirrorOn, Dead: d.dead,
			Mirrored: d.mirrored, Failed: d.failed, Late: d.late, Backlog: len(d.tasks),
		}
		for _, t := range d.tasks {
			s.Oldest = max(s.Oldest, now.Sub(t.since))
		}
		if d.lastErr != nil {
			s.Error = d.lastErr.Error()
		}
		all = append(all, s)
	}
	return all
}

// The backlog is sampled so often, and so many samples are kept: a quarter of
// an hour.
const (
	sampleEvery = 2 * time.Second
	sampleCount = 450
)

// samples are the latest ones, oldest first.
type samples struct {
	mu   sync.Mutex
	kept []Sample
}

func (s *samples) add(sample Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = append(s.kept, sample)
	s.kept = s.kept[max(0, len(s.kept)-sampleCount):]
}

func (s *samples) all() []Sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Sample{}, s.kept...)
}

// sample samples the backlog until Close.
func (c *core) sample() {
	ticks := time.Tick(sampleEvery)
	for {
		c.samples.add(Sample{At: time.Now(), Backlog: c.mirror.backlog()})
		select {
		case <-ticks:
		case <-c.ctx.Done():
			return
		}
	}
}

// backlog is the number of keys to mirror, in both directions.
func (m *mirror) backlog() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.directions[0].tasks) + len(m.directions[1].tasks)
}
