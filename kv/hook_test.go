package kv_test

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
)

// hooked is a real in-memory store behind hooks by which a test makes requests
// fail, wait, or lose their answers. It is not NonBlocking, so the engine
// treats it like a store across a network. Hooks are set before use.
type hooked struct {
	driver.Store
	gets, swaps, watches atomic.Int64

	onGet   func(ctx context.Context, req driver.GetRequest) error
	onSwap  func(ctx context.Context, s driver.Swap, do func() (driver.Result, error)) (driver.Result, error)
	onWatch func(ctx context.Context, req driver.WatchRequest, emit func(driver.Event), do func() error) error

	unhooked atomic.Bool // from now on the store is what it is

	generation, epoch atomic.Uint64
}

func (h *hooked) Epoch() uint64 { return h.epoch.Load() }

func (h *hooked) Get(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
	h.gets.Add(1)
	if h.onGet != nil && !h.unhooked.Load() {
		if err := h.onGet(ctx, req); err != nil {
			return driver.Entry{}, err
		}
	}
	entry, err := h.Store.Get(ctx, req)
	entry.Generation = h.generation.Load()
	return entry, err
}

func (h *hooked) Swap(ctx context.Context, s driver.Swap) (driver.Result, error) {
	h.swaps.Add(1)
	do := func() (driver.Result, error) {
		res, err := h.Store.Swap(ctx, s)
		res.Entry.Generation = h.generation.Load()
		return res, err
	}
	if h.onSwap != nil && !h.unhooked.Load() {
		return h.onSwap(ctx, s, do)
	}
	return do()
}

func (h *hooked) Watch(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
	h.watches.Add(1)
	do := func() error { return h.Store.Watch(ctx, req, emit) }
	if h.onWatch != nil {
		return h.onWatch(ctx, req, emit, do)
	}
	return do()
}

// stringCodec is that of every client in these tests.
var stringCodec = codec.String{}

// errLost is what a driver says when an answer did not come.
var errLost = errors.New("the answer was lost")

// lost makes a swap whose answer is lost; applied tells what really happened.
func lost(applied bool, do func() (driver.Result, error)) (driver.Result, error) {
	if applied {
		if res, err := do(); err != nil || res.Outcome != driver.Applied {
			return res, err
		}
	}
	return driver.Result{}, errLost
}

// rig is a client over a hooked store, and a plain one beside it.
type rig struct {
	t      *testing.T
	data   *inmemory.Store
	store  *hooked
	client kv.Client
	other  kv.Client // another process, as it were
}

func newRig(t *testing.T, opts kv.Options) *rig {
	t.Helper()
	data := inmemory.NewStore()
	r := &rig{t: t, data: data, store: &hooked{Store: data.Open()}}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	r.client = kv.New(r.store, stringCodec, &opts)
	r.other = kv.New(data.Open(), stringCodec, nil)
	t.Cleanup(func() {
		if err := errors.Join(r.client.Close(), r.other.Close()); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) put(c kv.Client, key, value string) {
	r.t.Helper()
	if err := c.CAS(r.t.Context(), key, set(value)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) want(key string, value any) {
	r.t.Helper()
	got, err := r.other.Get(r.t.Context(), key)
	if err != nil || got != value {
		r.t.Fatalf("%q is %v, %v; want %v", key, got, err, value)
	}
}

func set(value string) func(any) (any, bool, error) {
	return func(any) (any, bool, error) { return value, false, nil }
}

// increment treats the value as a decimal number.
func increment(in any) (any, bool, error) {
	n := 0
	if in != nil {
		s, _ := in.(string)
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			return nil, false, err
		}
	}
	return strconv.Itoa(n + 1), false, nil
}

// count has so many callers increment the key "n" so often each, and wants the
// sum. Caller i uses clientOf(i).
func (r *rig) count(callers, each int, clientOf func(i int) kv.Client) {
	r.t.Helper()
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for range each {
				if err := clientOf(i).CAS(r.t.Context(), "n", increment); err != nil {
					r.t.Error(err)
				}
			}
		})
	}
	all.Wait()
	r.want("n", strconv.Itoa(callers*each))
}

func (r *rig) own(int) kv.Client { return r.client }

// eventually waits until what holds, and fails the test after a minute.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("after a minute it still does not hold that %s", what)
		}
		time.Sleep(time.Millisecond) // between two looks at the condition
	}
}

// receive waits for a value, and fails the test after a minute.
func receive[T any](t *testing.T, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(time.Minute):
		t.Fatalf("no %s within a minute", what)
		panic("unreachable")
	}
}

// Scan pages, as the drivers of servers do.
func (h *hooked) Scan(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
	req.Bare = false
	return h.Store.Scan(ctx, req)
}
