package conformance

import (
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/polykv/polykv/kv"
)

func contentionCases() []testCase {
	return []testCase{
		{"C5", "64-in-one-client", "64 contenders in one client all finish, and none fails", 0, contendersInOneClient},
		{"C5", "64-among-clients", "64 contenders among 8 clients all finish, and none fails", 0, contendersAmongClients},
		{"C5", "whatever-retry-says", "a conflict calls again, whatever the callback said of retry", needOneStore, conflictCallsAgain},
		{"C5", "gives-up", "a CAS that others keep overtaking ends with ErrConflict after Options.ContentionTimeout", needOneStore | needOptions, contentionTimeout},
		{"C5", "nested", "a CAS inside a callback on the same key works, and the outer one starts again", 0, nestedCAS},
		{"C5", "blocked-callback", "a callback that blocks holds up nobody else for long", 0, blockedCallback},
		{"C5", "panic", "a panic in a callback stays with its caller, and the others finish", 0, panicStays},
		{"C5", "goexit", "a callback that ends its goroutine writes nothing, and the others finish", 0, goexitStays},
		{"C5", "keys-apart", "a callback that blocks holds up no other key", 0, otherKeysGoOn},
	}
}

func (t *trial) contend(clients int) {
	t.Helper()
	const contenders, each = 64, 4
	all := t.openN(clients)
	t.each(contenders, func(i int) {
		for range each {
			if err := t.cas(all[i%clients], "hot", increment); err != nil {
				t.Fatalf("a contender failed: %v", err)
			}
		}
	})
	t.wantGet(all[0], "hot", strconv.Itoa(contenders*each))
}

func contendersInOneClient(t *trial)  { t.contend(1) }
func contendersAmongClients(t *trial) { t.contend(8) }

func conflictCallsAgain(t *trial) {
	a, b := t.open(), t.open()
	for _, retry := range []bool{false, true} {
		t.put(a, "k", "0")
		calls := 0
		t.ok(t.cas(a, "k", func(in any) (any, bool, error) {
			if calls++; calls <= 5 {
				t.ok(t.cas(b, "k", increment), "CAS of another client")
			}
			out, _, err := increment(in)
			return out, retry, err
		}), "a CAS that was overtaken five times")
		t.wantGet(b, "k", "6")
	}
}

func contentionTimeout(t *trial) {
	a, b := t.open(func(o *kv.Options) { o.ContentionTimeout = 200 * time.Millisecond }), t.open()
	calls := 0
	err := t.cas(a, "k", func(any) (any, bool, error) {
		calls++
		t.put(b, "k", "theirs "+strconv.Itoa(calls))
		return "mine", false, nil
	})
	t.wantErr(err, "a CAS that is always overtaken", kv.ErrConflict)
	t.wantGet(b, "k", "theirs "+strconv.Itoa(calls))
}

func nestedCAS(t *trial) {
	c := t.open()
	for _, key := range []string{"k", "absent"} {
		if key == "k" {
			t.put(c, key, "0")
		}
		calls := 0
		t.returns("a CAS with another one in its callback", func() {
			t.ok(t.cas(c, key, func(in any) (any, bool, error) {
				if calls++; calls == 1 {
					t.ok(t.cas(c, key, increment), "the CAS inside")
				}
				return increment(in)
			}), "the CAS outside")
		})
		t.wantGet(c, key, "2")
		if calls < 2 {
			t.Fatalf("the outer callback did not run again after the inner one had changed its key")
		}
	}
}

// blockedCallback blocks a callback of one that has its key for itself, and then
// of one that waited for another's before, as members of a group do.
func blockedCallback(t *trial) {
	for _, waited := range []bool{false, true} {
		blockedCallbackOf(t, waited)
	}
}

func blockedCallbackOf(t *trial, waited bool) {
	c, other := t.open(), t.open()
	t.put(c, "k", "0")
	letGo := func() {}
	if waited {
		letGo = t.heldCAS(c, "k")
	}
	blocked, release := make(chan struct{}), make(chan struct{})
	calls := 0
	slow := t.start(func() {
		t.ok(t.cas(c, "k", func(in any) (any, bool, error) {
			if calls++; calls == 1 {
				close(blocked)
				<-release
			}
			return increment(in)
		}), "the CAS whose callback blocked")
	})
	t.letOthersRun()
	letGo()
	t.receive(blocked, "the callback is called")
	const others = 12
	t.returns("a CAS beside one whose callback blocks", func() {
		t.each(others, func(i int) {
			t.ok(t.cas([]kv.Client{c, other}[i%2], "k", increment), "CAS")
		})
	})
	t.wantGet(other, "k", strconv.Itoa(others))
	close(release)
	slow.wait("the CAS whose callback blocked returns")
	t.wantGet(c, "k", strconv.Itoa(others+1))
}

// heldCAS starts a CAS that writes nothing, and returns, once its callback runs,
// what lets go of it.
func (t *trial) heldCAS(c kv.Client, key string) (letGo func()) {
	t.Helper()
	inside, release := make(chan struct{}, 100), make(chan struct{})
	held := t.start(func() {
		t.ok(t.cas(c, key, func(any) (any, bool, error) {
			inside <- struct{}{}
			<-release
			return nil, false, nil
		}), "the CAS that is held")
	})
	t.receive(inside, "the callback is called")
	return func() {
		close(release)
		held.wait("the CAS that was held returns")
	}
}

// troubled has every fourth of 32 callers of one client get into trouble in
// its callback, and wants the others to finish.
func (t *trial) troubled(trouble func()) {
	t.Helper()
	const callers = 32
	c := t.open()
	t.put(c, "k", "0")
	var finished atomic.Int64
	t.each(callers, func(i int) {
		err := t.cas(c, "k", func(in any) (any, bool, error) {
			if i%4 == 0 {
				trouble()
			}
			return increment(in)
		})
		t.ok(err, "CAS")
		finished.Add(1)
	})
	if n := finished.Load(); n != callers*3/4 {
		t.Fatalf("%d calls returned, want %d", n, callers*3/4)
	}
	t.wantGet(c, "k", strconv.Itoa(callers*3/4))
}

func panicStays(t *trial) {
	c := t.open()
	t.put(c, "k", "0")
	panics := func(in any) (any, bool, error) { panic(errPicky) }
	for range 3 {
		caught := func() (p any) {
			defer func() { p = recover() }()
			err := t.cas(c, "k", panics)
			t.Errorf("a CAS whose callback panicked returned %v", err)
			return nil
		}()
		if caught != any(errPicky) {
			t.Fatalf("the panic of a callback arrived at its caller as %v", caught)
		}
		t.ok(t.cas(c, "k", increment), "a CAS after one that panicked")
	}
	t.wantGet(c, "k", "3")
	t.each(16, func(i int) {
		defer func() {
			if p := recover(); p != nil && p != any(errPicky) {
				t.Errorf("a panic of another caller, or of the client: %v", p)
			}
		}()
		if i%4 == 0 {
			_ = t.cas(c, "k", panics) // it doesn't return
			return
		}
		t.ok(t.cas(c, "k", increment), "a CAS beside others that panic")
	})
	t.wantGet(c, "k", "15")
}

func goexitStays(t *trial) { t.troubled(runtime.Goexit) }

func otherKeysGoOn(t *trial) {
	c := t.open()
	blocked, release := make(chan struct{}), make(chan struct{})
	slow := t.start(func() {
		var first atomic.Bool
		t.ok(t.cas(c, "slow", func(any) (any, bool, error) {
			if first.CompareAndSwap(false, true) {
				close(blocked)
				<-release
			}
			return "v", false, nil
		}), "the CAS whose callback blocked")
	})
	t.receive(blocked, "the callback is called")
	t.returns("work on other keys", func() {
		t.put(c, "other", "v")
		t.wantGet(c, "other", "v")
		t.wantGet(c, "slow", nil)
		t.wantList(c, "", "other")
		t.delete(c, "other")
	})
	close(release)
	slow.wait("the CAS whose callback blocked returns")
	t.wantGet(c, "slow", "v")
}
