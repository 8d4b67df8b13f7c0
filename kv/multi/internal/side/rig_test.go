package side

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
)

// hooked is a real in-memory store behind hooks by which a test holds up its
// requests, or loses their answers. Hooks are set before use.
type hooked struct {
	driver.Store
	gets, swaps, scans atomic.Int64

	onGet  func(req driver.GetRequest)
	failed func(req driver.GetRequest) error // of the one that was just asked for
	onSwap func(s driver.Swap, do func() (driver.Result, error)) (driver.Result, error)
	onScan func(req driver.ScanRequest)
}

func (h *hooked) Get(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
	h.gets.Add(1)
	if h.onGet != nil {
		h.onGet(req)
	}
	if h.failed != nil {
		if err := h.failed(req); err != nil {
			return driver.Entry{}, err
		}
	}
	return h.Store.Get(ctx, req)
}

func (h *hooked) Swap(ctx context.Context, s driver.Swap) (driver.Result, error) {
	h.swaps.Add(1)
	do := func() (driver.Result, error) { return h.Store.Swap(ctx, s) }
	if h.onSwap != nil {
		return h.onSwap(s, do)
	}
	return do()
}

func (h *hooked) Scan(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
	h.scans.Add(1)
	if h.onScan != nil {
		h.onScan(req)
	}
	return h.Store.Scan(ctx, req)
}

var errLost = errors.New("the answer was lost")

// store is one store with the side of a client on it, and a client of somebody
// else.
type store struct {
	*Side
	data  *inmemory.Store
	hooks *hooked
	other kv.Client

	lastID uint64 // of the swap that loseFirst lost
}

var stringCodec = codec.String{}

// fast keeps a test of unknown outcomes from waiting ten seconds.
var fast = kv.Options{
	RetryTimeout: 200 * time.Millisecond, MinBackoff: time.Millisecond, MaxBackoff: 10 * time.Millisecond,
	Logger: slog.New(slog.DiscardHandler), ScanPage: 10,
}

func newStore(t *testing.T, name string) *store {
	t.Helper()
	s := &store{data: inmemory.NewStore()}
	s.hooks = &hooked{Store: s.data.Open()}
	client := kv.New(s.hooks, stringCodec, &fast)
	s.other = kv.New(s.data.Open(), stringCodec, nil)
	t.Cleanup(func() {
		if err := errors.Join(client.Close(), s.other.Close()); err != nil {
			t.Error(err)
		}
	})
	var err error
	if s.Side, err = New(name, client, nil); err != nil {
		t.Fatal(err)
	}
	return s
}

// put writes as somebody else; the empty value deletes.
func (s *store) put(t *testing.T, key, value string) {
	t.Helper()
	err := s.other.CAS(t.Context(), key, func(any) (any, bool, error) {
		if value == "" {
			return kv.Remove, false, nil
		}
		return value, false, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (s *store) want(t *testing.T, key string, value any) {
	t.Helper()
	got, err := s.other.Get(t.Context(), key)
	if err != nil || got != value {
		t.Fatalf("%q in store %q is %v, %v; want %v", key, s.Name(), got, err, value)
	}
}

// all returns every key and value.
func (s *store) all(t *testing.T) string {
	t.Helper()
	text := ""
	for e, err := range kv.Entries(t.Context(), s.other, "") {
		if err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("%s=%v ", e.Key, e.Value)
	}
	return text
}

// record makes a record of a side in the given state.
func record(state State) Record {
	return Record{State: state, Epoch: 1, Migration: "m", Source: "a", Target: "b"}
}

// setRecord writes a record over whatever is there and returns its version.
func (s *store) setRecord(t *testing.T, state State) kv.Version {
	t.Helper()
	_, prev, err := s.ReadRecord(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, version, err := s.SwapRecord(t.Context(), prev, record(state))
	if err != nil {
		t.Fatal(err)
	}
	return version
}

// wantErr wants err to match target.
func wantErr(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got %v, want one that matches %v", err, target)
	}
}

func copyKey(ctx context.Context, from, to *Side, key string, guards []kv.Guard) (wrote bool, err error) {
	return Task{From: from, To: to, Guards: guards}.Copy(ctx, key)
}
