package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// before runs f once, before the nth write of a record of a store by r's own
// clients is carried out.
func (r *rig) before(store, n int, f func()) {
	writes := 0
	r.hooks[store].onSwap = func(s driver.Swap) error {
		if s.Key == side.RecordKey {
			if writes++; writes == n {
				f()
			}
		}
		return nil
	}
}

// Told in docs/migration.md: an abort that found the target standby must move
// its version. Otherwise a cutover that had read it, and stalled, would go on to
// filling after the abort had unsealed the source, and then make a second
// primary.
func TestAbortStopsACutoverThatStallsBeforeFilling(t *testing.T) {
	r := newRig(t)
	r.put(0, "k", "v")
	r.set("primary standby")
	r.before(1, 2, func() { // the first one tries whether it may be written
		r.want("sealed standby")
		r.do(r.again().migration(Options{}).Abort)
	})
	_, err := r.migration(Options{}).Cutover(t.Context())
	wantErr(t, err, ErrAborted)
	r.want("primary standby")
}

// The same with a cutover that found the work half done, and stalls before it
// makes the target primary.
func TestAbortStopsACutoverThatStallsBeforeItFlips(t *testing.T) {
	r := newRig(t)
	r.put(0, "k", "v")
	r.set("sealed filling")
	r.before(1, 1, func() {
		r.do(r.again().migration(Options{}).Abort)
		r.put(0, "k", "written after the abort")
	})
	_, err := r.migration(Options{}).Cutover(t.Context())
	wantErr(t, err, ErrAborted)
	r.want("primary standby")
}

// A cutover seals the source again before it flips: what an abort that read it
// before was about to do must fail.
func TestCutoverStopsAnAbortThatStallsBeforeUnsealing(t *testing.T) {
	r := newRig(t)
	r.put(0, "k", "v")
	r.set("sealed standby")
	r.before(0, 1, func() { // the abort has changed the target, and is about to unseal the source
		r.do(r.again().migration(Options{}).Cutover)
	})
	result, err := r.migration(Options{}).Abort(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.want("standby primary")
	if r.all(1) != "k=v " || result.Phase != Reversed {
		t.Errorf("%s, %+v", r.all(1), result)
	}
}

// Nothing that an earlier run copied is trusted: it may have been copied before
// an abort let clients write again.
func TestCutoverVerifiesWhatAnotherRunCopied(t *testing.T) {
	r := newRig(t)
	r.put(0, "changed", "new")
	r.put(0, "missing", "v")
	r.put(1, "changed", "old")
	r.put(1, "extra", "v")
	r.set("sealed filling")
	result := r.do(r.migration(Options{}).Cutover)
	if r.all(1) != "changed=new missing=v " || result.Fenced.Copied != 2 || result.Fenced.Deleted != 1 || result.Pause != 0 {
		t.Errorf("%s, %+v", r.all(1), result)
	}
}

// Told in docs/migration.md: the write of a mirror that stalled through the
// whole cutover must not bring back what was deleted on the new primary since.
func TestMirrorOfBeforeTheCutoverLandsNowhere(t *testing.T) {
	r, late := newRig(t), (*rig)(nil)
	late = r.again()
	r.put(0, "k", "A")
	r.set("primary standby")
	_, version, err := r.sides[1].ReadRecord(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	late.hooks[1].onSwap = func(driver.Swap) error {
		late.hooks[1].onSwap = nil
		r.do(r.migration(Options{}).Cutover)
		r.put(1, "k", "") // a client deletes it on the new primary
		return nil
	}
	from, err := side.New("old", late.clients[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	to, err := side.New("new", late.clients[1], nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = side.Task{From: from, To: to, Guards: side.Guards(version)}.Copy(t.Context(), "k")
	wantErr(t, err, kv.ErrFenced)
	if r.all(1) != "" {
		t.Errorf("the new primary holds %s", r.all(1))
	}
}

// A client that was away during the cutover can't write to the old store.
func TestClientOfBeforeTheCutoverIsFenced(t *testing.T) {
	r := newRig(t)
	r.put(0, "k", "A")
	r.set("primary standby")
	_, version, err := r.sides[0].ReadRecord(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	guarded, err := kv.Guarded(r.others[0])
	if err != nil {
		t.Fatal(err)
	}
	err = guarded.CASGuarded(t.Context(), "k", func(any) (any, bool, error) {
		r.do(r.again().migration(Options{}).Cutover)
		return "B", false, nil
	}, side.Guards(version)[0])
	wantErr(t, err, kv.ErrFenced)
	wantErr(t, guarded.DeleteGuarded(t.Context(), "k", side.Guards(version)[0]), kv.ErrFenced)
	if r.all(0) != "k=A " || r.all(1) != "k=A " {
		t.Errorf("%s and %s", r.all(0), r.all(1))
	}
}

// A roll-back and a finish at once can leave the old primary retired and the
// new one sealed. The roll-back notices and lets clients write again.
func TestFinishDuringARollback(t *testing.T) {
	r := newRig(t)
	r.put(0, "k", "v")
	r.put(1, "k", "v")
	r.set("standby primary")
	r.before(0, 2, func() { // the roll-back has sealed the target
		record, version, err := r.sides[0].ReadRecord(context.Background())
		if err != nil {
			t.Error(err)
		}
		record.State = side.Retired // a finish that had read both before
		if _, _, err := r.sides[0].SwapRecord(context.Background(), version, record); err != nil {
			t.Error(err)
		}
		r.want("retired sealed")
	})
	_, err := r.migration(Options{}).Rollback(t.Context())
	wantErr(t, err, ErrRefused)
	if !strings.Contains(err.Error(), "was undone") {
		t.Error(err)
	}
	r.want("retired primary")
}

// A cutover that fails after it has sealed lets clients write again.
func TestCutoverThatFailsIsUndone(t *testing.T) {
	r := newRig(t)
	r.put(0, "a", "v")
	r.set("primary standby")
	// A value that is too large for the new store arrives after the cutover
	// has looked, before it seals.
	options := quiet
	options.MaxValueSize = 1000
	tight := kv.New(r.data[1].Open(), codec.String{}, &options)
	defer tight.Close()
	r.before(0, 1, func() { r.put(0, "big", strings.Repeat("x", 2000)) })
	m, err := New(Backend{Name: "old", Client: r.clients[0]}, Backend{Name: "new", Client: tight}, Options{AllowNoClients: true, AllowDifferences: true})
	if err != nil {
		t.Fatal(err)
	}
	result, err := m.Cutover(t.Context())
	wantErr(t, err, kv.ErrTooLarge)
	if !strings.Contains(err.Error(), "was undone") || !strings.Contains(err.Error(), `"big"`) || result.Phase != Mirroring {
		t.Errorf("%v, %+v", err, result)
	}
	r.want("primary standby")
	// And one that fails before it seals changes nothing.
	result, err = m.Cutover(t.Context())
	wantErr(t, err, kv.ErrTooLarge)
	if len(result.Changes) != 0 {
		t.Errorf("it made %v", result.Changes)
	}
}

func TestCutoverThatIsCancelledIsUndone(t *testing.T) {
	for n, want := range map[int]string{
		1: "primary standby", // before it seals
		2: "primary standby", // before filling
		3: "standby primary", // it flips, and cancelling comes too late to undo it
	} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			r := newRig(t)
			r.put(0, "k", "v")
			r.set("primary standby")
			ctx, cancel := context.WithCancel(t.Context())
			r.before(1, n, cancel)
			_, err := r.migration(Options{}).Cutover(ctx)
			wantErr(t, err, context.Canceled)
			if n == 3 {
				r.do(r.migration(Options{}).Cutover)
			}
			r.want(want)
		})
	}
}

// If not even that is possible, the error says that writes may be waiting.
func TestCutoverThatCanNotBeUndoneSaysSo(t *testing.T) {
	r := newRig(t)
	r.put(0, "k", "v")
	r.set("primary standby")
	r.killAt(3)
	_, err := r.migration(Options{}).Cutover(t.Context())
	if !errors.Is(err, errKilled) || !strings.Contains(err.Error(), "writes may be waiting: run it again or abort it") {
		t.Errorf("%v", err)
	}
	r.want("sealed standby")
}

// Somebody who is not coordinated writes to a fenced store without end, right
// after each copy.
func TestCutoverGivesUpOnAForeignWriter(t *testing.T) {
	r := newRig(t)
	r.put(0, "k", "v")
	r.set("primary standby")
	n := 0
	r.hooks[1].onScan = func(string) {
		if r.states() == "sealed filling" {
			n++
			r.put(1, "k", fmt.Sprint("foreign ", n))
		}
	}
	r.hooks[1].onGet = func(key string) { // with which a key that was copied is verified
		if key == "k" && n > 0 {
			n++
			r.put(1, "k", fmt.Sprint("foreign ", n))
		}
	}
	_, err := r.migration(Options{}).Cutover(t.Context())
	if err == nil || !strings.Contains(err.Error(), "not coordinated") || !strings.Contains(err.Error(), "was undone") {
		t.Errorf("%v", err)
	}
	r.want("primary standby")
}

// A run that reads one record before and the other after somebody else's whole
// roll-back sees two primaries that never were.
func TestRecordsThatChangeWhileTheyAreRead(t *testing.T) {
	for name, look := range map[string]func(m *Migration) error{
		"rollback": func(m *Migration) error {
			_, err := m.Rollback(context.Background())
			return err
		},
		"copy": func(m *Migration) error {
			_, err := m.Copy(context.Background(), CopyOptions{})
			return err
		},
		"status": func(m *Migration) error {
			st, err := m.Status(context.Background())
			if err == nil && st.Phase == Broken {
				err = errors.New(st.Now)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			states, moving := "standby primary", (*Migration).Rollback
			second := 0
			if name != "rollback" { // the others read the source first
				states, moving, second = "primary standby", (*Migration).Cutover, 1
			}
			r.set(states)
			moved := false
			r.hooks[second].onGet = func(key string) {
				if key == side.RecordKey && !moved {
					moved = true
					if _, err := moving(r.again().migration(Options{}), context.Background()); err != nil {
						t.Error(err)
					}
				}
			}
			if err := look(r.migration(Options{})); err != nil {
				t.Error(err)
			}
			if !moved {
				t.Error("nothing happened in between")
			}
		})
	}
}

// What a cutover copies is guarded like everything else: a write of it that
// stalls, before or after it has sealed, lands nowhere once another run has
// ended the cutover and a client has deleted the key.
func TestCopyingOfACutoverThatStallsLandsNowhere(t *testing.T) {
	for _, states := range []string{"primary standby", "sealed filling"} {
		t.Run(states, func(t *testing.T) {
			r := newRig(t)
			r.put(0, "k", "A")
			r.set(states)
			stalled := false
			r.hooks[1].onSwap = func(s driver.Swap) error {
				if s.Key == "k" && !stalled {
					stalled = true
					r.do(r.again().migration(Options{}).Cutover)
					r.put(1, "k", "")
				}
				return nil
			}
			r.do(r.migration(Options{}).Cutover)
			if !stalled || r.all(1) != "" {
				t.Errorf("the new primary holds %s", r.all(1))
			}
		})
	}
}
