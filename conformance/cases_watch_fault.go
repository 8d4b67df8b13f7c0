package conformance

import (
	"context"
	"fmt"
	"time"
)

func watchFaultCases() []testCase {
	return []testCase{
		{"W6", "deleted-meanwhile", "what was deleted while the line was cut is told after it", needLine | needDeletes, deletedDuringCut},
		{"W6", "changed-meanwhile", "what changed while the line was cut is told after it, and nothing else", needLine, changedDuringCut},
		{"W6", "starts-cut", "a watch that starts while the store is away delivers once it is back", needLine, watchStartsCut},
		{"W6", "flapping", "a line that is cut again and again costs no state and repeats none", needLine, flappingLine},
		{"W6", "hung", "a store that did not answer for a while costs no state", needLine, watchOverHungLine},
		{"W6", "not-hot", "a watch backs off while the store is away", needLine, watchBacksOff},
		{"W6", "ends-while-cut", "a watch ends promptly while the store is away", needLine, watchEndsWhileCut},
	}
}

// cutUntilNoticed cuts a line and waits until the clients have tried again.
func (t *trial) cutUntilNoticed(line Line) {
	t.Helper()
	before := line.Attempts()
	line.Cut()
	t.eventually("the watch tries again over the cut line", func() bool { return line.Attempts() > before })
}

func deletedDuringCut(t *trial) {
	c, line := t.openLine()
	other := t.open()
	t.put(other, "k", "v")
	t.put(other, "l", "v")
	t.put(other, "stays", "v")
	key, prefix := t.watchKey(c, "k"), t.watchPrefix(c, "")
	key.untilIs("k", "v")
	prefix.untilIs("stays", "v")
	t.cutUntilNoticed(line)
	t.delete(other, "k")
	t.delete(other, "l")
	line.Mend()
	key.untilIs("k", nil)
	prefix.untilIs("k", nil)
	prefix.untilIs("l", nil)
	t.put(other, "k", "again")
	key.untilIs("k", "again")
	prefix.untilIs("k", "again")
	key.wantExactly("k", "v", nil, "again")
	prefix.wantExactly("k", "v", nil, "again")
	prefix.wantExactly("stays", "v")
}

func changedDuringCut(t *trial) {
	c, line := t.openLine()
	other := t.open()
	for _, key := range []string{"p/changed", "p/same", "p/rewritten"} {
		t.put(other, key, "old")
	}
	w := t.watchPrefix(c, "p/")
	w.untilIs("p/same", "old")
	t.cutUntilNoticed(line)
	t.put(other, "p/changed", "between")
	t.put(other, "p/changed", "new")
	t.put(other, "p/rewritten", "other")
	t.put(other, "p/rewritten", "old")
	t.put(other, "p/created", "new")
	t.put(other, "p/passing", "new")
	t.delete(other, "p/passing")
	line.Mend()
	w.untilIs("p/changed", "new")
	w.untilIs("p/created", "new")
	t.put(other, "p/zz", "marker")
	w.untilIs("p/zz", "marker")
	w.wantConflated("p/changed", "old", "between", "new") // a session that goes on tells more than a snapshot
	w.wantExactly("p/same", "old")
	w.wantConflated("p/rewritten", "old", "other", "old")
	w.wantExactly("p/created", "new")
	w.wantConflated("p/passing", "new", nil)
}

func watchStartsCut(t *trial) {
	c, line := t.openLine()
	other := t.open()
	t.put(other, "k", "v")
	line.Cut()
	watches := []*watcher{t.watchKey(c, "k"), t.watchPrefix(c, ""), t.watchKey(c, "absent")}
	t.eventually("the watches have tried", func() bool { return line.Attempts() >= 4 })
	line.Mend()
	watches[0].untilIs("k", "v")
	watches[1].untilIs("k", "v")
	t.put(other, "absent", "v")
	watches[2].untilIs("absent", "v")
}

// flappingLine cuts and mends a line several times while each of three keys is
// written on, and lets the line come back to life in between.
func flappingLine(t *trial) {
	const flaps, writes = 5, 12
	c, line := t.openLine()
	other := t.open()
	watches := []*watcher{t.watchPrefix(c, "k"), t.watchKey(c, "k0"), t.watchKey(c, "k1")}
	ledgers := make([]ledger, 3)
	for flap := range flaps {
		t.each(len(ledgers)+1, func(g int) {
			if g == len(ledgers) {
				t.cutUntilNoticed(line)
				line.Mend()
				return
			}
			key := fmt.Sprintf("k%d", g)
			for i := range writes {
				if i%6 == 5 {
					t.delete(other, key)
					ledgers[g].add(nil)
					continue
				}
				value := fmt.Sprintf("%d.%d.%d", g, flap, i)
				t.put(other, key, value)
				ledgers[g].add(value)
			}
		})
		t.wantGet(c, "k0", nil)
	}
	t.checkWatches(watches, other, ledgers)
}

// watchOverHungLine has the line hang for longer than a request may take.
func watchOverHungLine(t *trial) {
	c, line := t.openLine(hastier)
	other := t.open()
	t.put(other, "k", "v")
	w := t.watchKey(c, "k")
	w.untilIs("k", "v")
	line.Hang()
	t.put(other, "k", "w")
	late := t.watchPrefix(c, "")
	t.put(other, "k", "x")
	if _, err := c.Get(t.ctx(), "k"); err == nil {
		t.Fatalf("Get succeeded over a line that hangs")
	}
	if len(w.all()) > 1 || len(late.all()) > 0 {
		t.Fatalf("a watch delivered %v over a line that hangs", append(w.all(), late.all()...))
	}
	line.Mend()
	w.untilIs("k", "x")
	late.untilIs("k", "x")
	t.put(other, "k", "marker")
	w.untilIs("k", "marker")
	late.untilIs("k", "marker")
	late.wantExactly("k", "x", "marker")
}

// watchBacksOff looks at the rate of attempts: a hot loop makes many thousands
// in the time that this takes.
func watchBacksOff(t *trial) {
	c, line := t.openLine()
	t.put(c, "k", "v")
	w := t.watchKey(c, "k")
	w.untilIs("k", "v")
	t.cutUntilNoticed(line)
	start, before := time.Now(), line.Attempts()
	time.Sleep(400 * time.Millisecond)
	attempts, took := line.Attempts()-before, time.Since(start)
	if allowed := 10 + int(took/(5*time.Millisecond)); attempts > allowed {
		t.Fatalf("a watch tried %d times in %v while the store was away, want at most %d", attempts, took, allowed)
	}
	line.Mend()
	t.put(t.open(), "k", "marker")
	w.untilIs("k", "marker")
	w.wantExactly("k", "v", "marker")
}

func watchEndsWhileCut(t *trial) {
	c, line := t.openLine()
	t.put(t.open(), "k", "v")
	for _, interrupt := range []func(){line.Cut, line.Hang} {
		before := t.watchKey(c, "k")
		before.untilIs("k", "v")
		interrupt()
		during := t.watchPrefix(c, "")
		before.stop()
		during.stop()
		line.Mend()
	}
	line.Cut()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	closing := t.start(func() { c.WatchKey(ctx, "k", func(any) bool { return true }) })
	t.returns("Close while the store is away", func() { t.ok(c.Close(), "Close") })
	closing.wait("a watch returns when its client is closed while the store is away")
}
