package conformance

import (
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
)

func unknownOutcomeCases() []testCase {
	return []testCase{
		{"C7", "deleted-after-create", "a create whose answer was lost is not repeated after another client deleted the key", needLine, lostCreateThenDelete},
		{"C7", "changed-back-after-update", "an update whose answer was lost is not repeated after another client wrote the old value back", needLine | needOneStore, lostUpdateThenChangedBack},
		{"C7", "created-after-delete", "a Delete whose answer was lost takes nothing that was created since", needLine, lostDeleteThenCreated},
		{"C7", "lost-answers", "each write counts once when answers get lost", needLine, lostAnswers(true)},
		{"C7", "lost-requests", "no write is reported that never arrived", needLine, lostAnswers(false)},
		{"C7", "resolved-by-versions", "an update that never arrived is resolved by repeating it", needLine | needOneStore, lostUpdateIsRepeated},
		{"C7", "unresolvable", "a write that was sent and can't be asked about ends with ErrIndeterminate after RetryTimeout", needLine | needOptions, unresolvable},
		{"C7", "swap-version", "a SwapVersion whose answer was lost is never told as a conflict", needLine | needVersioned, lostSwapVersion},
		{"C7", "guarded", "a guarded write whose answer was lost is never told as fenced, and one that was lost and fenced never lands", needLine | needGuarded | needVersioned, lostGuarded},
		{"C7", "delete-once", "a Delete whose answer was lost succeeds or says so", needLine, lostDelete},
		{"C7", "history", "histories with lost requests and answers are linearizable", needLine | needOneStore, lossyHistory},
		{"C7", "among-restarts", "each write counts once while the server restarts", needRestart, writesAmongRestarts},
	}
}

// loseNext has one write carried out and its answer lost, and then does what
// happens meanwhile. It is the first write after which landed is true: one
// that found something else than it expected changes nothing and is answered.
func loseNext(line Line, landed func() bool, meanwhile func()) {
	lost := false
	line.OnWrite(func(carryOut func()) bool {
		carryOut()
		if lost || !landed() {
			return true
		}
		lost = true
		meanwhile()
		return false
	})
}

// loseRequest has the next write not carried out and its outcome unknown.
func loseRequest(line Line) {
	lost := false
	line.OnWrite(func(carryOut func()) bool {
		if lost {
			carryOut()
			return true
		}
		lost = true
		return false
	})
}

// is returns whether key has this value now.
func (t *trial) is(c kv.Client, key string, value any) func() bool {
	return func() bool { return t.get(c, key) == value }
}

// wantOnce wants success, or ErrIndeterminate and nothing else.
func (t *trial) wantOnce(err error, what string) {
	t.Helper()
	if err != nil {
		t.wantErr(err, what+" whose answer was lost", kv.ErrIndeterminate)
	}
}

func lostCreateThenDelete(t *trial) {
	c, line := t.openLine()
	other := t.open()
	w := t.watchKey(other, "k")
	loseNext(line, t.is(other, "k", "mine"), func() {
		w.untilIs("k", "mine")
		t.delete(other, "k")
	})
	t.wantOnce(tryPut(t.ctx(), c, "k", "mine"), "a CAS")
	t.wantGet(other, "k", nil)
	t.put(other, "k", "marker")
	w.untilIs("k", "marker")
	states := w.of("k")
	if n := count(states, "mine"); n != 1 {
		t.Fatalf("a value was written %d times: %s", n, showAll(states))
	}
}

func count(values []any, want any) (n int) {
	for _, v := range values {
		if v == want {
			n++
		}
	}
	return n
}

func lostUpdateThenChangedBack(t *trial) {
	c, line := t.openLine()
	other := t.open()
	t.put(c, "k", "old")
	loseNext(line, t.is(other, "k", "mine"), func() { t.put(other, "k", "old") })
	t.wantOnce(tryPut(t.ctx(), c, "k", "mine"), "a CAS")
	t.wantGet(other, "k", "old")
}

func lostDeleteThenCreated(t *trial) {
	c, line := t.openLine()
	other := t.open()
	for _, value := range []string{"old", "new"} {
		t.put(other, "k", "old")
		loseNext(line, t.is(other, "k", nil), func() { t.put(other, "k", value) })
		t.wantOnce(c.Delete(t.ctx(), "k"), "a Delete")
		t.wantGet(other, "k", value)
		loseNext(line, t.is(other, "k", nil), func() { t.put(other, "k", value) })
		t.wantOnce(t.cas(c, "k", takeAway), "a CAS that removes")
		t.wantGet(other, "k", value)
	}
}

// lostAnswers has several callers count over a line that loses every third
// write or its answer.
func lostAnswers(arrive bool) func(*trial) {
	return func(t *trial) {
		c, line := t.openLine(quick)
		other := t.open(quick)
		n := 0
		line.OnWrite(func(carryOut func()) bool {
			n++
			if n%3 != 0 || arrive {
				carryOut()
			}
			return n%3 != 0
		})
		var sure, perhaps atomic.Int64
		t.each(6, func(i int) {
			for range 12 {
				key := "k"
				if i%3 == 0 {
					key = "l" + strconv.Itoa(i) // without company
				}
				by := c
				if i%3 == 1 {
					by = other
				}
				switch err := t.cas(by, key, increment); {
				case err == nil:
					sure.Add(1)
				case errors.Is(err, kv.ErrIndeterminate):
					perhaps.Add(1)
				default:
					t.Fatalf("CAS: %v", err)
				}
			}
		})
		sum := int64(0)
		for _, key := range t.list(other, "") {
			sum += int64(number(t.get(other, key)))
		}
		if sum < sure.Load() || sum > sure.Load()+perhaps.Load() {
			t.Fatalf("the counters add up to %d after %d increments and %d of unknown outcome", sum, sure.Load(), perhaps.Load())
		}
	}
}

func lostUpdateIsRepeated(t *trial) {
	c, line := t.openLine(quick)
	other := t.open()
	t.put(c, "k", "1")
	loseRequest(line)
	t.ok(t.cas(c, "k", increment), "a CAS of an existing key whose request was lost")
	t.wantGet(other, "k", "2")
}

// unresolvable has the line cut as soon as a write has arrived.
func unresolvable(t *trial) {
	other := t.open()
	for _, key := range []string{"k", "absent"} {
		c, line := t.openLine(hasty)
		if key == "k" {
			t.put(other, key, "old")
		}
		loseNext(line, t.is(other, key, "mine"), line.Cut)
		err := tryPut(t.ctx(), c, key, "mine")
		t.wantErr(err, "a CAS that arrived before the line was cut", kv.ErrIndeterminate)
		if text := err.Error(); !strings.Contains(text, strconv.Quote(t.store.Prefix+key)) || !strings.Contains(text, kv.ErrIndeterminate.Error()) {
			t.Fatalf("the error does not name the key and what it means: %v", err)
		}
		t.wantGet(other, key, "mine")
	}
	c, line := t.openLine(hasty)
	loseNext(line, t.is(other, "k", nil), line.Cut)
	t.wantErr(c.Delete(t.ctx(), "k"), "a Delete that arrived before the line was cut", kv.ErrIndeterminate)
	t.wantGet(other, "k", nil)
}

func lostSwapVersion(t *trial) {
	c, line := t.openLine(quick)
	other := t.open()
	for _, prev := range []any{nil, "old"} {
		if prev != nil {
			t.put(other, "k", prev)
		}
		_, version, err := t.versions(other).GetVersion(t.ctx(), "k")
		t.ok(err, "GetVersion")
		loseNext(line, t.is(other, "k", "mine"), func() {})
		told, err := t.versions(c).SwapVersion(t.ctx(), "k", version, "mine")
		t.wantOnce(err, "a SwapVersion")
		if err == nil {
			t.wantVersion(other, "k", "mine", told)
		}
		t.wantGet(other, "k", "mine")
	}
}

func lostGuarded(t *trial) {
	c, line := t.openLine(quick)
	other := t.open()
	t.put(other, "k", "old")
	guard := t.putGuard(other, c)
	loseNext(line, t.is(other, "k", "mine"), func() { t.put(other, "guard", "off") })
	t.wantOnce(t.guarded(c).CASGuarded(t.ctx(), "k", write("mine"), guard), "a CASGuarded")
	t.wantGet(other, "k", "mine")

	for _, theirs := range []string{"", "theirs"} { // what else is written meanwhile
		guard = t.guardOn(c, "guard")
		want := t.get(other, "k")
		first := true
		line.OnWrite(func(carryOut func()) bool {
			if first { // it gets lost, and before it is sent again it is fenced
				first = false
				t.put(other, "guard", "on"+theirs)
				if theirs != "" {
					t.put(other, "k", theirs)
					want = theirs
				}
				return false
			}
			carryOut()
			return true
		})
		err := t.guarded(c).CASGuarded(t.ctx(), "k", write("late"), guard)
		if !errors.Is(err, kv.ErrFenced) {
			t.wantErr(err, "a CASGuarded that was lost and fenced", kv.ErrIndeterminate)
		}
		t.wantGet(other, "k", want)
	}
}

func lostDelete(t *trial) {
	c, line := t.openLine(quick)
	other := t.open()
	for _, arrives := range []bool{true, false} {
		t.put(other, "k", "v")
		if arrives {
			loseNext(line, t.is(other, "k", nil), func() {})
		} else {
			loseRequest(line)
		}
		err := c.Delete(t.ctx(), "k")
		t.wantOnce(err, "a Delete")
		if err == nil {
			t.wantGet(other, "k", nil)
		}
	}
}

func lossyHistory(t *trial) {
	clients := t.openN(3, quick)
	for i := range 2 {
		c, line := t.openLine(quick)
		clients[i] = c
		line.OnWrite(func(carryOut func()) bool {
			switch rand.IntN(8) {
			case 0:
				return false
			case 1:
				carryOut()
				return false
			}
			carryOut()
			return true
		})
	}
	t.runHistory(clients, mixAll(), 12)
}

func writesAmongRestarts(t *trial) {
	clients := t.openN(3)
	var done atomic.Bool
	var sure, perhaps atomic.Int64
	restarts := t.start(func() {
		defer done.Store(true)
		for range 2 {
			before := sure.Load()
			t.disrupt("Restart", t.store.Restart)
			t.eventually("writes succeed after a restart", func() bool { return sure.Load() >= before+10 })
		}
	})
	t.each(6, func(i int) {
		for !done.Load() {
			switch err := t.cas(clients[i%3], "k", increment); {
			case err == nil:
				sure.Add(1)
			case errors.Is(err, kv.ErrIndeterminate):
				perhaps.Add(1)
			default:
				t.Fatalf("CAS while the server restarts: %v", err)
			}
		}
	})
	restarts.wait("the restarts end")
	got := int64(number(t.get(t.openWith(codec.String{}), "k")))
	if got < sure.Load() || got > sure.Load()+perhaps.Load() {
		t.Fatalf("the counter is %d after %d increments and %d of unknown outcome", got, sure.Load(), perhaps.Load())
	}
}
