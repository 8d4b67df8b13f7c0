package migrate

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// forcedEpochs is by how much a forced record's epoch grows: the other store's
// can be higher by one, if it was made primary last.
const forcedEpochs = 2

// Force makes the store of that name primary though the other one is lost. It
// is for when neither Cutover nor Abort can help any more, and it is safe on
// one condition, which only people can judge: the other store is lost for good,
// or nobody can write to it until Abort was run once more. What clients wrote
// there and was not mirrored yet is lost.
//
// It is refused if the other store answers, if a client says that it still
// uses that store, and if the named one is retired or was never part of the
// migration.
func (m *Migration) Force(ctx context.Context, on string) (Result, error) {
	who, err := m.role(on, "make primary")
	if err != nil {
		return Result{}, err
	}
	r := m.newRun(force)
	if err := r.checkLost(ctx, who.other()); err != nil {
		return r.result, err
	}
	record, version, err := m.sides[who].ReadRecord(ctx)
	if err != nil {
		return r.result, err
	}
	if err := r.checkForced(ctx, who, record, version); err != nil {
		return r.result, err
	}
	r.result.Phase = Unknown
	if record.State == side.Primary {
		return r.result, nil
	}
	before := record.State
	record.State, record.Final = side.Primary, false
	record.Epoch += forcedEpochs
	if !m.opts.DryRun {
		if record, _, err = r.swap(ctx, who, version, record, r.command.String()); err != nil {
			return r.result, err
		}
	}
	r.tell(Change{Store: on, From: before, To: side.Primary, Epoch: record.Epoch})
	return r.result, nil
}

// checkLost makes sure that a store doesn't answer within storeTimeout.
func (r *run) checkLost(ctx context.Context, who role) error {
	_, _, err := r.readSoon(ctx, who)
	switch {
	case ctx.Err() != nil, side.IsAny(err, kv.ErrUnavailable, context.DeadlineExceeded): // what ended ctx ends what comes next
		return nil
	}
	answer := "it answers"
	if err != nil {
		answer = fmt.Sprintf("it answers: %v", err)
	}
	return fmt.Errorf(`%w: store %q is not lost, %s; run "polykv migrate abort" or "polykv migrate cutover", which need no force`, ErrRefused, r.sides[who].Name(), answer)
}

// checkForced makes sure that a store may be forced, as far as can be seen.
func (r *run) checkForced(ctx context.Context, who role, record side.Record, version kv.Version) error {
	name, lost := r.sides[who].Name(), r.sides[who.other()].Name()
	switch {
	case version == 0:
		return fmt.Errorf("%w: store %q has no record, so it takes part in no migration", ErrRefused, name)
	case record.Other() != lost:
		return fmt.Errorf("%w: the record of store %q belongs to a migration from %q to %q", ErrRefused, name, record.Source, record.Target)
	case record.State == side.Retired:
		return fmt.Errorf("%w: store %q is retired: nothing was mirrored into it since, so what it holds is old", ErrRefused, name)
	}
	beats, err := r.sides[who].Heartbeats(ctx)
	if err != nil {
		return err
	}
	var using []string
	for _, h := range beats {
		seen, told := h.Sight(lost)
		if age, _ := r.tracker.age(h, time.Now()); age < lateAfter && told && seen.Error == "" && h.Primary == lost {
			using = append(using, h.String())
		}
	}
	if len(using) > 0 {
		return fmt.Errorf("%w: clients that were seen within the last %v use store %q: %s; if it is lost for them too, run this again in a minute",
			ErrRefused, lateAfter, lost, strings.Join(using, ", "))
	}
	return nil
}
