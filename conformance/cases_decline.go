package conformance

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/polykv/polykv/kv"
)

func declineCases() []testCase {
	return []testCase{
		{"C2", "current-decline", "a callback that declines rests on a value that was current after the call began", 0, declineIsCurrent},
		{"C2", "current-error", "a callback that fails rests on a value that was current after the call began", 0, errorIsCurrent},
		{"C2", "writes-nothing", "a callback that declines writes nothing and wakes no watch", 0, declineWritesNothing},
		{"C2", "absent", "declining on an absent key creates nothing", 0, declineCreatesNothing},
		{"C2", "group", "a caller that declines never rests on what another one failed to write", 0, declineInGroup},
		{"C2", "history", "concurrent writing and declining CAS calls are linearizable", needOneStore, historyOf(mixDeclines)},
	}
}

func declineIsCurrent(t *trial) {
	a, b := t.open(), t.open()
	t.put(a, "k", "old")
	for i := range 10 {
		theirs := strconv.Itoa(i)
		t.put(b, "k", theirs)
		var last any
		t.ok(t.cas(a, "k", func(in any) (any, bool, error) {
			last = in
			return nil, false, nil
		}), "a CAS that declines")
		if last != theirs {
			t.Fatalf("a CAS declined on %s, but %q had been written before it began", show(last), theirs)
		}
		t.put(a, "k", "mine")
	}
	t.delete(b, "k")
	var last any = "nothing"
	t.ok(t.cas(a, "k", func(in any) (any, bool, error) {
		last = in
		return nil, false, nil
	}), "a CAS that declines")
	if last != nil {
		t.Fatalf("a CAS declined on %s, but the key had been deleted before it began", show(last))
	}
}

func errorIsCurrent(t *trial) {
	a, b := t.open(), t.open()
	for i := range 10 {
		t.put(a, "k", "mine")
		theirs := strconv.Itoa(i)
		t.put(b, "k", theirs)
		err := t.cas(a, "k", func(in any) (any, bool, error) {
			return nil, false, fmt.Errorf("refused %v: %w", in, errPicky)
		})
		t.wantErr(err, "a CAS whose callback fails", errPicky)
		if !strings.Contains(err.Error(), "refused "+theirs+":") {
			t.Fatalf("a CAS failed with %q, but %q had been written before it began", err, theirs)
		}
	}
}

func declineWritesNothing(t *trial) {
	a, b := t.open(), t.open()
	t.put(a, "k", "v")
	w := t.watchKey(b, "k")
	w.untilIs("k", "v")
	unchanged := t.unchanged(b, "k")
	for range 5 {
		for _, c := range []kv.Client{a, b} {
			t.ok(t.cas(c, "k", func(any) (any, bool, error) { return nil, false, nil }), "a CAS that declines")
			t.ok(t.cas(c, "k", func(any) (any, bool, error) { return nil, true, nil }), "a CAS that declines, with retry set")
		}
	}
	unchanged()
	t.wantGet(b, "k", "v")
	t.put(a, "k", "marker")
	w.untilIs("k", "marker")
	w.wantExactly("k", "v", "marker")
}

// unchanged returns what wants no write to key to have happened since, as far
// as the client shows versions.
func (t *trial) unchanged(c kv.Client, key string) func() {
	t.Helper()
	if !t.has(Versioned) {
		return func() {}
	}
	value, version, err := t.versions(c).GetVersion(t.ctx(), key)
	t.ok(err, "GetVersion")
	return func() {
		t.Helper()
		t.wantVersion(c, key, value, version)
	}
}

func declineCreatesNothing(t *trial) {
	a, b := t.open(), t.open()
	w := t.watchPrefix(b, "")
	called := false
	t.ok(t.cas(a, "k", func(in any) (any, bool, error) {
		called = true
		if in != nil {
			t.Errorf("a callback got %s for an absent key", show(in))
		}
		return nil, false, nil
	}), "a CAS that declines")
	if !called {
		t.Fatalf("CAS of an absent key called no callback")
	}
	t.wantGet(b, "k", nil)
	t.wantList(b, "")
	t.put(a, "k", "marker")
	w.untilIs("k", "marker")
	w.wantExactly("k", "marker")
}

// declineInGroup has callers of one client wait together, of whom some return
// what can't be encoded and others decline: nobody may rest on the former.
func declineInGroup(t *trial) {
	c := t.openWith(picky{})
	t.put(c, "k", "0")
	var writes atomic.Int64
	t.each(24, func(i int) {
		for range 8 {
			var last any
			err := t.cas(c, "k", func(in any) (any, bool, error) {
				last = in
				switch i % 3 {
				case 0:
					return "!" + show(in), false, nil
				case 1:
					return increment(in)
				}
				return nil, false, nil
			})
			switch {
			case i%3 == 0:
				t.wantErr(err, "CAS of a value that can't be encoded", errPicky)
			case err != nil:
				t.Fatalf("CAS: %v", err)
			case i%3 == 1:
				writes.Add(1)
			}
			if s, ok := last.(string); !ok || number(s) < 0 {
				t.Fatalf("a callback got %s, which was never written", show(last))
			}
		}
	})
	t.wantGet(c, "k", strconv.FormatInt(writes.Load(), 10))
}
