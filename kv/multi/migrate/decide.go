package migrate

import (
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// command is one of those that change records.
type command uint8

const (
	start command = iota + 1
	cutover
	rollback
	abort
	finishOnTarget // the migration's regular end
	finishOnSource // the end of one that was given up
	force          // makes one primary while the other is lost
)

// absent stands for the state of a store without a record.
const absent = side.State("")

// role is one of the two stores of a migration.
type role uint8

const (
	source role = iota
	target
)

func (r role) other() role { return 1 - r }

// change is one compare-and-swap of a store's record. It is made even if the
// record says the same already: its version must move, so that whoever decided
// by the one before can do nothing any more.
type change struct {
	who   role
	to    side.State
	raise bool // the epoch is to be higher than every one before
	final bool // from here on the other store may become primary
	fresh bool // the migration gets a new id
}

// step is what one pass of a command does: first the work, then the changes in
// their order. The zero step is that there is nothing left to do.
type step struct {
	refused bool // the command can't do anything here, see advise

	prepare  bool // copy what differs while clients go on writing
	complete bool // copy what differs and verify every key, under the target's version
	compare  bool // compare once more
	empty    bool // make sure that the target holds no keys
	flipped  bool // the work is for the other direction: roles swapped
	undone   bool // the store to be sealed is primary: whoever had sealed it was aborted

	changes []change
	last    bool // these changes are what the command was run for
}

func (s step) done() bool { return !s.refused && len(s.changes) == 0 }

// swapped is s with the roles exchanged.
func (s step) swapped() step {
	for i := range s.changes {
		s.changes[i].who = s.changes[i].who.other()
	}
	s.flipped = !s.flipped
	return s
}

// pair is what decides, besides the states, what start has to do.
type pair struct {
	ours bool // the source's record names our source and target in these roles
	same bool // both records belong to the same migration

	targetAhead bool // the target's epoch is the higher one
}

// first is the role whose record a pass of c reads first: that of the store
// that is to give its place up. The order matters where a step changes only
// one of the two: what was read first is then known to have been like that when
// the other was read.
func (c command) first() role {
	if c == rollback || c == finishOnSource {
		return target
	}
	return source
}

// decide is the table of docs/migration.md: what a pass of a command does that
// has read the states s of the source and t of the target, c.first() before the
// other.
func decide(c command, s, t side.State, p pair) step {
	switch c {
	case start:
		return decideStart(s, t, p)
	case cutover:
		return decideCutover(s, t)
	case rollback:
		return decideCutover(t, s).swapped()
	case abort:
		if s == side.Primary && t == side.Primary { // one was forced while the other was lost
			if p.targetAhead {
				return reattach(true).swapped()
			}
			return reattach(true)
		}
		return decideAbort(s, t)
	case finishOnTarget:
		return decideFinish(s, t)
	}
	return decideFinish(t, s).swapped()
}

func decideStart(s, t side.State, p pair) step {
	standby := change{who: target, to: side.Standby}
	primary := change{who: source, to: side.Primary, raise: true, fresh: true}
	switch {
	case s == absent && t == absent:
		return step{empty: true, changes: []change{primary, standby}, last: true}
	case s == side.Primary && t == absent && p.ours:
		return step{empty: true, changes: []change{standby}, last: true}
	case s == side.Primary && (t == absent || t == side.Retired):
		return step{empty: true, changes: []change{primary, standby}, last: true}
	case s == side.Primary && t == side.Standby && !p.same: // two starts at once
		return step{changes: []change{standby}, last: true}
	case s == side.Primary && t == side.Standby:
		return step{}
	}
	return step{refused: true}
}

func decideCutover(s, t side.State) step {
	switch {
	case s == side.Primary && t == side.Standby:
		return step{undone: true, prepare: true, changes: []change{{who: source, to: side.Sealed}, {who: target, to: side.Filling}}}
	case s == side.Primary && t == side.Filling: // a cutover was undone without the target
		return reattach(false)
	case s == side.Sealed && t == side.Standby:
		return step{changes: []change{{who: source, to: side.Sealed}, {who: target, to: side.Filling}}}
	case s == side.Sealed && t == side.Filling:
		return step{complete: true, changes: []change{{who: source, to: side.Sealed, final: true}, {who: target, to: side.Primary, raise: true}}}
	case s == side.Sealed && t == side.Primary:
		return step{changes: []change{{who: source, to: side.Standby}}, last: true}
	case s == side.Primary && t == side.Sealed: // a roll-back that has flipped and not let go
		// The source was read first, so it may have lost its place since:
		// its version must still be the one that was read.
		return step{changes: []change{{who: source, to: side.Primary}, {who: target, to: side.Standby}}}
	case (s == side.Standby || s == side.Retired) && t == side.Primary:
		return step{}
	}
	return step{refused: true}
}

func decideAbort(s, t side.State) step {
	switch {
	case s == side.Sealed && (t == side.Standby || t == side.Filling):
		// The target's version moves even if it is standby already: a cutover
		// that read it could go on to filling otherwise, and then make a second
		// primary.
		return step{changes: []change{{who: target, to: side.Standby}, {who: source, to: side.Primary}}, last: true}
	case s == side.Sealed && t == side.Retired: // a finish came between the two changes of a cutover
		return step{changes: []change{{who: target, to: side.Retired}, {who: source, to: side.Primary}}, last: true}
	case s == side.Primary && t == side.Filling:
		return reattach(true)
	case t == side.Sealed && s != side.Sealed,
		t == side.Primary && s == side.Filling:
		return decideAbort(t, s).swapped()
	case s == side.Primary && t == side.Standby, s == side.Standby && t == side.Primary:
		return step{}
	}
	return step{refused: true}
}

// reattach makes the target, which was left filling, the standby of the
// source. That the source still is primary is made sure of by a change, since it
// may have been read long before the target.
func reattach(last bool) step {
	return step{undone: true, changes: []change{{who: source, to: side.Primary}, {who: target, to: side.Standby}}, last: last}
}

// mayUnseal reports whether a sealed store may be made primary again by
// whoever knows nothing of the other one. Before a cutover makes the other store
// primary, it seals this one finally, by a change from the version that it has
// read. So as long as that was not done, a change from this version comes
// before it and has it fail.
func mayUnseal(r side.Record) bool { return r.State == side.Sealed && !r.Final }

// decideFinish retires the store s, whose place t has taken.
func decideFinish(s, t side.State) step {
	switch {
	case s == side.Standby && t == side.Primary:
		return step{compare: true, changes: []change{{who: source, to: side.Retired}}, last: true}
	case s == side.Sealed && t == side.Primary: // the cutover has flipped and not let go
		return step{changes: []change{{who: source, to: side.Standby}}}
	case s == side.Retired && t == side.Primary:
		return step{}
	}
	return step{refused: true}
}
