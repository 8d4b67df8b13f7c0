package conformance

import (
	"context"
	"errors"
	"reflect"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"sync"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// trial is one case running on one store. Its methods make the steps of the
// case short; those that return nothing end the case when they fail.
type trial struct {
	*recorder
	store    Store
	features Features
	patience time.Duration
	scale    float64
	limit    context.Context // bounds every operation; a correct store never needs it
	label    string          // of the case's goroutines

	mu      sync.Mutex
	clients []kv.Client
	handles []driver.Store
}

// option changes one option of a client.
type option func(*kv.Options)

// ctx is what operations run under that have no ctx of their own to test.
func (t *trial) ctx() context.Context { return t.limit }

// options returns the options of a client: the defaults, a log that shows only when
// the case fails, and no call that gives up before the case does. opts change them.
func (t *trial) options(opts []option) kv.Options {
	o := kv.Options{Logger: t.logger(), RetryTimeout: 4 * t.patience}
	for _, set := range opts {
		set(&o)
	}
	return o
}

// own has a client closed at the end of the case.
func (t *trial) own(c kv.Client, err error) kv.Client {
	t.Helper()
	if err != nil {
		t.Fatalf("opening a client: %v", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clients = append(t.clients, c)
	return c
}

// open opens a client whose values are strings.
func (t *trial) open(opts ...option) kv.Client {
	t.Helper()
	return t.openWith(codec.String{}, opts...)
}

func (t *trial) openWith(c codec.Codec, opts ...option) kv.Client {
	t.Helper()
	return t.own(t.store.Open(c, t.options(opts)))
}

// openN opens n clients whose values are strings.
func (t *trial) openN(n int, opts ...option) []kv.Client {
	t.Helper()
	clients := make([]kv.Client, n)
	for i := range clients {
		clients[i] = t.open(opts...)
	}
	return clients
}

// openLine opens a client over a line that can be broken.
func (t *trial) openLine(opts ...option) (kv.Client, Line) {
	t.Helper()
	return t.openLineWith(codec.String{}, opts...)
}

func (t *trial) openLineWith(cdc codec.Codec, opts ...option) (kv.Client, Line) {
	t.Helper()
	c, line, err := t.store.OpenLine(cdc, t.options(opts))
	t.own(c, err)
	t.Cleanup(line.Mend)
	return c, line
}

func (t *trial) closeAll() {
	for _, c := range t.clients {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	for _, s := range t.handles {
		if err := s.Close(); err != nil {
			t.Errorf("Close of a driver's handle: %v", err)
		}
	}
}

// many is n, scaled as the harness says; at least, what the case needs to mean
// anything.
func (t *trial) many(n, least int) int { return max(least, int(float64(n)*t.scale)) }

// hook calls one of the harness's functions outside the case's label: what it
// starts, such as a server, is not the case's to stop.
func (t *trial) hook(f func() error) (err error) {
	guarded(t.recorder, func() {
		pprof.SetGoroutineLabels(context.Background())
		err = f()
	})
	return err
}

// disrupt calls a hook of the store that needs nothing but a ctx.
func (t *trial) disrupt(what string, f func(context.Context) error) {
	t.Helper()
	t.ok(t.hook(func() error { return f(t.ctx()) }), "%s", what)
}

// plant writes a key past polykv. The key is relative, like a client's.
func (t *trial) plant(key string, value []byte) {
	t.Helper()
	err := t.hook(func() error { return t.store.Plant(t.ctx(), t.store.Prefix+key, value) })
	t.ok(err, "planting %q", key)
}

// put writes a value, whatever was there.
func (t *trial) put(c kv.Client, key string, value any) {
	t.Helper()
	if err := tryPut(t.ctx(), c, key, value); err != nil {
		t.Fatalf("writing %q: %v", key, err)
	}
}

// tryPut writes a value, whatever was there.
func tryPut(ctx context.Context, c kv.Client, key string, value any) error {
	return c.CAS(ctx, key, func(any) (any, bool, error) { return value, false, nil })
}

func (t *trial) delete(c kv.Client, key string) {
	t.Helper()
	if err := c.Delete(t.ctx(), key); err != nil {
		t.Fatalf("Delete of %q: %v", key, err)
	}
}

func (t *trial) get(c kv.Client, key string) any {
	t.Helper()
	value, err := c.Get(t.ctx(), key)
	if err != nil {
		t.Fatalf("Get of %q: %v", key, err)
	}
	return value
}

func (t *trial) list(c kv.Client, prefix string) []string {
	t.Helper()
	keys, err := c.List(t.ctx(), prefix)
	if err != nil {
		t.Fatalf("List of %q: %v", prefix, err)
	}
	return keys
}

// cas calls CAS, for cases to look at how it ends.
func (t *trial) cas(c kv.Client, key string, f func(in any) (out any, retry bool, err error)) error {
	return c.CAS(t.ctx(), key, f)
}

// wantGet wants a value, nil for an absent key.
func (t *trial) wantGet(c kv.Client, key string, want any) {
	t.Helper()
	if got := t.get(c, key); !reflect.DeepEqual(got, want) {
		t.Fatalf("Get of %q returned %s, want %s", key, show(got), show(want))
	}
}

// wantList wants exactly these keys, in this order.
func (t *trial) wantList(c kv.Client, prefix string, want ...string) {
	t.Helper()
	if got := t.list(c, prefix); !slices.Equal(got, want) {
		t.Fatalf("List of %q returned %q, want %q", prefix, got, want)
	}
}

// ok wants no error.
func (t *trial) ok(err error, what string, args ...any) {
	t.Helper()
	if err != nil {
		t.Fatalf(what+": %v", append(args, err)...)
	}
}

// wantErr wants an error that matches all of targets.
func (t *trial) wantErr(err error, what string, targets ...error) {
	t.Helper()
	for _, target := range targets {
		if !errors.Is(err, target) {
			t.Fatalf("%s returned %v, want an error that matches %q", what, show(err), target)
		}
	}
}

// eventually waits until cond is true.
func (t *trial) eventually(what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(t.patience)
	for pause := 200 * time.Microsecond; !cond(); pause = min(2*pause, 20*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s", t.patience, what)
		}
		time.Sleep(pause)
	}
}

// start runs f on a goroutine of its own and returns what waits for its end.
func (t *trial) start(f func()) (ended *ending) {
	e := &ending{t: t, done: make(chan struct{})}
	go func() {
		defer close(e.done)
		defer t.catch()
		f()
	}()
	return e
}

// catch makes a panic of the goroutine that defers it a failure of the case.
func (r *recorder) catch() {
	if p := recover(); p != nil {
		r.Errorf("panic: %v\n%s", p, debug.Stack())
	}
}

// ending is the end of something that was started.
type ending struct {
	t    *trial
	done chan struct{}
}

// wait wants what was started to have ended soon.
func (e *ending) wait(what string) {
	e.t.Helper()
	e.t.receive(e.done, what)
}

// yet reports whether it has ended.
func (e *ending) yet() bool {
	select {
	case <-e.done:
		return true
	default:
		return false
	}
}

// receive waits for a signal on c, or its end.
func (t *trial) receive(c <-chan struct{}, what string) {
	t.Helper()
	timer := time.NewTimer(t.patience)
	defer timer.Stop()
	select {
	case <-c:
	case <-timer.C:
		t.Fatalf("waited %v in vain: %s\n%s", t.patience, what, stacks())
	}
}

// returns wants f to return soon.
func (t *trial) returns(what string, f func()) {
	t.Helper()
	t.start(f).wait(what + " returns")
}

// letOthersRun gives every goroutine that could run a chance to do so, so that
// what a broken client does at the wrong time is seen. Nothing depends on it in
// a sound one.
func (t *trial) letOthersRun() {
	var yielding sync.WaitGroup
	for range 4 {
		yielding.Go(func() {
			for range 25 {
				runtime.Gosched()
			}
		})
	}
	yielding.Wait()
}

// each runs f(0) to f(n-1) at the same time and waits for all of them.
func (t *trial) each(n int, f func(i int)) {
	t.Helper()
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			defer t.catch()
			f(i)
		})
	}
	all.Wait()
	if t.Failed() {
		t.Fatalf("a goroutine of the case failed, see above")
	}
}
