package conformance

import (
	"context"

	"github.com/polykv/polykv/kv"
)

// leftCases are those of loops that are left, and watches whose callback has
// had enough, while something happens to the store.
func leftCases() []testCase {
	return []testCase{
		{"Entries", "left-amid-end", "a loop that is left as its ctx or its client ends yields nothing more", 0, leftAmidEnd},
		{"Entries", "left-amid-change", "a loop that is left as keys change yields nothing more", 0, leftAmidChange},
		{"Entries", "left-amid-cut", "a loop that is left as the line breaks yields nothing more", needLine, leftAmidCut},
		{"Entries", "left-amid-restart", "a loop that is left as the server restarts yields nothing more", needRestart, leftAmidRestart},
		{"Entries", "left-amid-compaction", "a loop that is left as the store forgets its moment yields nothing more", needCompact, leftAmidCompaction},
		{"W5", "false-amid-cut", "a watch whose callback returns false as the line breaks calls no more", needLine, falseAmidCut},
	}
}

// leave begins loops over the entries of c, and has fault happen in the body
// before it leaves them: at the first entry, in the middle, at the last one. The
// runtime panics, which fails the case, if an iterator goes on after that.
// Recover undoes the fault; nil: there is nothing to undo.
func (t *trial) leave(c kv.Client, fault, recover func()) {
	t.Helper()
	for _, at := range []int{1, leftKeys / 2, leftKeys} {
		n := 0
		for _, err := range kv.Entries(t.ctx(), c, "p/") {
			t.ok(err, "Entries")
			if n++; n == at {
				fault()
				break
			}
		}
		if recover != nil {
			recover()
		}
		if n != at {
			t.Fatalf("the loop was to be left at entry %d and ended at %d", at, n)
		}
	}
}

const leftKeys = 6

// small makes pages of three entries, so that a loop is left with more to read.
func small(o *kv.Options) { o.ScanPage = 3 }

func leftAmidEnd(t *trial) {
	writer := t.open()
	t.fill(writer, "p/", leftKeys)
	for at := 1; at <= leftKeys; at++ {
		c := t.open(small)
		ctx, cancel := context.WithCancel(t.ctx())
		for _, end := range []func(){cancel, func() { t.ok(c.Close(), "Close") }} {
			n := 0
			for _, err := range kv.Entries(ctx, c, "p/") {
				t.ok(err, "Entries")
				if n++; n == at {
					end()
					break
				}
			}
			ctx = t.ctx()
		}
	}
}

func leftAmidChange(t *trial) {
	c, writer := t.open(small), t.open()
	t.fill(writer, "p/", leftKeys)
	t.leave(c, func() {
		t.put(writer, "p/zz", "later")
		t.put(c, "p/00000", "changed")
	}, func() { t.delete(writer, "p/zz") })
}

func leftAmidCut(t *trial) {
	c, line := t.openLine(small)
	writer := t.open()
	t.fill(writer, "p/", leftKeys)
	for _, breaks := range []func(){line.Cut, line.Hang} {
		t.leave(c, breaks, line.Mend)
	}
}

func leftAmidRestart(t *trial) {
	c := t.open(small)
	t.fill(c, "p/", leftKeys)
	t.leave(c, func() { t.disrupt("Restart", t.store.Restart) }, nil)
}

func leftAmidCompaction(t *trial) {
	c := t.open(small)
	t.fill(c, "p/", leftKeys)
	t.leave(c, func() {
		t.put(c, "other", "v")
		t.disrupt("Compact", t.store.Compact)
	}, nil)
}

func falseAmidCut(t *trial) {
	c, line := t.openLine()
	other := t.open()
	t.fill(other, "p/", leftKeys)
	for at := 1; at <= leftKeys; at++ {
		calls := 0
		t.returns("a watch whose callback returns false as the line breaks", func() {
			c.WatchPrefix(t.ctx(), "p/", func(string, any) bool {
				if calls++; calls == at {
					t.cutUntilTold(line)
					return false
				}
				return true
			})
		})
		if calls != at {
			t.Fatalf("the callback returned false in call %d, and was called %d times", at, calls)
		}
	}
}

// cutUntilTold cuts a line until it has been tried again, and mends it: the
// watch whose callback calls this has something new to tell by then.
func (t *trial) cutUntilTold(line Line) {
	t.Helper()
	t.cutUntilNoticed(line)
	line.Mend()
}
