package migrate

import (
	"context"
	"errors"
	"fmt"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

const (
	// A cutover goes through the keys again before it seals while a round finds
	// more than this to do, so that little is left to do while writes wait.
	fewKeys      = 100
	maxPrepare   = 5
	maxComplete  = 5
	maxReported  = 100
	finishChecks = 6 // readings of a key before Finish calls it different
)

// checkEmpty makes sure that the target holds no keys, or may hold some.
func (r *run) checkEmpty(ctx context.Context) error {
	if r.opts.AllowKeys {
		return nil
	}
	n, err := r.sides[target].Count(ctx, "")
	if err == nil && n > 0 {
		err = fmt.Errorf("%w: store %q holds %d keys; keys that store %q doesn't have will be deleted there, so it takes AllowKeys (--allow-keys) to go on",
			ErrRefused, r.sides[target].Name(), n, r.sides[source].Name())
	}
	return err
}

// prepare copies what differs while clients go on writing and mirroring.
func (r *run) prepare(ctx context.Context, s step, guard *kv.Guard) error {
	sum := Totals{}
	r.result.Before = &sum
	for range maxPrepare {
		t, err := r.copyAll(ctx, s, guard, Copying)
		add(&sum, t)
		if err != nil || r.opts.DryRun || t.Different <= fewKeys {
			return err
		}
	}
	return nil
}

// complete goes through all keys while nobody else writes to either store. Each
// is seen equal, by both scans or, if it had to be copied, by reading it
// again on both sides; it can't change after that.
func (r *run) complete(ctx context.Context, s step, guard *kv.Guard) error {
	sum := Totals{}
	r.result.Fenced = &sum
	var err error
	for range maxComplete {
		var t Totals
		t, err = r.copyAll(ctx, s, guard, Completing)
		add(&sum, t)
		if !errors.Is(err, side.ErrDiffers) {
			return err
		}
	}
	return fmt.Errorf("store %q still differs from store %q after %d rounds, though both are fenced: somebody writes to one of them who is not coordinated: %w",
		r.to(s).Name(), r.from(s).Name(), maxComplete, err)
}

func (r *run) copyAll(ctx context.Context, s step, guard *kv.Guard, work Work) (Totals, error) {
	return side.Copy(ctx, r.from(s), r.to(s), side.CopyOptions{
		Guard: guard, Equal: r.opts.Equal, DeleteExtra: true, Verify: work == Completing,
		DryRun: r.opts.DryRun, Workers: r.opts.Workers, Progress: r.progress(work),
	})
}

// add adds up what rounds did; compared keys count once.
func add(sum *Totals, t Totals) {
	sum.Keys, sum.Bytes = t.Keys, t.Bytes
	sum.Different += t.Different
	sum.Copied += t.Copied
	sum.Deleted += t.Deleted
	sum.Failed += t.Failed
}

// DifferencesError is the error of Finish when the stores differ.
type DifferencesError struct {
	Count       int
	Differences []Difference // the first hundred
	Primary     string       // the store that stays
	Standby     string       // the one that would have been retired
}

// Error says how many keys differ and what that means.
func (e *DifferencesError) Error() string {
	return fmt.Sprintf("%d keys differ between store %q, which is primary, and store %q, into which all clients mirror, %q (%s) among them: "+
		"somebody writes to one of them who is not coordinated, or a client is far behind",
		e.Count, e.Primary, e.Standby, e.Differences[0].Key, e.Differences[0].Reason)
}

// compare compares the primary with the store to be retired.
func (r *run) compare(ctx context.Context, s step) error {
	// The store that is retired is where the migration came from.
	primary, standby := r.to(s), r.from(s)
	found := &DifferencesError{Primary: primary.Name(), Standby: standby.Name()}
	totals, err := side.Compare(ctx, primary, standby, side.CompareOptions{
		Equal: r.opts.Equal, Attempts: finishChecks, Progress: r.progress(Comparing), Found: found.add,
	})
	r.result.Compared = &totals
	if err == nil && found.Count > 0 && !r.opts.AllowDifferences {
		return found
	}
	return err
}

func (e *DifferencesError) add(d Difference) error {
	e.Count++
	if len(e.Differences) < maxReported {
		e.Differences = append(e.Differences, d)
	}
	return nil
}
