package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// Result is what a command did, or would do.
type Result struct {
	Command string   `json:"command"`
	DryRun  bool     `json:"dry_run"`
	Phase   Phase    `json:"phase"`   // where the migration stands afterwards
	Changes []Change `json:"changes"` // none: there was nothing to do

	// Pause is how long a cutover or roll-back kept writes waiting, from before
	// the one store was sealed until after the other was made primary. It is 0
	// if this run didn't do both.
	Pause time.Duration `json:"pause_ns"`

	// Before is what a cutover copied before it sealed, Fenced what it compared
	// and copied after, Compared what Finish compared.
	Before   *Totals `json:"before,omitempty"`
	Fenced   *Totals `json:"fenced,omitempty"`
	Compared *Totals `json:"compared,omitempty"`

	// Predicted is about how long writes wait or, where clients work much, two or
	// three times as long.
	Predicted time.Duration `json:"predicted_pause_ns,omitempty"`

	// Deletes are the first keys that a dry run would delete in the store that
	// is to be primary.
	Deletes []string `json:"deletes,omitempty"`

	// Clients is how many clients answered before the cutover sealed; Silent
	// are those that had been seen within the last minute and did not.
	Clients int      `json:"clients,omitempty"`
	Silent  []string `json:"silent,omitempty"`

	// Left is what an abort could not do since a store does not answer. Clients
	// write again all the same.
	Left string `json:"left,omitempty"`

	// Now and Next are the sentences of Status after an abort that found a store
	// primary and learned nothing of the other one.
	Now  string `json:"now,omitempty"`
	Next string `json:"next,omitempty"`
}

var (
	// ErrAborted says that somebody else aborted the cutover or roll-back that the
	// command was making.
	ErrAborted = errors.New("aborted by another run")

	// ErrNoGuards says that a store can't guard operations, which a coordinated
	// migration needs.
	ErrNoGuards = fmt.Errorf("%w: no guards", kv.ErrNotSupported)
)

// Start makes the source primary and the target standby, so that coordinated
// clients mirror into the target. Run it while the clients still use
// the source alone, and configure them afterwards.
//
// It is refused if the target holds keys, unless Options.AllowKeys is set.
func (m *Migration) Start(ctx context.Context) (Result, error) {
	for _, s := range m.sides {
		has, err := s.HasGuards(ctx)
		if err != nil {
			return Result{}, err
		}
		if !has {
			return Result{}, fmt.Errorf("store %q: %w: a coordinated migration needs a store that can make a write depend on another key; "+
				`without, "polykv copy" and "polykv verify" and the switch of a single process are what can be had`, s.Name(), ErrNoGuards)
		}
	}
	if err := m.checkApart(ctx); err != nil {
		return Result{}, err
	}
	return m.run(ctx, start)
}

// checkApart makes sure that the two sides are not one store under two names.
func (m *Migration) checkApart(ctx context.Context) error {
	v, err := m.read(ctx, source)
	if err != nil || v.versions[source] != 0 || m.opts.DryRun {
		return err
	}
	key := side.ScratchPrefix + side.NewID()
	if err := m.sides[source].CAS(ctx, key, nil, func([]byte, bool) ([]byte, kv.Action, error) { return []byte("probe"), kv.Put, nil }); err != nil {
		return err
	}
	_, both, err := m.sides[target].Get(ctx, key, nil)
	err = errors.Join(err, m.sides[source].Delete(ctx, key, nil))
	if err == nil && both {
		err = fmt.Errorf("%w: %q and %q lead to the same store", ErrRefused, m.sides[source].Name(), m.sides[target].Name())
	}
	return err
}

// Cutover makes the target primary. It copies what differs while clients go
// on writing, then seals the source, copies and verifies every key while
// writes wait, and makes the target primary; clients follow by themselves. The
// source becomes standby and is mirrored into, for a roll-back.
//
// Before it seals, it makes sure that the migration is ready: every client
// answers, sees both stores and can write them, nothing differs, and this
// operator may do what will have to be done. Otherwise the error is a
// [*NotReadyError]; see the Allow options.
//
// A cutover that was interrupted is gone on with. One that fails after it
// sealed, is cancelled, or keeps writes waiting for longer than
// Options.MaxPause, is undone, so that clients can write again: the error is
// an [*UndoneError]. Only if that fails too, a [*WaitingError], or the process
// is killed, do writes wait until Cutover or Abort is run again. ErrAborted says
// that somebody else undid it.
func (m *Migration) Cutover(ctx context.Context) (Result, error) { return m.run(ctx, cutover) }

// Rollback makes the source primary again after a cutover. It is a cutover in
// the other direction, from a store that was mirrored into all the while, so no
// write is lost either.
func (m *Migration) Rollback(ctx context.Context) (Result, error) { return m.run(ctx, rollback) }

// Abort undoes a cutover or roll-back that has not made its store primary yet.
//
// If the other store doesn't answer, the one that is sealed is made primary
// again by itself, where that is safe: as long as the cutover was not about to
// make the other one primary. Result.Left then says what is left to do, by
// another Abort once both answer.
func (m *Migration) Abort(ctx context.Context) (Result, error) {
	r := m.newRun(abort)
	err := r.do(ctx)
	if ctx.Err() == nil && !m.opts.DryRun && side.IsAny(err, kv.ErrUnavailable, context.DeadlineExceeded) {
		err = r.abortAlone(ctx, err)
	}
	return r.result, err
}

// Finish retires the store that is no longer primary and ends the migration.
// on names the store that stays, and is there against mistakes: the target
// after a migration, the source of one that is given up; "" is the target.
//
// Before, it compares both stores once more. What differs although all clients
// mirror was written by somebody who is not coordinated: unless
// Options.AllowDifferences is set, nothing is changed then and the error is a
// [*DifferencesError].
func (m *Migration) Finish(ctx context.Context, on string) (Result, error) {
	stays, err := m.role(cmp.Or(on, m.sides[target].Name()), "finish on")
	if err != nil {
		return Result{}, err
	}
	c := finishOnTarget
	if stays == source {
		c = finishOnSource
	}
	result, err := m.run(ctx, c)
	if err != nil || m.opts.DryRun {
		return result, err
	}
	clients, err := m.clients(ctx)
	return result, errors.Join(err, forget(ctx, m.sides[:], clients))
}
