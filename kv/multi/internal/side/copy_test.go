package side

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// fill makes two stores with n equal keys, and a key of each kind that differs.
func fill(t *testing.T, n int) (from, to *store) {
	t.Helper()
	from, to = newStore(t, "a"), newStore(t, "b")
	for i := range n {
		key := fmt.Sprintf("k%04d", i)
		from.put(t, key, "same")
		to.put(t, key, "same")
	}
	from.put(t, "a-missing", "v")
	to.put(t, "k-extra", "v")
	from.put(t, "z-different", "v")
	to.put(t, "z-different", "longer")
	return from, to
}

func TestCompareFindsEveryDifference(t *testing.T) {
	from, to := fill(t, 700)
	var found []string
	told := 0
	totals, err := Compare(t.Context(), from.Side, to.Side, CompareOptions{
		Found: func(d Difference) error {
			found = append(found, fmt.Sprintf("%s %s %v %v", d.Key, d.Reason, d.From, d.To))
			return nil
		},
		Progress: func(Totals) { told++ },
	})
	want := []string{
		"a-missing missing &{1 4c94485e0c21} <nil>",
		"k-extra extra <nil> &{1 4c94485e0c21}",
		"z-different different &{1 4c94485e0c21} &{6 73834addcec7}",
	}
	if err != nil || strings.Join(found, "; ") != strings.Join(want, "; ") {
		t.Fatalf("found %s, %v", strings.Join(found, "; "), err)
	}
	if totals.Keys != 703 || totals.Different != 3 || totals.Bytes != 700*9+10+12 || told < 7 {
		t.Errorf("totals %+v, told %d times", totals, told)
	}
	totals, err = Compare(t.Context(), to.Side, from.Side, CompareOptions{Prefix: "k0"})
	if err != nil || totals.Keys != 700 || totals.Different != 0 {
		t.Errorf("below a prefix: %+v, %v", totals, err)
	}
	totals, err = Compare(t.Context(), newStore(t, "a").Side, newStore(t, "b").Side, CompareOptions{})
	if err != nil || totals != (Totals{}) {
		t.Errorf("empty stores: %+v, %v", totals, err)
	}
}

// What two scans find different may be a write that is being mirrored.
func TestCompareReadsAgainWhatDiffers(t *testing.T) {
	from, to := newStore(t, "a"), newStore(t, "b")
	from.put(t, "k", "v")
	from.put(t, "other", "v")
	mirror := once(func() { to.put(t, "k", "v") })
	from.hooks.onGet = func(driver.GetRequest) { mirror() } // after the scans
	totals, err := Compare(t.Context(), from.Side, to.Side, CompareOptions{})
	if err != nil || totals.Keys != 2 || totals.Different != 1 {
		t.Errorf("totals %+v, %v", totals, err)
	}
}

// A key that is written all the time, and mirrored now and then, is moving as soon as
// it has been seen to: nobody waits for more.
func TestCompareWaitsForABusyMirror(t *testing.T) {
	for _, every := range []time.Duration{100 * time.Millisecond, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			from, to := newStore(t, "a"), newStore(t, "b")
			var last atomic.Int64
			ctx, cancel := context.WithCancel(t.Context())
			var both sync.WaitGroup
			repeat := func(pause time.Duration, f func()) {
				both.Go(func() {
					for ; ctx.Err() == nil; time.Sleep(pause) {
						f()
					}
				})
			}
			repeat(7*time.Millisecond, func() { from.put(t, "k", fmt.Sprint(last.Add(1))) })
			repeat(every, func() { to.put(t, "k", fmt.Sprint(last.Load())) })
			time.Sleep(every + 9*time.Millisecond) // a write after a mirror
			began := time.Now()
			totals, err := Compare(ctx, from.Side, to.Side, CompareOptions{Attempts: Patient})
			if took := time.Since(began); err != nil || totals.Different != 0 || totals.Moving != 1 || took > 2*every {
				t.Errorf("mirrored every %v: %+v after %v, %v", every, totals, took, err)
			}
			cancel()
			both.Wait()
		})
	}
}

func TestCompareEndsEarly(t *testing.T) {
	from, to := fill(t, 3000)
	boom := errors.New("boom")
	_, err := Compare(t.Context(), from.Side, to.Side, CompareOptions{Found: func(Difference) error { return boom }})
	wantErr(t, err, boom)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Compare(ctx, from.Side, to.Side, CompareOptions{})
	wantErr(t, err, context.Canceled)
	if err := from.client.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Compare(t.Context(), from.Side, to.Side, CompareOptions{})
	wantErr(t, err, kv.ErrClosed)
	_, err = Copy(t.Context(), to.Side, from.Side, CopyOptions{})
	wantErr(t, err, kv.ErrClosed)
}

// A reader stays only a few batches ahead of its consumer.
func TestCompareReadsNotTooFarAhead(t *testing.T) {
	const keys, limit = 5000, 1500
	from, to := newStore(t, "a"), newStore(t, "b")
	for i := range keys {
		from.put(t, fmt.Sprintf("k%05d", i), "v")
	}
	_, err := Compare(t.Context(), from.Side, to.Side, CompareOptions{Found: func(Difference) error {
		if read := from.hooks.scans.Load() * int64(fast.ScanPage); read > limit {
			t.Errorf("after the first key %d of %d were read, at most %d should be", read, keys, limit)
		}
		return errLost
	}, Attempts: 1})
	wantErr(t, err, errLost)
}

func TestCopyBackfillsAndRepairs(t *testing.T) {
	from, to := fill(t, 500)
	before := to.all(t)
	totals, err := Copy(t.Context(), from.Side, to.Side, CopyOptions{DryRun: true, DeleteExtra: true})
	if want := (Totals{Keys: 503, Bytes: totals.Bytes, Different: 3, Copied: 2, Deleted: 1}); totals != want || err != nil || to.all(t) != before {
		t.Fatalf("dry run: %+v, %v", totals, err)
	}
	totals, err = Copy(t.Context(), from.Side, to.Side, CopyOptions{})
	if want := (Totals{Keys: 503, Bytes: totals.Bytes, Different: 2, Copied: 2, Kept: 1}); totals != want || err != nil {
		t.Fatalf("copy: %+v, %v", totals, err)
	}
	to.want(t, "k-extra", "v")
	told := 0
	guard := Guards(to.setRecord(t, Standby))
	totals, err = Copy(t.Context(), from.Side, to.Side, CopyOptions{DeleteExtra: true, Guards: guard, Workers: 1, Progress: func(Totals) { told++ }})
	if want := (Totals{Keys: 503, Bytes: totals.Bytes, Different: 1, Deleted: 1}); totals != want || err != nil || told < 5 {
		t.Fatalf("repair: %+v, %v, told %d times", totals, err, told)
	}
	if from.all(t) != to.all(t) {
		t.Error("the stores differ")
	}
}

func TestCopyGoesOnWhereItWasInterrupted(t *testing.T) {
	from, to := newStore(t, "a"), newStore(t, "b")
	for i := range 300 {
		from.put(t, fmt.Sprintf("k%03d", i), "v")
	}
	ctx, cancel := context.WithCancel(t.Context())
	to.hooks.onSwap = func(_ driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
		if to.hooks.swaps.Load() == 100 {
			cancel()
		}
		return do()
	}
	const workers = 10 // each of which has one key under way when it is interrupted
	first, err := Copy(ctx, from.Side, to.Side, CopyOptions{Workers: workers})
	wantErr(t, err, context.Canceled)
	to.hooks.onSwap = nil
	second, err := Copy(t.Context(), from.Side, to.Side, CopyOptions{})
	if err != nil || first.Copied < 100-workers || first.Copied+second.Copied > 300 || second.Copied > 300-(100-workers) {
		t.Errorf("first %+v, then %+v, %v", first, second, err)
	}
	if from.all(t) != to.all(t) {
		t.Error("the stores differ")
	}
}

func TestCopyStopsWhenItsGuardBreaks(t *testing.T) {
	from, to := fill(t, 10)
	guard := Guards(to.setRecord(t, Standby))
	to.setRecord(t, Filling)
	before := to.all(t)
	_, err := Copy(t.Context(), from.Side, to.Side, CopyOptions{Guards: guard, DeleteExtra: true})
	wantErr(t, err, kv.ErrFenced)
	if to.all(t) != before {
		t.Error("it wrote all the same")
	}
}

func TestCopyGoesOnAfterAKeyThatFails(t *testing.T) {
	from, to := newStore(t, "a"), newStore(t, "b")
	from.put(t, "big", strings.Repeat("x", 2000))
	from.put(t, "small", "v")
	options := fast
	options.MaxValueSize = 1000
	tight, err := New("b", kv.New(to.data.Open(), stringCodec, &options), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tight.client.Close()
	totals, err := Copy(t.Context(), from.Side, tight, CopyOptions{})
	var failed *FailedError
	if !errors.As(err, &failed) || failed.Count != 1 || failed.Failures[0].Key != "big" || totals.Failed != 1 || totals.Copied != 1 {
		t.Errorf("Copy = %+v, %v", totals, err)
	}
	wantErr(t, err, kv.ErrTooLarge)
	to.want(t, "small", "v")
}

func TestCopyVerifiesWhatItCopied(t *testing.T) {
	from, to := fill(t, 10)
	to.hooks.onGet = func(req driver.GetRequest) {
		if req.Key == "z-different" && to.hooks.swaps.Load() > 2 { // all are copied
			to.put(t, "z-different", "foreign")
		}
	}
	totals, err := Copy(t.Context(), from.Side, to.Side, CopyOptions{DeleteExtra: true, Verify: true, Workers: 1})
	wantErr(t, err, ErrDiffers)
	if !strings.Contains(err.Error(), "z-different") || totals.Failed != 1 || totals.Copied != 1 || totals.Deleted != 1 {
		t.Errorf("%+v, %v", totals, err)
	}
}

// unsorted is a client whose listing is out of order, by which a comparison
// would miss keys.
type unsorted struct{ kv.Forward }

func (u unsorted) Raw() (kv.Client, error) { return u, nil }

func (u unsorted) Entries(context.Context, string) iter.Seq2[kv.Entry, error] {
	return func(yield func(kv.Entry, error) bool) {
		for _, key := range []string{"b", "a"} {
			if !yield(kv.Entry{Key: key, Value: []byte("v")}, nil) {
				return
			}
		}
	}
}

func TestCompareRefusesAListingOutOfOrder(t *testing.T) {
	s := newStore(t, "a")
	odd, err := New("odd", unsorted{kv.Forward{Client: s.other}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Compare(t.Context(), odd, s.Side, CompareOptions{})
	if err == nil || !strings.Contains(err.Error(), `"a" came after "b"`) || !strings.Contains(err.Error(), `"odd"`) {
		t.Errorf("%v", err)
	}
}
