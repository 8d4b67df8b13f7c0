package conformance

import (
	"context"
	"fmt"
	"strconv"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
)

func watchServerCases() []testCase {
	return []testCase{
		{"W6", "restart", "watches survive a restart of the server", needRestart, watchSurvives(func(s Store) func(context.Context) error { return s.Restart })},
		{"W6", "leader-change", "watches survive a change of leader", needLeader, watchSurvives(func(s Store) func(context.Context) error { return s.ChangeLeader })},
		{"W6", "compaction", "watches survive a compaction", needCompact, watchSurvives(func(s Store) func(context.Context) error { return s.Compact })},
		{"W6", "compacted-meanwhile", "a watch whose changes were compacted away while its line was cut finds back", needCompact | needLine, compactedMeanwhile},
		{"W6", "restored", "a store that was set back to a backup shows in watches, reads and writes", needSnapshot, restoredStore},
	}
}

// watchSurvives has watches of several clients go through a disruption, with
// changes before, during and after it.
func watchSurvives(hook func(Store) func(context.Context) error) func(*trial) {
	return func(t *trial) {
		disrupt := hook(t.store)
		clients := t.openN(3)
		t.put(clients[0], "k0", "before")
		t.put(clients[0], "k1", "before")
		ledgers := []ledger{{"before"}, {"before"}}
		watches := t.watchBoth(clients, "k0", "k")
		for _, w := range watches {
			w.untilIs("k0", "before")
		}
		for round := range 2 {
			t.disrupt("the disruption", disrupt)
			c := clients[round]
			for i := range 5 {
				value := fmt.Sprintf("%d.%d", round, i)
				t.putSurely(c, "k0", value)
				ledgers[0].add(value)
			}
			t.deleteSurely(c, "k1")
			ledgers[1].add(nil)
			t.putSurely(c, "k1", strconv.Itoa(round))
			ledgers[1].add(strconv.Itoa(round))
			for _, w := range watches {
				w.untilIs("k0", fmt.Sprintf("%d.4", round))
			}
		}
		t.checkWatches(watches, clients[2], ledgers)
	}
}

// putSurely writes until the value is there: after a disruption an outcome may
// be unknown once.
func (t *trial) putSurely(c kv.Client, key string, value any) {
	t.Helper()
	t.eventually("a write succeeds", func() bool {
		return tryPut(t.ctx(), c, key, value) == nil || t.get(c, key) == value
	})
}

func (t *trial) deleteSurely(c kv.Client, key string) {
	t.Helper()
	t.eventually("a deletion succeeds", func() bool { return c.Delete(t.ctx(), key) == nil })
}

func compactedMeanwhile(t *trial) {
	c, line := t.openLine()
	other := t.open()
	t.put(other, "p/changed", "old")
	t.put(other, "p/deleted", "old")
	t.put(other, "p/same", "old")
	w := t.watchPrefix(c, "p/")
	w.untilIs("p/same", "old")
	t.cutUntilNoticed(line)
	for i := range 10 {
		t.put(other, "p/changed", strconv.Itoa(i))
	}
	t.delete(other, "p/deleted")
	t.disrupt("Compact", t.store.Compact)
	t.put(other, "p/created", "new")
	line.Mend()
	w.untilIs("p/changed", "9")
	w.untilGone("p/deleted")
	w.untilIs("p/created", "new")
	t.put(other, "p/zz", "marker")
	w.untilIs("p/zz", "marker")
	w.wantExactly("p/same", "old")
	w.wantExactly("p/created", "new")
	wantNoStrayDeletes(t, w)
}

// restoredStore sets the store back, by which its index falls and versions
// seen before mean nothing.
func restoredStore(t *trial) {
	c, other := t.open(), t.open()
	t.put(c, "k", "saved")
	t.put(c, "deleted", "saved")
	t.put(c, "same", "saved")
	var restore func(context.Context) error
	t.disrupt("Snapshot", func(ctx context.Context) (err error) {
		restore, err = t.store.Snapshot(ctx)
		return err
	})
	for range 20 {
		t.put(c, "filler", "v")
	}
	t.put(c, "k", "newer")
	t.delete(c, "deleted")
	t.put(c, "later", "newer")
	w := t.watchPrefix(c, "")
	w.untilIs("same", "saved")

	t.disrupt("the restore", restore)
	w.untilIs("k", "saved")
	w.untilIs("deleted", "saved")
	w.untilGone("later")
	w.wantExactly("same", "saved")
	for _, reader := range []kv.Client{c, other, t.openWith(codec.String{})} {
		t.wantGet(reader, "k", "saved")
		t.wantGet(reader, "later", nil)
	}
	last := any("nothing")
	t.ok(t.cas(c, "k", func(in any) (any, bool, error) {
		last = in
		return "after", false, nil
	}), "CAS after a restore")
	if last != "saved" {
		t.Fatalf("a CAS after a restore rests on %s", show(last))
	}
	t.putSurely(other, "later", "again")
	w.untilIs("k", "after")
	w.untilIs("later", "again")
}
