package side

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// once returns f that runs the first time only.
func once(f func()) func() {
	var ran atomic.Bool
	return func() {
		if ran.CompareAndSwap(false, true) {
			f()
		}
	}
}

func TestCopy(t *testing.T) {
	for name, c := range map[string]struct {
		from, to string
		wrote    bool
	}{
		"create": {"v", "", true},
		"change": {"v", "w", true},
		"delete": {"", "w", true},
		"equal":  {"v", "v", false},
		"absent": {"", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := newStore(t, "a"), newStore(t, "b")
			from.put(t, "k", c.from)
			to.put(t, "k", c.to)
			for range 2 { // the second time there is nothing to do
				wrote, err := copyKey(t.Context(), from.Side, to.Side, "k", nil)
				if wrote != c.wrote || err != nil {
					t.Fatalf("Copy = %v, %v", wrote, err)
				}
				if c.from == "" {
					to.want(t, "k", nil)
				} else {
					to.want(t, "k", c.from)
				}
				c.wrote = false
			}
		})
	}
}

// The steady write costs two reads of From and one trip to To, whose version
// is remembered.
func TestCopyCostsLittle(t *testing.T) {
	from, to := newStore(t, "a"), newStore(t, "b")
	guard := Guards(to.setRecord(t, Standby))
	for i, value := range []string{"1", "2", "3"} {
		from.put(t, "k", value)
		reads, trips := from.hooks.gets.Load(), to.hooks.gets.Load()+to.hooks.swaps.Load()
		if _, err := copyKey(t.Context(), from.Side, to.Side, "k", guard); err != nil {
			t.Fatal(err)
		}
		reads, trips = from.hooks.gets.Load()-reads, to.hooks.gets.Load()+to.hooks.swaps.Load()-trips
		if i > 0 && (reads != 2 || trips != 1) {
			t.Errorf("write %d cost %d reads of the one and %d trips to the other", i, reads, trips)
		}
	}
}

// Two tasks, told in docs/migration.md: the primary goes B to A and task 1
// decides to write A over B and stalls; the primary goes back to B, task 2
// finds both equal and declines, so the version in the secondary does not
// move; then the swap of task 1 lands. Only its second look at the primary
// notices.
func TestCopyLooksAgainAfterItsSwap(t *testing.T) {
	from, to := newStore(t, "a"), newStore(t, "b")
	from.put(t, "k", "A")
	to.put(t, "k", "B")
	other, err := New("b", to.other, nil)
	if err != nil {
		t.Fatal(err)
	}
	stall := once(func() {
		from.put(t, "k", "B")
		if wrote, err := copyKey(t.Context(), from.Side, other, "k", nil); wrote || err != nil {
			t.Errorf("the second task must find both equal: %v, %v", wrote, err)
		}
	})
	to.hooks.onSwap = func(_ driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
		stall()
		return do()
	}
	if _, err := copyKey(t.Context(), from.Side, to.Side, "k", nil); err != nil {
		t.Fatal(err)
	}
	to.want(t, "k", "B")
}

func TestCopyReadsAfreshAfterAConflict(t *testing.T) {
	from, to := newStore(t, "a"), newStore(t, "b")
	from.put(t, "k", "1")
	to.put(t, "k", "0")
	conflict := once(func() {
		to.put(t, "k", "theirs")
		from.put(t, "k", "2")
	})
	to.hooks.onSwap = func(s driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
		conflict()
		if string(s.Value) != "2" && to.hooks.swaps.Load() > 1 {
			t.Errorf("swapped in %q, which the primary no longer has", s.Value)
		}
		return do()
	}
	if _, err := copyKey(t.Context(), from.Side, to.Side, "k", nil); err != nil {
		t.Fatal(err)
	}
	to.want(t, "k", "2")
}

// Told in docs/migration.md: if only the source were guarded, the swap of a
// late mirror could bring back a key that was deleted on the new primary.
func TestLateMirrorIsFencedByItsTarget(t *testing.T) {
	from, to := newStore(t, "a"), newStore(t, "b")
	guard := Guards(to.setRecord(t, Standby))
	from.put(t, "k", "A")
	to.hooks.onSwap = func(_ driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
		to.setRecordAs(t, to.other, Filling) // the cutover goes on meanwhile
		return do()
	}
	_, err := copyKey(t.Context(), from.Side, to.Side, "k", guard)
	wantErr(t, err, kv.ErrFenced)
	to.want(t, "k", nil)
}

// setRecordAs is setRecord by another client.
func (s *store) setRecordAs(t *testing.T, c kv.Client, state State) {
	t.Helper()
	other, err := New(s.Name(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	(&store{Side: other}).setRecord(t, state)
}

// lostSwap is a swap whose answer was lost and that lands when the test says.
type lostSwap struct{ land func() }

// loseFirst makes the first swap of s's client one of those; what comes
// next is not understood as an answer to it, as with a store that can't tell
// whose write it was.
func (s *store) loseFirst(t *testing.T) *lostSwap {
	var late lostSwap
	first := true
	s.hooks.onSwap = func(sw driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
		if late.land != nil && first {
			if sw.ID == s.lastID {
				return driver.Result{}, errLost // the engine's repeats of it get lost too
			}
			first = false
		}
		if late.land == nil {
			s.lastID = sw.ID
			late.land = func() {
				if _, err := s.hooks.Store.Swap(context.Background(), sw); err != nil {
					t.Error(err)
				}
			}
			return driver.Result{}, errLost
		}
		return do()
	}
	return &late
}

// A swap of unknown outcome may still land. That both sides are equal now is
// then not enough: the version must move first.
func TestCopyKeepsOutItsOwnLateSwap(t *testing.T) {
	from, to := newStore(t, "a"), newStore(t, "b")
	from.put(t, "k", "A")
	to.put(t, "k", "B")
	late := to.loseFirst(t)
	from.hooks.onGet = func(driver.GetRequest) {
		if late.land != nil {
			from.put(t, "k", "B") // back to what the other side has
		}
	}
	if _, err := copyKey(t.Context(), from.Side, to.Side, "k", nil); err != nil {
		t.Fatal(err)
	}
	late.land()
	to.want(t, "k", "B")
}

// A creation of unknown outcome can't be kept out: the task must be kept.
func TestCopyIsNotDoneWhileItsCreationMayLand(t *testing.T) {
	from, to := newStore(t, "a"), newStore(t, "b")
	from.put(t, "k", "A")
	late := to.loseFirst(t)
	from.hooks.onGet = func(driver.GetRequest) {
		if late.land != nil {
			from.put(t, "k", "")
		}
	}
	wrote, err := copyKey(t.Context(), from.Side, to.Side, "k", nil)
	if wantErr(t, err, kv.ErrIndeterminate); wrote {
		t.Error("it says that it wrote")
	}
	late.land()
	to.want(t, "k", "A")
	if wrote, err := copyKey(t.Context(), from.Side, to.Side, "k", nil); !wrote || err != nil {
		t.Fatalf("the next attempt: %v, %v", wrote, err)
	}
	to.want(t, "k", nil)
}

func TestCopyGivesUpOnAKeyThatKeepsChanging(t *testing.T) {
	from, to := newStore(t, "a"), newStore(t, "b")
	n := 0
	from.hooks.onGet = func(driver.GetRequest) {
		n++
		from.put(t, "k", strings.Repeat("x", n%50+1))
	}
	wrote, err := copyKey(t.Context(), from.Side, to.Side, "k", nil)
	if wantErr(t, err, kv.ErrConflict); !wrote {
		t.Error("it says that it wrote nothing")
	}
}

func TestCopyReportsWhatItMeets(t *testing.T) {
	from, to := newStore(t, "a"), newStore(t, "b")
	from.put(t, "k", "A")
	ctx, cancel := context.WithCancel(t.Context())
	to.hooks.onSwap = func(_ driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
		cancel()
		return driver.Result{}, errLost
	}
	_, err := copyKey(ctx, from.Side, to.Side, "k", nil)
	wantErr(t, err, context.Canceled)
	_, err = copyKey(ctx, from.Side, to.Side, "k", nil)
	wantErr(t, err, context.Canceled)
	_, err = copyKey(t.Context(), from.Side, to.Side, "a//b", nil)
	wantErr(t, err, kv.ErrInvalidKey)
}

// Values that merge are equal if merging changes nothing, whatever the bytes.
func TestTaskWithAnEqualOfItsOwn(t *testing.T) {
	from, to := newStore(t, "a"), newStore(t, "b")
	from.put(t, "k", "v")
	to.put(t, "k", "V")
	task := Task{From: from.Side, To: to.Side, Equal: func(a, b []byte) bool { return strings.EqualFold(string(a), string(b)) }}
	if wrote, err := task.Copy(t.Context(), "k"); wrote || err != nil {
		t.Fatalf("Copy = %v, %v", wrote, err)
	}
	to.put(t, "k", "")
	if wrote, err := task.Copy(t.Context(), "k"); !wrote || err != nil {
		t.Fatalf("Copy = %v, %v", wrote, err)
	}
	to.want(t, "k", "v")
}

// errors.Is works on what a FailedError holds.
var _ error = (*FailedError)(nil)

func TestFailedErrorShowsItsReasons(t *testing.T) {
	err := error(&FailedError{Count: 2, Failures: []Failure{{"k", errLost}}})
	if !errors.Is(err, errLost) || !strings.Contains(err.Error(), `"k"`) {
		t.Errorf("%v", err)
	}
}
