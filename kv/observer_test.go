package kv_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

type nameKey struct{}

func named(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, nameKey{}, name)
}

// diary is an observer that writes down what it is told, with the name in ctx.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) add(ctx context.Context, format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf("%v: ", ctx.Value(nameKey{}))+fmt.Sprintf(format, args...))
}

func (d *diary) has(line string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Contains(d.lines, line)
}

func (d *diary) Request(ctx context.Context, key, op string, _ time.Duration, err error) {
	d.add(ctx, "request %s %s %v", op, key, err)
}

func (d *diary) Swap(ctx context.Context, key, outcome string, callers int) {
	d.add(ctx, "swap %s %s %d", key, outcome, callers)
}

func (d *diary) CAS(ctx context.Context, key string, callbacks int, err error) {
	d.add(ctx, "CAS %s %d %v", key, callbacks, err)
}

func (d *diary) WatchEvent(ctx context.Context, key, kind string, _ time.Duration) {
	d.add(ctx, "event %s %s", key, kind)
}

func (d *diary) WatchResync(ctx context.Context, key string, err error) {
	d.add(ctx, "resync %s %v", key, err)
}

func (d *diary) Skipped(ctx context.Context, key string) { d.add(ctx, "skipped %s", key) }

// tracer is a diary that is there when work begins, and puts its own name into
// the ctx of the work.
type tracer struct {
	*diary
	name string
}

func (t tracer) Start(ctx context.Context, w kv.Work) (context.Context, func(err error)) {
	callers := ""
	for _, caller := range w.Callers {
		callers += fmt.Sprint(caller.Value(nameKey{}))
	}
	t.add(ctx, "start %s %s %s %v [%s]", w.Backend, w.Op, w.Range.Key, w.Range.IsPrefix, callers)
	return named(ctx, t.name), func(err error) { t.add(ctx, "end %s %v", w.Op, err) }
}

// Every observer is told, of the key and by the ctx of whoever called; a tracer's
// ctx is that of the driver.
func TestObserversGetTheContextAndTheKey(t *testing.T) {
	plain, first, second := &diary{}, tracer{&diary{}, "first"}, tracer{&diary{}, "second"}
	r := newRig(t, kv.Options{Backend: "b", Observer: kv.Observers(nil, plain, first, second)})
	lost := errors.New("lost")
	r.store.onSwap = func(ctx context.Context, s driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
		plain.add(ctx, "the driver")
		return do()
	}
	r.store.onWatch = func(ctx context.Context, _ driver.WatchRequest, _ func(driver.Event), do func() error) error {
		if r.store.watches.Load() == 1 {
			return lost
		}
		return do()
	}
	ctx := named(t.Context(), "caller")
	if err := r.client.CAS(ctx, "k", set("v")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.store.Store.Swap(ctx, driver.Swap{Key: "a//b", Value: []byte("v"), ID: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.List(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	r.client.WatchKey(ctx, "k", func(any) bool { return false })
	for _, want := range []struct {
		in   *diary
		line string
	}{
		{first.diary, "caller: start b get k false []"},
		{second.diary, "first: start b get k false []"},
		{plain, "second: request get k <nil>"},
		{plain, "second: the driver"},
		{plain, "second: swap k applied 1"},
		{second.diary, "second: swap k applied 1"},
		{first.diary, "caller: end swap <nil>"},
		{plain, "caller: CAS k 1 <nil>"},
		{first.diary, "caller: start b scan a true []"},
		{plain, "caller: skipped a//b"},
		{plain, "caller: event k put"},
		{first.diary, "<nil>: start b watch k false [caller]"},
		{first.diary, "<nil>: end watch lost"},
		{plain, "second: resync k lost"},
	} {
		if !want.in.has(want.line) {
			t.Errorf("there is no line %q among\n%s", want.line, strings.Join(want.in.lines, "\n"))
		}
	}
}

// What is one observer in the end, or none, costs nothing on top.
func TestObserversOfFew(t *testing.T) {
	one := &diary{}
	if kv.Observers() != (kv.NopObserver{}) || kv.Observers(nil, one) != kv.Observer(one) {
		t.Error("an observer lies around one or none")
	}
	if _, traces := kv.Observers(one, one).(kv.Tracer); traces {
		t.Error("observers that trace nothing are a tracer")
	}
}

// Who shares a swap is told to the tracer, also of the read before it.
func TestTracerIsToldWhoShares(t *testing.T) {
	seen := tracer{&diary{}, "request"}
	r := newRig(t, kv.Options{Backend: "b", Observer: seen, RememberEntries: -1})
	r.store.onSwap = func(_ context.Context, _ driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
		return do()
	}
	cas := func(name string) func() error {
		return func() error { return r.client.CAS(named(t.Context(), name), "k", set("v")) }
	}
	results := make(chan error, 2)
	release, first := gather(r, "k", cas("A"), func() { results <- cas("B")() }, func() { results <- cas("C")() })
	release()
	for _, ch := range []<-chan error{first, results, results} {
		if err := receive(t, "a result", ch); err != nil {
			t.Error(err)
		}
	}
	for _, op := range []string{"get", "swap"} {
		if !seen.has("B: start b " + op + " k false [BC]") {
			t.Errorf("no %s is told as shared among\n%s", op, strings.Join(seen.lines, "\n"))
		}
	}
}
