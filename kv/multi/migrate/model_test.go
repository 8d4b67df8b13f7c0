package migrate

import (
	"strconv"

	"github.com/polykv/polykv/kv/multi/internal/side"
)

// This is a model of a fleet during a migration, small enough that every order
// of everything that happens in it can be tried. What a command decides and
// writes is the real code, decide and view.record; what is modelled is the
// world around it: two stores that each hold a record and one key, clients that
// write the key wherever a record says primary, mirrors that stall anywhere,
// and runs of commands that stall, crash with their last write still under way,
// and are replaced. Of a version is only known whether it still is current.

// brief is a record without what doesn't matter here.
type brief struct {
	state     uint8 // an index of modelStates; 0: there is no record
	epoch     uint8
	migration uint8
	back      bool // it names the stores the other way round
	final     bool // see side.Record
}

// unsealing is a run that unseals a store without looking at the other one:
// what undo and an abort do that can't reach it. Which store, proc.back says.
const unsealing command = 100

var modelStates = []side.State{absent, side.Primary, side.Standby, side.Sealed, side.Filling, side.Retired}

func stateIndex(s side.State) uint8 {
	for i, known := range modelStates {
		if s == known {
			return uint8(i)
		}
	}
	panic("unknown state " + s)
}

func (b brief) is(s side.State) bool { return modelStates[b.state] == s }

type stage uint8

const (
	readFirst  stage = iota // a record
	readSecond              // the other one, and decide
	takeValue               // read the key where it is copied from
	putValue                // write it
	lookAgain               // read it again where it came from
	verify                  // and where it went to
	changing                // change records
)

// proc is a run of a command (command 0: none), or a mirror.
type proc struct {
	command command
	back    bool // its Migration has the roles the other way round
	sealing bool // see run.sealing
	at      stage

	read    [2]brief // by store: the records, as read or written
	fresh   [2]bool  // they still are like that
	decided [2]uint8 // by role: the states that the step was decided by
	pair    pair
	change  uint8 // which of the step's changes is next

	to       uint8 // the store that a value goes to
	value    uint8
	keyFresh bool // the key there still is as it was
}

// write is a compare-and-swap that is under way though its sender is dead.
type write struct {
	kind   uint8 // 0: none; 1: of the key; 2: of the record
	on     uint8
	value  uint8
	record brief
	fresh  bool // what it compares with still is there
	guard  bool // the record that guards it (kind 1) still is there
} // both always true of world.late: a write that can't land is forgotten

// world is everything there is.
type world struct {
	records [2]brief
	values  [2]uint8
	was     [2]uint8 // the highest epoch at which each store was primary
	acked   uint8    // the last write that a client was told of
	writes  uint8    // how many are still to come
	runs    uint8    // how many runs of commands may still begin
	ids     uint8
	procs   [2]proc
	mirror  proc
	late    write

	// plain is a client of store 0 alone, which looks at the record before it
	// writes: plain.fresh says that the record has not changed since, plain.may
	// what it said.
	plain struct{ active, looked, may, fresh bool }

	mayLose bool  // a store may be lost from here on
	gone    uint8 // the store that was lost for good, counted from 1
	forced  bool  // the other one was made primary since
}

func (w *world) has(s uint8) bool { return w.gone != s+1 }

func (w *world) all() []*proc { return []*proc{&w.procs[0], &w.procs[1], &w.mirror} }

func (w *world) setRecord(on uint8, b brief) {
	w.records[on] = b
	for _, p := range w.all() {
		p.fresh[on] = false
	}
	if on == 0 {
		w.plain.fresh = false
	}
	if w.late.on == on { // what can't land any more is forgotten
		w.late = write{}
	}
	if b.is(side.Primary) {
		w.was[on] = max(w.was[on], b.epoch)
	}
}

func (w *world) setValue(on, value uint8) {
	w.values[on] = value
	for _, p := range w.all() {
		if p.to == on {
			p.keyFresh = false
		}
	}
	if w.late.on == on && w.late.kind == 1 {
		w.late = write{}
	}
}

// storeOf is the store in a role of p's Migration.
func (p *proc) storeOf(r role) uint8 {
	if p.back {
		r = r.other()
	}
	return uint8(r)
}

func (p *proc) names() [2]string {
	if p.back {
		return [2]string{"t", "s"}
	}
	return [2]string{"s", "t"}
}

// again begins the next pass, which remembers nothing of this one.
func (p *proc) again() { *p = proc{command: p.command, back: p.back, sealing: p.sealing} }

// view is what p has read, in the terms of its own Migration.
func (p *proc) view() view {
	var v view
	for _, r := range []role{source, target} {
		b := p.read[p.storeOf(r)]
		if b.state == 0 {
			continue
		}
		record := side.Record{State: modelStates[b.state], Epoch: uint64(b.epoch), Migration: strconv.Itoa(int(b.migration)), Source: "s", Target: "t", Final: b.final}
		if b.back {
			record.Source, record.Target = "t", "s"
		}
		v.records[r], v.versions[r] = record, 1
	}
	return v
}

// rules is what a mutant changes.
type rules struct {
	decide    func(command, side.State, side.State, pair) step
	record    func(*proc, *view, change) side.Record
	first     func(command) role
	noMirrors bool
	unguarded bool // mirrors are not guarded
	trusting  bool // a cutover trusts what was copied before
	mayUnseal func(side.Record) bool
	epochs    uint64 // by which a forced record's epoch grows
	heedless  bool   // plain clients never look at the record
}

func realRules() rules {
	return rules{
		decide: decide,
		first:  command.first,
		record: func(p *proc, v *view, ch change) side.Record { return v.record(p.command, ch, p.names()) },

		mayUnseal: mayUnseal,
		epochs:    forcedEpochs,
	}
}

func (r rules) step(p *proc) step {
	return r.decide(p.command, modelStates[p.decided[0]], modelStates[p.decided[1]], p.pair)
}

// written is the record that p's change writes.
func (r rules) written(w *world, p *proc, ch change) brief {
	v := p.view()
	record := r.record(p, &v, ch)
	b := brief{state: stateIndex(record.State), epoch: uint8(record.Epoch), back: record.Source == "t", final: record.Final}
	if ch.fresh {
		w.ids++
		b.migration = w.ids
	} else {
		id, err := strconv.Atoi(record.Migration)
		if err != nil {
			panic(err)
		}
		b.migration = uint8(id)
	}
	return b
}

var modelCommands = []command{start, cutover, rollback, abort, finishOnTarget, finishOnSource, unsealing}

// successors are all that may happen next in w.
func (r rules) successors(w *world, each func(what string, to *world)) {
	r.clients(w, each)
	r.plainClient(w, each)
	for i := range w.procs {
		if w.procs[i].command == 0 {
			if w.runs > 0 && (i == 0 || w.procs[0].command != 0) {
				r.begin(w, i, each)
			}
			continue
		}
		next := *w
		each(r.advance(&next, i), &next)
		if w.runs > 0 { // else it's the same as if it did nothing any more
			next = *w
			r.crash(&next, i)
			each("crashes", &next)
		}
	}
	if !r.noMirrors {
		r.mirrors(w, each)
	}
	if w.late.kind != 0 {
		next := *w
		land(&next)
		each("a late write arrives", &next)
	}
	r.lose(w, each)
}

// lose loses a store for good: nobody reads or writes it any more.
func (r rules) lose(w *world, each func(string, *world)) {
	if w.mayLose && w.gone == 0 {
		for s := range uint8(2) {
			next := *w
			next.gone = s + 1
			next.mirror = proc{}
			if next.late.on == s {
				next.late = write{}
			}
			each("a store is lost", &next)
		}
	}
	if w.gone == 0 || w.forced {
		return
	}
	left := 2 - w.gone
	b := w.records[left]
	if b.state == 0 || b.is(side.Retired) || b.is(side.Primary) {
		return
	}
	next := *w
	next.forced = true
	next.acked = next.values[left] // what only the lost store knew is lost
	b.state, b.final, b.epoch = stateIndex(side.Primary), false, b.epoch+uint8(r.epochs)
	next.setRecord(left, b)
	each("the other one is forced", &next)
}

func (r rules) clients(w *world, each func(string, *world)) {
	if w.plain.active { // whose writes are to be told from those of others
		return
	}
	for s := range uint8(2) {
		plain := s == 0 && w.records[0].state == 0 && w.records[1].state == 0
		if w.writes > 0 && w.has(s) && (plain || w.records[s].is(side.Primary)) {
			next := *w
			next.writes--
			next.acked++
			next.setValue(s, next.acked)
			each("a client writes", &next)
		}
	}
}

// plainClient looks at the record of its store, or writes. It is as good as its
// last look: what it writes after the record has changed, and before it looks
// again, is not promised to be there. After a look, it is.
func (r rules) plainClient(w *world, each func(string, *world)) {
	if !w.plain.active || w.gone != 0 {
		return
	}
	if !w.plain.looked || !w.plain.fresh {
		next := *w
		b := w.records[0]
		next.plain.looked, next.plain.fresh, next.plain.may = true, true, b.state == 0 || b.is(side.Primary) || r.heedless
		each("a plain client looks", &next)
	}
	if w.plain.looked && w.plain.fresh && w.plain.may && w.writes > 0 {
		next := *w
		next.writes--
		next.acked++
		next.setValue(0, next.acked)
		each("a plain client writes", &next)
	}
}

func (r rules) begin(w *world, i int, each func(string, *world)) {
	for _, c := range modelCommands {
		for _, back := range []bool{false, true} {
			next := *w
			next.runs--
			p := &next.procs[i]
			*p = proc{command: c, back: back}
			first := p.storeOf(r.first(c))
			if !w.has(first) {
				continue
			}
			p.read[first], p.fresh[first] = w.records[first], true
			p.at = readSecond
			if c == unsealing {
				p.at = changing
			}
			each("begins and reads", &next)
		}
	}
}

// advance takes the run i one step further and says what it did.
func (r rules) advance(w *world, i int) string {
	p := &w.procs[i]
	if w.gone != 0 && p.command != unsealing { // all others need both stores
		*p = proc{}
		return "fails"
	}
	switch p.at {
	case readFirst, readSecond:
		return r.look(w, p)
	case changing:
		return r.changeRecord(w, p)
	default:
		return complete(w, p)
	}
}

func (r rules) look(w *world, p *proc) string {
	s := p.storeOf(r.first(p.command))
	if p.at == readSecond {
		s = 1 - s
	}
	p.read[s], p.fresh[s] = w.records[s], true
	if p.at == readFirst {
		p.at = readSecond
		return "reads a record"
	}
	v := p.view()
	p.decided = [2]uint8{stateIndex(v.state(source)), stateIndex(v.state(target))}
	p.pair = v.pair(p.names())
	st := r.step(p)
	phase := v.phase()
	p.at, p.change = changing, 0
	switch {
	case st.refused || st.done() || p.sealing && st.undone, v.checkRoles(p.command, p.names()) != nil,
		st.empty && p.back && p.decided == [2]uint8{}: // its target, which is in use, is not empty
		*p = proc{}
		return "ends"
	case st.complete && !r.trusting:
		p.at, p.to = takeValue, p.storeOf(fromRole(st).other())
	}
	p.sealing = p.sealing || phase == Sealed || phase == Sealing
	return "decides"
}

// complete copies and verifies under the target's version.
func complete(w *world, p *proc) string {
	from := 1 - p.to
	switch p.at {
	case takeValue:
		p.value, p.keyFresh, p.at = w.values[from], true, putValue
	case putValue:
		switch {
		case w.values[p.to] == p.value && p.keyFresh: // it declines, which also needs the guard
			p.at = lookAgain
		case !p.fresh[p.to]:
			p.again()
			return "is fenced"
		case !p.keyFresh:
			p.at = takeValue
			return "conflicts"
		default:
			w.setValue(p.to, p.value)
			p.at = lookAgain
			return "copies"
		}
	case lookAgain:
		p.value, p.at = w.values[from], verify
	default:
		p.at = takeValue
		if w.values[p.to] == p.value {
			p.at = changing
			p.to, p.value, p.keyFresh = 0, 0, false
		}
	}
	return "copies and verifies"
}

// unsealed is the record by which an unsealing replaces what it has read; ok is
// false if it may not.
func (r rules) unsealed(p *proc) (b brief, ok bool) {
	s := p.storeOf(source)
	b = p.read[s]
	v := p.view()
	ok = b.is(side.Primary) || b.state != 0 && r.mayUnseal(v.records[source])
	b.state, b.final = stateIndex(side.Primary), false
	return b, ok
}

func (r rules) changeRecord(w *world, p *proc) string {
	if p.command == unsealing {
		s := p.storeOf(source)
		if b, ok := r.unsealed(p); ok && p.fresh[s] && w.has(s) {
			w.setRecord(s, b)
		}
		*p = proc{}
		return "unseals alone, or ends"
	}
	st := r.step(p)
	ch := st.changes[p.change]
	s := p.storeOf(ch.who)
	if !p.fresh[s] {
		p.again()
		return "conflicts"
	}
	b := r.written(w, p, ch)
	w.setRecord(s, b)
	p.read[s], p.fresh[s] = b, true
	p.sealing = p.sealing || b.is(side.Sealed)
	switch p.change++; {
	case int(p.change) < len(st.changes):
	case st.last:
		*p = proc{}
	default:
		p.again()
	}
	return "writes a record"
}

// crash ends the run i, which may leave a write under way.
func (r rules) crash(w *world, i int) {
	p := w.procs[i]
	w.procs[i] = proc{}
	if w.late.kind != 0 {
		return
	}
	switch p.at {
	case putValue:
		w.late = write{kind: 1, on: p.to, value: p.value, fresh: p.keyFresh, guard: p.fresh[p.to]}
	case changing:
		if p.command == unsealing {
			b, ok := r.unsealed(&p)
			s := p.storeOf(source)
			w.late = write{kind: 2, on: s, record: b, fresh: ok && p.fresh[s] && w.has(s)}
			break
		}
		ch := r.step(&p).changes[p.change]
		s := p.storeOf(ch.who)
		w.late = write{kind: 2, on: s, record: r.written(w, &p, ch), fresh: p.fresh[s]}
	}
	if !w.late.fresh || w.late.kind == 1 && !w.late.guard || !w.has(w.late.on) {
		w.late = write{} // it never will land
	}
}

func land(w *world) {
	late := w.late
	w.late = write{}
	switch {
	case late.kind == 2 && late.fresh:
		w.setRecord(late.on, late.record)
	case late.kind == 1 && late.fresh && late.guard:
		w.setValue(late.on, late.value)
	}
}

// mirrors are as in package side. The mirror's command is 1 while it is busy.
func (r rules) mirrors(w *world, each func(string, *world)) {
	if w.gone != 0 {
		return
	}
	if w.mirror.command == 0 {
		for to := range uint8(2) {
			if w.records[to].is(side.Standby) {
				next := *w
				next.mirror = proc{command: 1, at: takeValue, to: to}
				next.mirror.fresh[to] = true
				each("a mirror begins", &next)
			}
		}
		return
	}
	next := *w
	p := &next.mirror
	from := 1 - p.to
	switch p.at {
	case takeValue:
		p.value, p.keyFresh, p.at = next.values[from], true, putValue
		if p.value == next.values[p.to] {
			*p = proc{}
		}
	case putValue:
		switch {
		case !p.fresh[p.to] && !r.unguarded:
			*p = proc{}
		case !p.keyFresh:
			p.at = takeValue
		default:
			next.setValue(p.to, p.value)
			p.at = lookAgain
		}
	default:
		p.at = takeValue
		if next.values[from] == p.value {
			*p = proc{}
		}
	}
	each("a mirror goes on", &next)
}
