package migrate

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/polykv/polykv/kv/multi/internal/side"
)

// noise is what a target holds before the migration.
const noise = 99

// broken says which promise w breaks, if one.
func (w *world) broken() string {
	if lost := w.lost(); lost != "" {
		return lost
	}
	if w.gone == 0 && w.phase(false) == Broken {
		return noWay
	}
	return ""
}

const noWay = "records that no command knows how to go on from"

// lost says what has gone wrong beyond repair.
func (w *world) lost() string {
	if w.gone == 0 && w.records[0].is(side.Primary) && w.records[1].is(side.Primary) {
		return "two primaries"
	}
	for s := range w.records {
		b := w.records[s]
		switch {
		case !w.has(uint8(s)):
		case b.is(side.Primary) && w.values[s] != w.acked:
			return "an acknowledged write is missing from the primary"
		case b.is(side.Primary) && b.epoch <= w.was[1-s]:
			return "a primary with an epoch that the other store was primary at, or a later one"
		}
	}
	return ""
}

// search is a breadth-first search through everything that may happen.
type search struct {
	rules
	seed    maphash.Seed
	seen    map[uint64]struct{} // hashes: a collision, which would hide a state, is less likely than a broken computer
	queue   []world
	origins []origin
	records map[[2]brief]world // an example of each pair of records
	found   string             // the promise that the last state of queue breaks
	broken  func(*world) string
}

// origin is how a state came about.
type origin struct {
	from int
	what string
}

// run searches from the given worlds until a promise is broken.
func (s *search) run(from ...world) {
	s.seed = maphash.MakeSeed()
	s.seen, s.records = map[uint64]struct{}{}, map[[2]brief]world{}
	for i := range from {
		s.visit(&from[i], origin{from: -1})
	}
	for i := 0; i < len(s.queue) && s.found == ""; i++ {
		w := s.queue[i]
		s.successors(&w, func(what string, to *world) { s.visit(to, origin{i, what}) })
	}
}

func (s *search) visit(w *world, o origin) {
	if s.found != "" {
		return
	}
	w.order()
	hash := maphash.Comparable(s.seed, *w)
	if _, known := s.seen[hash]; known {
		return
	}
	s.seen[hash] = struct{}{}
	s.queue = append(s.queue, *w)
	s.origins = append(s.origins, o)
	s.found = s.broken(w)
	if _, known := s.records[w.records]; !known {
		s.records[w.records] = *w
	}
}

// trace is the shortest way to what was found.
func (s *search) trace() string {
	if s.found == "" {
		return ""
	}
	var steps []string
	for i := len(s.queue) - 1; i >= 0; i = s.origins[i].from {
		steps = append(steps, fmt.Sprintf("%-22s %s", s.origins[i].what, s.queue[i].describe()))
	}
	slices.Reverse(steps)
	return fmt.Sprintf("%s, after %d steps:\n%s", s.found, len(steps)-1, strings.Join(steps, "\n"))
}

// order makes worlds the same that differ in the order of their runs only.
func (w *world) order() {
	if w.procs[0].rank() < w.procs[1].rank() {
		w.procs[0], w.procs[1] = w.procs[1], w.procs[0]
	}
}

// rank is any order of runs in which idle ones come last. Runs of one rank
// may differ; that costs states and nothing else.
func (p *proc) rank() int {
	rank := int(p.command)<<16 | int(p.at)<<12 | int(p.change)<<8 | int(p.decided[0])<<4 | int(p.decided[1])
	if p.back {
		rank |= 1 << 20
	}
	return rank
}

// describe shows both records with their epochs and the values, and what runs.
func (w *world) describe() string {
	text := ""
	for s, b := range w.records {
		text += fmt.Sprintf("%8s@%d=%d ", modelStates[b.state], b.epoch, w.values[s])
	}
	for _, p := range w.procs {
		if p.command != 0 {
			text += fmt.Sprintf("| %s back:%v at %d.%d ", p.command, p.back, p.at, p.change)
		}
	}
	if w.late.kind != 0 {
		text += fmt.Sprintf("| late %+v", w.late)
	}
	return text
}

// A beginning is a world that a command may find.
type beginning struct {
	name string
	w    world
}

// beginnings are those at rest and those at each point where another command
// may have been killed. The other direction is covered too, since every command
// begins in both.
func beginnings(writes, runs uint8) []beginning {
	var all []beginning
	add := func(s, t side.State, se, te uint8) {
		w := world{writes: writes, runs: runs, ids: 1, values: [2]uint8{0, noise}}
		if s != absent {
			w.setRecord(0, brief{state: stateIndex(s), epoch: se, migration: 1})
		}
		if t != absent {
			w.setRecord(1, brief{state: stateIndex(t), epoch: te, migration: 1, final: t == side.Sealed})
		}
		all = append(all, beginning{fmt.Sprintf("%s,%s", cmp.Or(s, "none"), cmp.Or(t, "none")), w})
	}
	add(absent, absent, 0, 0)
	add(side.Primary, absent, 1, 0)
	add(side.Primary, side.Standby, 1, 1)
	add(side.Primary, side.Retired, 2, 2)
	add(side.Sealed, side.Standby, 1, 1)
	add(side.Sealed, side.Filling, 1, 1)
	add(side.Primary, side.Sealed, 2, 1)
	return all
}

// TestModel tries every order of two runs of every command, in both directions,
// that stall or crash anywhere and are replaced by a third, while a client
// writes, a mirror is busy and a write of the dead arrives late.
func TestModel(t *testing.T) {
	writes, runs := uint8(1), uint8(3)
	switch {
	case os.Getenv("POLYKV_SOAK") != "":
		writes = 2
	case raceDetector: // which makes it eight times as slow and has nothing to find here
		runs = 2
	}
	explore(t, realRules(), writes, runs)
}

// TestModelOfRecords tries more runs, of which there are at most two at a time,
// with nothing but the commands.
func TestModelOfRecords(t *testing.T) {
	r := realRules()
	r.noMirrors = true
	runs := uint8(4)
	if raceDetector && os.Getenv("POLYKV_SOAK") == "" {
		runs = 3
	}
	explore(t, r, 0, runs)
}

// TestModelOfPlainClients has a client of the source alone among the others,
// which was forgotten when they were moved. What it writes right after a look at
// the record is lost by no command; one that never looks loses its writes.
func TestModelOfPlainClients(t *testing.T) {
	find := func(heedless bool) (found string, states, written int) {
		for _, b := range beginnings(1, 2) {
			r := realRules()
			r.heedless, r.noMirrors = heedless, true
			b.w.plain.active = true
			s := search{rules: r, broken: (*world).broken}
			if s.run(b.w); s.found != "" {
				return s.found + ", from " + b.name, states, written
			}
			states += len(s.queue)
			for _, o := range s.origins {
				if o.what == "a plain client writes" {
					written++
				}
			}
		}
		return "", states, written
	}
	found, states, written := find(false)
	if found != "" || written < 100 {
		t.Errorf("%s; it wrote in %d of %d states", found, written, states)
	}
	t.Logf("%d states, in %d of which a plain client wrote", states, written)
	if found, _, _ := find(true); !strings.Contains(found, "an acknowledged write is missing from the primary") {
		t.Errorf("a plain client that never looks: %q", found)
	}
}

// TestModelOfALostStore loses a store for good at any moment, and forces the
// other one. What the lost one alone knew is lost then, and nothing else.
func TestModelOfALostStore(t *testing.T) {
	r := realRules()
	total, forced := 0, 0
	for _, b := range beginnings(2, 2) {
		b.w.mayLose = true
		s := search{rules: r, broken: (*world).broken}
		if s.run(b.w); s.found != "" {
			t.Fatal(s.trace())
		}
		total += len(s.queue)
		for _, w := range s.queue {
			if w.forced {
				forced++
			}
		}
	}
	t.Logf("%d states, %d of them after a store was forced", total, forced)
	if forced < 1000 {
		t.Error("the model has lost something")
	}
}

func explore(t *testing.T, r rules, writes, runs uint8) {
	total := 0
	for _, b := range beginnings(writes, runs) {
		t.Run(b.name, func(t *testing.T) {
			s := search{rules: r, broken: (*world).broken}
			s.run(b.w)
			if s.found != "" {
				t.Fatal(s.trace())
			}
			total += len(s.queue)
			for _, w := range s.records {
				w.mustRecover(t)
			}
		})
	}
	t.Logf("%d states", total)
	if total < 50_000 {
		t.Errorf("only %d states: the model has lost something", total)
	}
}

// newest is the record that says in which direction the migration goes.
func (w *world) newest() brief {
	if w.records[1].epoch > w.records[0].epoch {
		return w.records[1]
	}
	return w.records[0]
}

// phase is where the migration stands for those who have the roles that way.
func (w *world) phase(back bool) Phase {
	s, t := modelStates[w.records[0].state], modelStates[w.records[1].state]
	if back {
		s, t = t, s
	}
	return phaseOf(s, t)
}

// mustRecover lets everybody else die and makes sure that each command that
// the advice names brings a primary back.
func (w world) mustRecover(t *testing.T) {
	var commands []command
	back := w.newest().back
	switch w.phase(back) {
	case Sealed:
		commands = []command{cutover, abort}
	case Sealing:
		commands = []command{rollback, abort}
	case Stranded, Detached, DetachedBack:
		commands = []command{abort}
	default:
		return // there is a primary, or never was one
	}
	for _, c := range commands {
		alone := world{records: w.records, values: w.values, was: w.was, acked: w.acked}
		alone.procs[0] = proc{command: c, back: back}
		for steps := 0; alone.procs[0].command != 0; steps++ {
			realRules().advance(&alone, 0)
			if steps > 100 || alone.broken() != "" {
				t.Fatalf("%s from %s gets to %s (%s)", c, w.describe(), alone.describe(), alone.broken())
			}
		}
		if !alone.records[0].is(side.Primary) && !alone.records[1].is(side.Primary) {
			t.Errorf("%s from %s leaves %s, without a primary", c, w.describe(), alone.describe())
		}
	}
}

// TestModelFindsWhatTheRulesAreFor takes the rules of the protocol away, one by
// one, and wants each to be missed.
func TestModelFindsWhatTheRulesAreFor(t *testing.T) {
	// without returns the real decisions less some changes.
	without := func(r *rules, gone func(c command, s, t side.State, ch change) bool) {
		r.decide = func(c command, s, t side.State, p pair) step {
			st := decide(c, s, t, p)
			st.changes = slices.DeleteFunc(st.changes, func(ch change) bool { return gone(c, s, t, ch) })
			return st
		}
	}
	state := func(s, t side.State, who role) side.State {
		if who == source {
			return s
		}
		return t
	}
	reversed := func(r *rules, of command) {
		r.decide = func(c command, s, t side.State, p pair) step {
			st := decide(c, s, t, p)
			if c == of {
				slices.Reverse(st.changes)
			}
			return st
		}
	}
	for name, c := range map[string]struct {
		breakIt func(*rules)
		want    string
	}{
		"extra version moves": {func(r *rules) {
			without(r, func(_ command, s, t side.State, ch change) bool { return ch.to == state(s, t, ch.who) })
		}, "two primaries"},
		"abort moves a standby's version": {func(r *rules) {
			without(r, func(c command, s, t side.State, ch change) bool {
				return c == abort && ch.to == side.Standby && state(s, t, ch.who) == side.Standby
			})
		}, "two primaries"},
		"writes to the target are guarded, not only those to the source": {func(r *rules) {
			r.unguarded = true
		}, "an acknowledged write is missing from the primary"},
		"nothing copied before is trusted": {func(r *rules) {
			r.trusting = true
		}, "an acknowledged write is missing from the primary"},
		"a cutover changes the source first": {func(r *rules) {
			r.noMirrors = true
			reversed(r, cutover)
		}, "two primaries"},
		"an abort changes the target first": {func(r *rules) { reversed(r, abort) }, "two primaries"},
		"a roll-back reads the roles swapped too": {func(r *rules) {
			r.noMirrors = true
			r.first = func(command) role { return source }
		}, noWay},
		"a new primary has a new epoch": {func(r *rules) {
			r.noMirrors = true
			real := r.record
			r.record = func(p *proc, v *view, ch change) side.Record {
				ch.raise = false
				return real(p, v, ch)
			}
		}, "a primary with an epoch that the other store was primary at, or a later one"},
		"who knows one store alone stops at the final seal": {func(r *rules) {
			r.mayUnseal = func(record side.Record) bool { return record.State == side.Sealed }
		}, "two primaries"},
		"a forced epoch is above all that the lost store may have": {func(r *rules) {
			r.noMirrors = true
			r.epochs = 1
		}, "a primary with an epoch that the other store was primary at, or a later one"},
		"a roll-back's end is sure of the primary": {func(r *rules) {
			r.noMirrors = true
			without(r, func(c command, _, _ side.State, ch change) bool {
				return (c == cutover || c == rollback) && ch.to == side.Primary && !ch.raise
			})
		}, noWay},
	} {
		t.Run(name, func(t *testing.T) {
			var found string
			for _, b := range beginnings(1, 3) {
				s := search{rules: realRules(), broken: (*world).lost}
				if c.want == noWay {
					s.broken = (*world).broken
				}
				c.breakIt(&s.rules)
				if s.noMirrors {
					b.w.writes = 0
				}
				b.w.mayLose = s.epochs != forcedEpochs
				if s.run(b.w); s.found != "" {
					found = s.found
					t.Logf("from %s: %s", b.name, s.trace())
					break
				}
			}
			if found != c.want {
				t.Errorf("without this rule the model finds %q, want %q", found, c.want)
			}
		})
	}
}
