package side

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv"
)

// maxRounds bounds how often one call of a task starts again because the key
// changed meanwhile. Whoever called keeps the task and comes back.
const maxRounds = 100

// Task makes keys of To equal to those of From. The zero value of a field
// means its default. A Task may be used concurrently and copied.
type Task struct {
	From, To *Side

	// Guards are put on every write to To: that To's record is still at the
	// version by which the writer decided that it may write. Nil: none.
	Guards []kv.Guard

	// Equal reports whether two values are as good as equal: for stores whose
	// values merge, those which merging doesn't change. Default: equal bytes.
	Equal func(a, b []byte) bool
}

// seen is a key as a read found it.
type seen struct {
	value  []byte
	exists bool
}

func (t Task) equal(a, b seen) bool {
	switch {
	case a.exists != b.exists:
		return false
	case !a.exists || bytes.Equal(a.value, b.value):
		return true
	}
	return t.Equal != nil && t.Equal(a.value, b.value)
}

// Copy makes key in To what it is in From, absence included, and reports
// whether it wrote. When it returns nil, the two were equal at some moment
// after the call began, and no write of this call will undo that.
//
// It is a compare-and-swap on To whose callback reads From afresh on every
// call, and after a swap it reads From again: only if that still is what was
// written is the task done. Without this second read two tasks can leave the
// stores different for good (the one finds them equal and declines, while the
// swap of the other, decided before, is still to come).
//
// That costs one read of From, one trip to To and one more read of From. On
// kv.ErrIndeterminate or any other error the task is not done and must be
// kept; kv.ErrFenced says that one of Guards no longer holds.
func (t Task) Copy(ctx context.Context, key string) (wrote bool, err error) {
	return t.CopyChange(ctx, key, nil)
}

// CopyChange is Copy after one write to From by the caller, of which change
// tells; nil if nothing is known of it. Where the change fits what To holds, the
// first read is spared. The two were then equal at some moment after that
// write, if nobody else has written the key since; somebody else's write has a
// task of its own.
func (t Task) CopyChange(ctx context.Context, key string, change *Change) (wrote bool, err error) {
	did, err := t.copy(ctx, key, change)
	return did != kv.Keep, err
}

// copy is CopyChange that tells what it did last, kv.Put or kv.Remove; kv.Keep: it
// wrote nothing.
func (t Task) copy(ctx context.Context, key string, change *Change) (did kv.Action, err error) {
	did = kv.Keep
	var unknown error // of a swap that may still land
	pause := wait.NewBackoff(5*time.Millisecond, 500*time.Millisecond)
	for range maxRounds {
		swapped, wanted, err := t.swap(ctx, key, unknown != nil, change)
		change = nil
		if swapped != kv.Keep {
			did = swapped
		}
		if errors.Is(err, kv.ErrIndeterminate) && unknown == nil && ctx.Err() == nil {
			unknown = err
			if !pause.Sleep(ctx, ctx, nil) {
				return did, ctx.Err()
			}
			continue
		}
		if err != nil {
			return did, err
		}
		if swapped == kv.Put {
			unknown = nil // the version moved, so nothing of before can land any more
		}
		settled, err := t.settled(ctx, key, swapped != kv.Keep, wanted)
		switch {
		case err != nil:
			return did, err
		case settled && unknown != nil:
			// Absent on both sides, which keeps no creation out that is still
			// under way: look again later.
			return did, fmt.Errorf("copy of %q to store %q: an earlier attempt may still land: %w", key, t.To.name, unknown)
		case settled:
			return did, nil
		}
	}
	return did, fmt.Errorf("copy of %q to store %q: %w: it kept changing in store %q", key, t.To.name, kv.ErrConflict, t.From.name)
}

// settled reports whether From still is as it was wanted. If nothing was
// swapped, the two were equal, and that suffices.
func (t Task) settled(ctx context.Context, key string, swapped bool, wanted seen) (bool, error) {
	if !swapped {
		return true, nil
	}
	value, exists, err := t.From.Get(ctx, key, nil)
	return err == nil && t.equal(seen{value, exists}, wanted), err
}

// swap makes one compare-and-swap, and tells what it did. force writes even what is equal, so that
// the version moves and no earlier attempt at it can land. A change counts for
// the first call of the callback only.
func (t Task) swap(ctx context.Context, key string, force bool, change *Change) (did kv.Action, wanted seen, err error) {
	err = t.To.CAS(ctx, key, t.Guards, func(in []byte, there bool) ([]byte, kv.Action, error) {
		var err error
		wanted, err = t.wanted(ctx, key, seen{in, there}, change)
		change = nil
		if err != nil {
			return nil, kv.Keep, err
		}
		switch {
		case !wanted.exists && !there, !force && t.equal(wanted, seen{in, there}):
			did = kv.Keep
		case !wanted.exists:
			did = kv.Remove
		default:
			did = kv.Put
		}
		return wanted.value, did, nil
	})
	if err != nil {
		did = kv.Keep
	}
	return did, wanted, err
}

// wanted is what To is to hold instead of now.
func (t Task) wanted(ctx context.Context, key string, now seen, change *Change) (seen, error) {
	if change.fits(now) {
		return seenOf(change.After), nil
	}
	value, exists, err := t.From.Get(ctx, key, nil)
	return seen{value, exists}, err
}
