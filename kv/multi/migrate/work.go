package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

const (
	// A cutover goes through the keys again before it seals while a round finds
	// more than this to do, so that little is left to do while writes wait.
	fewKeys     = 100
	maxPrepare  = 5
	maxComplete = 5
	maxReported = 100
)

// checkEmpty makes sure that the target holds no keys, or may hold some.
func (r *run) checkEmpty(ctx context.Context, v *view) error {
	if r.opts.AllowKeys {
		return nil
	}
	n, err := r.sides[target].Count(ctx, "")
	if err != nil || n == 0 {
		return err
	}
	if err = r.still(ctx, target, v); err == nil { // else another start came first, and clients mirror
		err = fmt.Errorf("%w: store %q holds %d keys; keys that store %q doesn't have will be deleted there, so it takes AllowKeys (--allow-keys) to go on",
			ErrRefused, r.sides[target].Name(), n, r.sides[source].Name())
	}
	return err
}

// complete goes through all keys while nobody else writes to either store. Each
// is seen equal, by both scans or, if it had to be copied, by reading it
// again on both sides; it can't change after that.
func (r *run) complete(ctx context.Context, s step, guards []kv.Guard) error {
	sum := Totals{}
	r.result.Fenced = &sum
	var err error
	for range maxComplete {
		var t Totals
		t, err = r.copyAll(ctx, s, guards, Completing)
		add(&sum, t)
		if !errors.Is(err, side.ErrDiffers) {
			return err
		}
	}
	return fmt.Errorf("store %q still differs from store %q after %d rounds, though both are fenced: somebody writes to one of them who is not coordinated: %w",
		r.to(s).Name(), r.from(s).Name(), maxComplete, err)
}

func (r *run) copyAll(ctx context.Context, s step, guards []kv.Guard, work Work) (Totals, error) {
	return side.Copy(ctx, r.from(s), r.to(s), side.CopyOptions{
		Guards: guards, Equal: r.opts.Equal, DeleteExtra: true, Verify: work == Completing,
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

	// Crashed are clients that ended without saying so.
	Crashed []string
}

// Error says how many keys differ and what that means.
func (e *DifferencesError) Error() string {
	text := fmt.Sprintf("%d keys differ between store %q, which is primary, and store %q, into which all clients mirror, %q (%s) among them. ",
		e.Count, e.Primary, e.Standby, e.Differences[0].Key, e.Differences[0].Reason)
	if len(e.Crashed) > 0 {
		text += fmt.Sprintf("These clients crashed: %s. ", strings.Join(e.Crashed, ", "))
	}
	return text + fmt.Sprintf("A client that crashes between a write and its mirror leaves such keys, and store %q has them right: run \"polykv copy --delete\", and this again. "+
		"If keys differ again without a crash, somebody writes to one of the stores who is not coordinated; what is in store %q alone (extra) "+
		"is then either such a write or a key that was deleted: ask before you put it into store %q", e.Primary, e.Standby, e.Primary)
}

// compare compares the primary with the store to be retired.
func (r *run) compare(ctx context.Context, s step) error {
	// The store that is retired is where the migration came from.
	primary, standby := r.to(s), r.from(s)
	found := &DifferencesError{Primary: primary.Name(), Standby: standby.Name()}
	totals, err := side.Compare(ctx, primary, standby, side.CompareOptions{Equal: r.opts.Equal, Progress: r.progress(Comparing), Found: found.add})
	r.result.Compared = &totals
	if err != nil || found.Count == 0 || r.opts.AllowDifferences {
		return err
	}
	clients, err := r.clients(ctx)
	for _, c := range clients {
		if c.Late {
			found.Crashed = append(found.Crashed, c.String())
		}
	}
	return errors.Join(found, err)
}

func (e *DifferencesError) add(d Difference) error {
	e.Count++
	if len(e.Differences) < maxReported {
		e.Differences = append(e.Differences, d)
	}
	return nil
}
