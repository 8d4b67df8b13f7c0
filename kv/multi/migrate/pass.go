package migrate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// maxPasses bounds how often a command that others interfere with decides
// again.
const maxPasses = 50

// view is what one pass has read, or written since.
type view struct {
	records  [2]side.Record // empty where there is none
	versions [2]kv.Version  // 0: there is no record
}

func (v *view) state(r role) side.State { return v.records[r].State }

func (v *view) phase() Phase { return phaseOf(v.state(source), v.state(target)) }

// read reads the record of the store in the role first, then the other's.
func (m *Migration) read(ctx context.Context, first role) (v view, err error) {
	for _, r := range []role{first, first.other()} {
		if v.records[r], v.versions[r], err = m.sides[r].ReadRecord(ctx); err != nil {
			return view{}, err
		}
	}
	return v, nil
}

// still makes sure that the record that was read first is as it was, so that
// both were like that at the same time; else the error is kv.ErrConflict.
func (m *Migration) still(ctx context.Context, first role, v *view) error {
	_, version, err := m.sides[first].ReadRecord(ctx)
	if err == nil && version != v.versions[first] {
		err = fmt.Errorf("%w: the record of store %q changed while the other was read", kv.ErrConflict, m.sides[first].Name())
	}
	return err
}

// pair is what decides about a start, besides the states.
func (v *view) pair(names [2]string) pair {
	s, t := v.records[source], v.records[target]
	return pair{
		ours: s.Source == names[source] && s.Target == names[target],
		same: s.Migration == t.Migration,

		targetAhead: t.Epoch > s.Epoch,
	}
}

// check makes sure that the records are about the two stores of m, whichever of
// them was the source. A new migration may follow one with a third store.
func (v *view) check(c command, names [2]string) error {
	for r, record := range v.records {
		if v.versions[r] == 0 || record.Other() == names[role(r).other()] {
			continue
		}
		if c == start && record.State != side.Standby {
			continue
		}
		return fmt.Errorf("%w: the record of store %q belongs to a migration from %q to %q, not to one between %q and %q",
			ErrRefused, record.Store, record.Source, record.Target, names[source], names[target])
	}
	return v.checkRoles(c, names)
}

// checkRoles makes sure that the newest record has the same store as the source
// as the configuration. Only a start may turn the direction around, once the
// migration before has ended.
func (v *view) checkRoles(c command, names [2]string) error {
	newest := source
	if v.records[target].Epoch > v.records[source].Epoch {
		newest = target
	}
	record := v.records[newest]
	over := v.state(source) == side.Primary && (v.state(target) == absent || v.state(target) == side.Retired)
	if v.versions[newest] == 0 || record.Source == names[source] || c == start && over {
		return nil
	}
	return &RolesError{Source: record.Source, Target: record.Target}
}

// RolesError says that the configuration and the records have the two stores
// the wrong way round. It matches ErrRefused.
type RolesError struct {
	Source, Target string // as the records have them
}

// Error names both stores and what to do.
func (e *RolesError) Error() string {
	return fmt.Sprintf("%v: the records say that the migration goes from store %q to store %q, but the configuration has %q as the source "+
		"and %q as the target: exchange the two (multi.primary and multi.secondary, or --from and --to)",
		ErrRefused, e.Source, e.Target, e.Target, e.Source)
}

// Unwrap makes it match ErrRefused.
func (e *RolesError) Unwrap() error { return ErrRefused }

// record returns the record that ch writes.
func (v *view) record(c command, ch change, names [2]string) side.Record {
	r := v.records[ch.who]
	highest := max(v.records[source].Epoch, v.records[target].Epoch)
	r.State, r.Epoch, r.Final = ch.to, highest, ch.final
	if ch.raise {
		r.Epoch++
	}
	if c == start {
		r.Source, r.Target, r.Migration = names[source], names[target], v.records[source].Migration
	}
	if ch.fresh {
		r.Migration = side.NewID()
	}
	return r
}

// run is one run of a command.
type run struct {
	*Migration
	command command
	result  Result

	sealing  bool      // a pass found or made the store that is left sealed
	sealedBy time.Time // when this run sealed it, or may have; zero: it didn't
	pause    pause
}

func (m *Migration) newRun(c command) *run {
	return &run{Migration: m, command: c, result: Result{Command: c.String(), DryRun: m.opts.DryRun, Changes: []Change{}}}
}

// role is that of the store of that name, which is to do something.
func (m *Migration) role(name, do string) (role, error) {
	for r, s := range m.sides {
		if s.Name() == name {
			return role(r), nil
		}
	}
	return 0, fmt.Errorf("%w: there is no store %q in this migration to %s, only %q and %q", ErrRefused, name, do, m.sides[source].Name(), m.sides[target].Name())
}

// do passes until the command has nothing left to do. A pass that found a
// record moved, or could not learn what became of its own change, has ended: the
// next one reads and decides again.
func (r *run) do(ctx context.Context) error {
	pause := wait.NewBackoff(5*time.Millisecond, time.Second)
	var last error
	for range maxPasses {
		done, err := r.pass(ctx)
		if done || err != nil && !overtaken(err) {
			return err
		}
		if last = err; err != nil && !pause.Sleep(ctx, ctx, nil) {
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
	return fmt.Errorf("%s: given up after %d passes, each of which somebody else interfered with: %w", r.command, maxPasses, last)
}

// overtaken reports whether err says that the records or the keys changed under
// a pass, so that another may succeed.
func overtaken(err error) bool {
	return !side.IsAny(err, kv.ErrTooLarge, kv.ErrInvalidKey, context.Canceled, context.DeadlineExceeded, kv.ErrClosed) &&
		side.IsAny(err, kv.ErrConflict, kv.ErrFenced, kv.ErrIndeterminate)
}

// pass is one pass: read, decide, work, change.
func (r *run) pass(ctx context.Context) (done bool, err error) {
	v, err := r.read(ctx, r.command.first())
	if err != nil {
		return false, err
	}
	r.result.Phase = v.phase()
	if err := v.check(r.command, r.names()); err != nil {
		return false, err
	}
	s := decide(r.command, v.state(source), v.state(target), v.pair(r.names()))
	if s.refused || s.done() {
		// Nothing will be changed, so no version tells that what was read first
		// had changed before the other was read.
		if err := r.still(ctx, r.command.first(), &v); err != nil {
			return false, err
		}
	}
	switch {
	case s.refused:
		return false, refusal(r.command, v.phase(), r.names())
	case s.done():
		return true, nil
	case r.sealing && s.undone:
		return false, fmt.Errorf("%w: store %q is primary again", ErrAborted, r.from(s).Name())
	}
	if v.phase() == Sealed || v.phase() == Sealing {
		r.sealing = true
		r.pause.begin()
	}
	if err := r.work(ctx, s, &v); err != nil {
		return false, err
	}
	for _, ch := range s.changes {
		if err := r.change(ctx, &v, ch); err != nil {
			return false, err
		}
	}
	r.result.Phase = v.phase()
	return s.last || r.opts.DryRun, nil
}

// change makes one change, from exactly the version that this pass has seen.
func (r *run) change(ctx context.Context, v *view, ch change) error {
	began := time.Now()
	before := v.state(ch.who)
	record := v.record(r.command, ch, r.names())
	version := v.versions[ch.who]
	if !r.opts.DryRun {
		sealing := ch.to == side.Sealed && before == side.Primary
		if sealing {
			r.pause.begin()
		}
		var err error
		record, version, err = r.swap(ctx, ch.who, v.versions[ch.who], record, r.command.String())
		switch {
		case sealing && errors.Is(err, kv.ErrConflict):
			r.pause.end()
		case sealing: // even if the outcome is unknown: writes may wait
			r.sealedBy = began
		}
		if err != nil {
			return err
		}
		r.sealing = r.sealing || ch.to == side.Sealed
	}
	v.records[ch.who], v.versions[ch.who] = record, version
	if ch.to == side.Primary {
		r.pause.end()
		if !r.sealedBy.IsZero() {
			r.result.Pause = time.Since(r.sealedBy)
		}
	}
	r.tell(Change{Store: r.sides[ch.who].Name(), From: before, To: ch.to, Epoch: record.Epoch})
	return nil
}

// swap writes a record and says in it who did, and what.
func (r *run) swap(ctx context.Context, who role, prev kv.Version, record side.Record, what string) (side.Record, kv.Version, error) {
	record.By = r.author
	record.By.Command, record.By.At = what, time.Now().UTC()
	return r.sides[who].SwapRecord(ctx, prev, record)
}

// tell notes a change that was made, or would be.
func (r *run) tell(ch Change) {
	r.result.Changes = append(r.result.Changes, ch)
	if r.opts.Changed != nil {
		r.opts.Changed(ch)
	}
}

// from and to are the stores between which the work of s is done.
func (r *run) from(s step) *side.Side { return r.sides[fromRole(s)] }
func (r *run) to(s step) *side.Side   { return r.sides[fromRole(s).other()] }

func fromRole(s step) role {
	if s.flipped {
		return target
	}
	return source
}

func (r *run) work(ctx context.Context, s step, v *view) error {
	guards := side.Guards(v.versions[fromRole(s).other()])
	switch {
	case s.empty:
		return r.checkEmpty(ctx, v)
	case s.prepare:
		return r.prepare(ctx, s, v)
	case s.complete:
		return r.complete(ctx, s, guards)
	case s.compare:
		return r.compare(ctx, s)
	}
	return nil
}
