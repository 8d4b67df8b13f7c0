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

// CopyOptions say what Copy copies. The zero value copies everything and
// deletes nothing.
type CopyOptions struct {
	Prefix string // only keys that begin with it

	// DeleteExtra deletes keys that the store copied from doesn't have.
	DeleteExtra bool
}

// CopyResult is what Copy did, or would do.
type CopyResult struct {
	From    string `json:"from"`
	To      string `json:"to"`
	Guarded bool   `json:"guarded"` // there is a migration, which fences the copy when it moves on
	DryRun  bool   `json:"dry_run"`
	Totals
}

// Copy makes the keys of one store equal to those of the other, while clients
// read and write: the backfill of a migration, the repair of one, or a plain
// copy without any migration. It may be interrupted and run again, at the cost
// of reading, and several may run at once.
//
// Without records it copies from the source to the target, and nothing guards
// its writes: if clients write to the target meanwhile, Copy overwrites them; it
// stops as soon as it sees that a migration was started. Where the one store is
// primary and the other standby, it copies from that to this, guarded.
// Otherwise it is refused.
//
// Keys that can't be copied are left out and told by a [*FailedError].
func (m *Migration) Copy(ctx context.Context, o CopyOptions) (CopyResult, error) {
	v, err := m.readAny(ctx)
	if err != nil {
		return CopyResult{}, err
	}
	if err := v.checkRoles(abort, m.names()); err != nil {
		return CopyResult{}, err
	}
	from := source
	switch v.phase() {
	case None, Mirroring:
	case Reversed:
		from = target
	default:
		now, next := v.phase().Describe(m.sides[source].Name(), m.sides[target].Name())
		return CopyResult{}, fmt.Errorf("%w: copy needs one store that is primary and one that is standby, or no migration at all: %s; %s", ErrRefused, now, next)
	}
	if err := v.check(abort, m.names()); err != nil {
		return CopyResult{}, err
	}
	a, b := m.sides[from], m.sides[from.other()]
	result := CopyResult{From: a.Name(), To: b.Name(), DryRun: m.opts.DryRun, Guarded: v.phase() != None}
	options := side.CopyOptions{
		Prefix: o.Prefix, DeleteExtra: o.DeleteExtra, Equal: m.opts.Equal, DryRun: m.opts.DryRun, Workers: m.opts.Workers, Progress: m.progress(Copying),
	}
	if result.Guarded {
		options.Guards = side.Guards(v.versions[from.other()])
		result.Totals, err = side.Copy(ctx, a, b, options)
	} else {
		result.Totals, err = m.copyPlain(ctx, a, b, options)
	}
	if errors.Is(err, kv.ErrFenced) {
		err = fmt.Errorf("the migration moved on while keys were copied; see \"polykv migrate status\": %w", err)
	}
	return result, err
}

// maxReads bounds how often both records are read until they are seen as they
// were at one moment.
const maxReads = 10

// readAny reads both records as they were at one moment, of stores that may
// have none at all.
func (m *Migration) readAny(ctx context.Context) (view, error) {
	var errs [2]error
	v := m.readBoth(ctx, &errs)
	for _, err := range errs {
		if err != nil && !errors.Is(err, kv.ErrNotSupported) {
			return view{}, err
		}
	}
	return v, nil
}

// readBoth is readAny that reads what it can.
func (m *Migration) readBoth(ctx context.Context, errs *[2]error) view {
	var v view
	for range maxReads {
		for _, r := range []role{source, target} {
			v.records[r], v.versions[r], errs[r] = m.readSoon(ctx, r)
		}
		if errs[source] != nil || errs[target] != nil {
			break
		}
		if _, now, err := m.readSoon(ctx, source); err != nil || now == v.versions[source] {
			break
		}
	}
	return v
}

// readSoon reads the record of a store that may hang.
func (m *Migration) readSoon(ctx context.Context, r role) (side.Record, kv.Version, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return m.sides[r].ReadRecord(ctx)
}

// recordsEvery is how often a plain copy looks whether a migration was started.
const recordsEvery = time.Second

// errStarted ends a plain copy.
var errStarted = fmt.Errorf("%w: a migration was started while keys were copied without one; copy again", ErrRefused)

// copyPlain copies without guards, for as long as there is no record.
func (m *Migration) copyPlain(ctx context.Context, a, b *side.Side, o side.CopyOptions) (Totals, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for wait.For(ctx, recordsEvery) == nil {
			if v, _ := m.readAny(ctx); v.phase() != None { // as it is, too, if they can't be read
				cancel(errStarted)
			}
		}
	}()
	totals, err := side.Copy(ctx, a, b, o)
	cancel(nil)
	<-watched
	if v, _ := m.readAny(context.WithoutCancel(ctx)); err == nil && v.phase() != None {
		err = errStarted // within the last second
	}
	return totals, err
}

// VerifyOptions say what Verify compares. The zero value compares everything.
type VerifyOptions struct {
	Prefix string // only keys that begin with it

	// Found is called with each difference, ascending by key. Its error ends
	// the comparison.
	Found func(Difference) error
}

// VerifyResult is what Verify saw.
type VerifyResult struct {
	From   string `json:"from"`   // the store that counts: the primary, or else the source
	To     string `json:"to"`     // the store that was compared with it
	Fenced bool   `json:"fenced"` // both were fenced from beginning to end, so that equality is proven

	// Retired is the store that the migration left, after its end; "": none.
	Retired string `json:"retired,omitempty"`
	Totals
}

// Verify compares the stores, changing nothing. A key that differs is read again
// several times, since a write that is being mirrored makes it differ for a
// moment. While clients write, no difference means that none was seen; it is
// proven by a cutover, which compares while both stores are fenced.
func (m *Migration) Verify(ctx context.Context, o VerifyOptions) (VerifyResult, error) {
	v, err := m.readAny(ctx)
	if err != nil {
		return VerifyResult{}, err
	}
	if err := v.checkRoles(start, m.names()); err != nil {
		return VerifyResult{}, err
	}
	from := source
	if p := v.phase(); p == Reversed || p == DetachedBack || p == Flipped || p == Finished || p == Sealing {
		from = target
	}
	a, b := m.sides[from], m.sides[from.other()]
	result := VerifyResult{From: a.Name(), To: b.Name()}
	if p := v.phase(); p == Finished || p == GivenUp {
		result.Retired = b.Name()
	}
	result.Totals, err = side.Compare(ctx, a, b, side.CompareOptions{Prefix: o.Prefix, Equal: m.opts.Equal, Found: o.Found, Progress: m.progress(Comparing)})
	if err != nil {
		return result, err
	}
	if p := v.phase(); p == Sealed || p == Sealing {
		after, err := m.readAny(ctx)
		result.Fenced = err == nil && after.versions == v.versions && v.state(from.other()) == side.Filling
		return result, err
	}
	return result, nil
}

// Count returns how many keys there are to go through, roughly: those of the
// store that has more of them. It reads keys only.
func (m *Migration) Count(ctx context.Context, prefix string) (int, error) {
	most := 0
	for _, s := range m.sides {
		n, err := s.Count(ctx, prefix)
		if err != nil {
			return 0, err
		}
		most = max(most, n)
	}
	return most, nil
}
