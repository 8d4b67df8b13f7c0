package conformance

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/polykv/polykv/kv"
)

func callbackErrorCases() []testCase {
	return []testCase{
		{"C4", "error-comes-back", "the callback's error comes back, matchable by errors.Is and errors.As, with the key, and nothing is written", 0, errorComesBack},
		{"C4", "not-retried", "an error without retry ends the calls", 0, errorEndsCalls},
		{"C4", "retried", "an error with retry has the callback called again, until it succeeds", needOptions, retriedUntilSuccess},
		{"C4", "bounded", "retries end after Options.MaxAttempts calls with the last error", needOptions, retriesAreBounded},
		{"C4", "ten-by-default", "retries end after ten calls by default", needOptions, tenAttempts},
		{"C4", "fresh", "a retried callback gets the newest value", needOptions, retrySeesNewest},
		{"C4", "backs-off", "retries back off", needOptions, retryBacksOff},
		{"C4", "error-wins", "with an error, what else the callback returns is not written", 0, errorWins},
		{"C4", "retry-without-error", "retry means nothing without an error", 0, retryWithoutError},
	}
}

// callbackError is an error that only errors.As finds.
type callbackError struct{ code int }

func (e *callbackError) Error() string { return fmt.Sprintf("code %d", e.code) }

// quick has retries follow each other soon.
func quick(o *kv.Options) { o.MinBackoff, o.MaxBackoff = time.Millisecond, 2*time.Millisecond }

// attempts bounds the calls of a callback that asks for a retry.
func attempts(n int) option { return func(o *kv.Options) { o.MaxAttempts = n } }

func errorComesBack(t *trial) {
	c := t.open()
	t.put(c, "k/with error", "v")
	for _, key := range []string{"k/with error", "absent"} {
		err := t.cas(c, key, func(any) (any, bool, error) {
			return nil, false, fmt.Errorf("%w: %w", errPicky, &callbackError{7})
		})
		t.wantErr(err, "a CAS whose callback fails", errPicky)
		var mine *callbackError
		if !errors.As(err, &mine) || mine.code != 7 {
			t.Fatalf("errors.As does not find the callback's error in %v", err)
		}
		var ours *kv.Error
		if !errors.As(err, &ours) || !strings.Contains(err.Error(), key) {
			t.Fatalf("a CAS failed with %q, want a *kv.Error that names the key", err)
		}
	}
	t.wantGet(c, "k/with error", "v")
	t.wantList(c, "", "k/with error")
}

func errorEndsCalls(t *trial) {
	a, b := t.open(), t.open()
	t.put(a, "k", "v")
	for _, c := range []kv.Client{a, b} {
		calls := 0
		err := t.cas(c, "k", func(any) (any, bool, error) {
			calls++
			return nil, false, errPicky
		})
		t.wantErr(err, "a CAS whose callback fails", errPicky)
		if calls > 5 { // one or two more if the first were on something remembered
			t.Fatalf("the callback was called %d times", calls)
		}
	}
}

func retriedUntilSuccess(t *trial) {
	c, other := t.open(quick), t.open()
	t.put(other, "k", "1")
	for _, key := range []string{"k", "absent"} {
		calls := 0
		t.ok(t.cas(c, key, func(in any) (any, bool, error) {
			if calls++; calls < 4 {
				return "not this", true, errPicky
			}
			return increment(in)
		}), "a CAS whose callback succeeds in the end")
		if calls < 4 {
			t.Fatalf("the callback was called %d times, but only the fourth could succeed", calls)
		}
	}
	t.wantGet(other, "k", "2")
	t.wantGet(other, "absent", "1")
}

func retriesAreBounded(t *trial) {
	for _, most := range []int{1, 3} {
		c := t.open(quick, attempts(most))
		t.put(c, "k", "v")
		wantAttempts(t, c, most)
	}
}

// wantAttempts wants a callback that never succeeds to be called so often, and
// the last of its errors to come back. On a loaded machine a callback may run
// once more without being counted, but not three times in a row.
func wantAttempts(t *trial, c kv.Client, most int) {
	t.Helper()
	calls := 0
	for range 3 {
		calls = 0
		err := t.cas(c, "k", func(any) (any, bool, error) {
			calls++
			return nil, true, &callbackError{calls}
		})
		var last *callbackError
		if !errors.As(err, &last) {
			t.Fatalf("a CAS whose callback always asks for a retry returned %v", err)
		}
		if last.code != calls {
			t.Fatalf("the callback was called %d times, and the error is that of call %d", calls, last.code)
		}
		t.wantGet(c, "k", "v")
		if calls == most {
			return
		}
	}
	t.Fatalf("the callback was called %d times, want %d", calls, most)
}

func tenAttempts(t *trial) {
	c := t.open(quick)
	t.put(c, "k", "v")
	wantAttempts(t, c, 10)
}

func retrySeesNewest(t *trial) {
	a, b := t.open(quick), t.open()
	t.put(a, "k", "old")
	calls := 0
	t.ok(t.cas(a, "k", func(in any) (any, bool, error) {
		if calls++; calls == 1 {
			t.put(b, "k", "new")
		}
		if in != "new" {
			return nil, true, errPicky
		}
		return nil, false, nil
	}), "a CAS whose callback waits for what another client wrote")
}

func retryBacksOff(t *trial) {
	const calls, pause = 5, 20 * time.Millisecond
	c := t.open(attempts(calls), func(o *kv.Options) { o.MinBackoff, o.MaxBackoff = pause, 2*pause })
	start := time.Now()
	err := t.cas(c, "k", func(any) (any, bool, error) { return nil, true, errPicky })
	t.wantErr(err, "a CAS whose callback always asks for a retry", errPicky)
	// Jitter may halve a pause, and no machine is too fast for a pause.
	if took := time.Since(start); took < (calls-1)*pause/4 {
		t.Fatalf("%d calls took %v with pauses of %v in between", calls, took, pause)
	}
}

func errorWins(t *trial) {
	c := t.open()
	t.put(c, "k", "v")
	for _, out := range []any{"other", kv.Remove} {
		for _, key := range []string{"k", "absent"} {
			err := t.cas(c, key, func(any) (any, bool, error) { return out, false, errPicky })
			t.wantErr(err, "a CAS whose callback fails", errPicky)
		}
	}
	t.wantGet(c, "k", "v")
	t.wantGet(c, "absent", nil)
}

func retryWithoutError(t *trial) {
	c := t.open()
	calls := 0
	t.ok(t.cas(c, "k", func(any) (any, bool, error) {
		calls++
		return "v", true, nil
	}), "a CAS that writes, with retry set")
	t.ok(t.cas(c, "k", func(any) (any, bool, error) {
		calls++
		return nil, true, nil
	}), "a CAS that declines, with retry set")
	t.wantGet(c, "k", "v")
	if calls > 8 {
		t.Fatalf("two callbacks that succeeded were called %d times", calls)
	}
}
