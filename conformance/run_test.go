package conformance

import (
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// failing runs a case of the in-memory store that is meant to fail.
func failing(t *testing.T, patience time.Duration, run func(*trial)) string {
	t.Helper()
	h := memory().withDefaults()
	h.Patience = patience
	o := h.runCase(testCase{rule: "X1", name: "test", says: "it fails", run: run})
	if !o.failed() {
		t.Fatal("the case did not fail")
	}
	return strings.Join(o.failures, "\n")
}

// nextLine is the line below that of its caller, in the form of failures.
func nextLine() string {
	_, _, line, _ := runtime.Caller(1)
	return "run_test.go:" + strconv.Itoa(line+1) + ": "
}

func TestFailureTellsItsLine(t *testing.T) {
	var want string
	got := failing(t, time.Minute, func(t *trial) {
		want = nextLine()
		t.Errorf("broken")
	})
	if got != want+"broken" {
		t.Errorf("got %q, want %q", got, want+"broken")
	}
	got = failing(t, time.Minute, func(t *trial) {
		want = nextLine()
		t.wantGet(t.open(), "k", "v") // fails in a helper of a helper
		t.Errorf("not reached")
	})
	if !strings.HasPrefix(got, want) || strings.Contains(got, "not reached") {
		t.Errorf("got %q, want one failure that begins with %q", got, want)
	}
}

func TestWatchdog(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	got := failing(t, 5*time.Millisecond, func(*trial) { <-release })
	if !strings.Contains(got, "still running after 20ms") || !strings.Contains(got, "TestWatchdog") {
		t.Errorf("got %.300q, want a dump of the goroutines", got)
	}
}

func TestPanicFailsTheCase(t *testing.T) {
	for _, run := range []func(*trial){
		func(*trial) { panic("boom") },
		func(t *trial) { t.start(func() { panic("boom") }).wait("it ends") },
		func(t *trial) { t.each(2, func(int) { panic("boom") }) },
	} {
		if got := failing(t, time.Minute, run); !strings.Contains(got, "panic: boom") {
			t.Errorf("got %q", got)
		}
	}
}

func TestLeftGoroutineFailsTheCase(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	// Long enough that the watchdog, after four times that, isn't first where processors are busy.
	got := failing(t, 500*time.Millisecond, func(*trial) { go func() { <-release }() })
	if !strings.Contains(got, "goroutines are left") {
		t.Errorf("got %q", got)
	}
}

func TestNewThatFails(t *testing.T) {
	h := Harness{New: func(t T) Store {
		t.Cleanup(func() { t.Logf("cleaned up") })
		t.Fatalf("no server")
		return Store{}
	}}.withDefaults()
	if _, err := h.offered(); err == nil || !strings.Contains(err.Error(), "no server") {
		t.Errorf("got %v", err)
	}
	if o := h.runCase(table()[0]); !o.failed() || !slices.Contains(o.logs, "cleaned up") {
		t.Errorf("got %+v, want a failure, and its cleanup done", o)
	}
}

func TestHooksMustBeTheDeclaredOnes(t *testing.T) {
	h := memory().Declared("inmemory")
	if _, err := h.offered(); err != nil {
		t.Error(err)
	}
	h.Hooks = append(slices.Clone(h.Hooks), HookRestart)
	if _, err := h.offered(); err == nil {
		t.Error("a hook that is declared and not offered passes")
	}
	h.Hooks = []Hook{}
	if _, err := h.offered(); err == nil {
		t.Error("a hook that is offered and not declared passes")
	}
}

func TestBriefRunsEachRuleOnce(t *testing.T) {
	h := memory()
	h.Brief = true
	offered, err := h.offered()
	if err != nil {
		t.Fatal(err)
	}
	run, _ := h.selected(offered)
	var got []string
	for _, c := range run {
		got = append(got, c.rule)
	}
	slices.Sort(got)
	if want := len(rules()); len(got) != want || len(slices.Compact(got)) != want {
		t.Errorf("a brief run has the rules %v, want all %d once", got, want)
	}
}

func TestRulesSelects(t *testing.T) {
	h := remote()
	h.Rules = []string{"C7", "W6"}
	offered, err := h.offered()
	if err != nil {
		t.Fatal(err)
	}
	run, unchecked := h.selected(offered)
	if len(run) < 10 || len(unchecked) > 0 {
		t.Errorf("%d cases run, %d unchecked", len(run), len(unchecked))
	}
	for _, c := range run {
		if !slices.Contains(h.Rules, c.rule) {
			t.Errorf("%s is run", c.id())
		}
	}
}

// TestDeviationsAreDeclared wants a client that lacks something to fail unless
// it says so, and what it says to decide what is run.
func TestDeviationsAreDeclared(t *testing.T) {
	h := memory()
	h.Features = Features{Lacks: []Extra{Versioned, Raw}, HidesDeletes: true, PerNode: true}
	offered, err := h.offered()
	if err != nil {
		t.Fatal(err)
	}
	_, unchecked := h.selected(offered)
	var ids []string
	for _, c := range unchecked {
		ids = append(ids, c.id())
		if why := (c.needs &^ offered).why(); why == "" {
			t.Errorf("%s is unchecked for no reason", c.id())
		}
	}
	for _, want := range []string{"Versioned-swap", "Raw-reserved", "W3-nil", "C1-aba-recreated", "W6-restart"} {
		if !slices.Contains(ids, want) {
			t.Errorf("%s is run", want)
		}
	}
}
