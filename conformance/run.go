package conformance

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Run checks every rule of [kv.Client], one subtest per case, named by rule:
//
//	go test -run 'TestConformance/C7-' ./...
//
// The subtests run concurrently, Harness.Parallel at a time, whatever the flag
// -parallel says. A case that needs what the harness doesn't offer is skipped
// with the reason, and counted in a last line of the log.
func Run(t *testing.T, h Harness) {
	t.Helper()
	h = h.withDefaults()
	offered, err := h.offered()
	if err != nil {
		t.Fatalf("conformance: %v", err)
	}
	run, unchecked := h.selected(offered)
	slots := make(chan struct{}, h.Parallel)
	var all sync.WaitGroup
	for _, c := range longestFirst(run) {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			t.Run(c.id(), func(t *testing.T) { report(t, c, h.runCase(c)) })
		})
	}
	all.Wait()
	if h.Brief {
		return
	}
	for _, c := range unchecked {
		t.Run(c.id(), func(t *testing.T) {
			t.Skipf("not checked, %s: %s", (c.needs &^ offered).why(), c.says)
		})
	}
	t.Logf("%d cases run, %d not checked", len(run), len(unchecked))
}

// outcome is what came of a case.
type outcome struct {
	failures []string
	logs     []string
}

func (o outcome) failed() bool { return len(o.failures) > 0 }

func report(t *testing.T, c testCase, o outcome) {
	t.Helper()
	if !o.failed() {
		return
	}
	t.Errorf("rule %s is broken: %s\n%s", c.rule, c.says, strings.Join(o.failures, "\n"))
	for _, line := range o.logs {
		t.Log(line)
	}
}

// offered is what the stores and clients of h can be asked for.
func (h Harness) offered() (need, error) {
	hooks, err := h.probe()
	switch {
	case err != nil:
		return 0, fmt.Errorf("Harness.New: %w", err)
	case h.Hooks != nil && !slices.Equal(hooks, h.Hooks):
		return 0, fmt.Errorf("Harness.New offers %v, but Harness.Hooks says %v", hooks, h.Hooks)
	}
	return offers(hooks, h.Features), nil
}

// probe makes one store to learn what the harness offers.
func (h Harness) probe() (hooks []Hook, err error) {
	r := newRecorder("probe")
	guarded(r, func() { hooks = h.New(r).hooks() })
	guarded(r, r.finish)
	if failures, _ := r.results(); len(failures) > 0 {
		return nil, errors.New(strings.Join(failures, "\n"))
	}
	return hooks, nil
}

// guarded runs f on a goroutine of its own, for f to be ended by Fatalf. A
// panic becomes a failure.
func guarded(r *recorder, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer r.catch()
		f()
	}()
	<-done
}

// runCase runs one case on a store of its own, under the watchdog.
func (h Harness) runCase(c testCase) outcome {
	r := newRecorder(c.id())
	var t *trial
	guarded(r, func() {
		store := h.New(r)
		ctx, cancel := context.WithTimeout(r.ctx, 2*h.Patience)
		r.Cleanup(cancel)
		t = &trial{recorder: r, store: store, features: h.Features, patience: h.Patience, scale: h.Scale, limit: ctx}
	})
	if t != nil {
		finished := make(chan struct{})
		go func() {
			defer close(finished)
			t.carryOut(c)
		}()
		watchdog := time.NewTimer(4 * h.Patience)
		select {
		case <-finished:
		case <-watchdog.C:
			r.Errorf("still running after %v; all goroutines:\n%s", 4*h.Patience, stacks())
		}
		watchdog.Stop()
	}
	guarded(r, r.finish)
	var o outcome
	o.failures, o.logs = r.results()
	return o
}

// trials counts those of this process. Addresses would not do for names: what a
// client left behind outlives its trial, whose memory another one may get.
var trials atomic.Uint64 //nolint:gochecknoglobals // labels are of the process

// carryOut runs the case and closes its clients, under a label that every
// goroutine inherits that they start; then none with that label may be left.
func (t *trial) carryOut(c testCase) {
	t.label = fmt.Sprintf("%s@%d", c.id(), trials.Add(1))
	labelled := func(f func()) {
		guarded(t.recorder, func() {
			pprof.Do(context.Background(), pprof.Labels(goroutineLabel, t.label), func(context.Context) { f() })
		})
	}
	labelled(func() { c.run(t) })
	labelled(t.closeAll)
	if !t.Failed() { // a case that failed may well have left something hanging
		t.wantNoGoroutines()
	}
}

func stacks() string {
	buf := make([]byte, 4<<20)
	return string(buf[:runtime.Stack(buf, true)])
}
