package multi_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/multi"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// bare is a client with nothing but watches.
type bare struct {
	kv.Client
	watches
}

type watches interface{ kv.Watcher }

// Two stores whose clients show no bytes are mirrored by the codec that is given, and
// offer nothing else.
func TestClientsThatShowNoBytes(t *testing.T) {
	p := newPair(t)
	var backends []multi.Backend
	for i, s := range p.stores {
		client := kv.New(s.Open(), codec.String{}, &kv.Options{Logger: quiet})
		backends = append(backends, multi.Backend{Name: fmt.Sprint("store", i), Client: bare{client, client.(watches)}})
	}
	if c, err := multi.New(multi.DefaultConfig(), backends, multi.WithLogger(quiet)); c != nil || !errors.Is(err, kv.ErrNotSupported) || !strings.HasPrefix(err.Error(), "multi: ") {
		t.Errorf("without a codec: %v, %v", c, err)
	}
	c, err := multi.New(multi.DefaultConfig(), backends, multi.WithLogger(quiet), multi.WithCodec(codec.String{}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	put(t, c, "k", "v")
	p.wantEqual()
	if raw, err := kv.Raw(c); raw != nil || !errors.Is(err, kv.ErrNotSupported) {
		t.Errorf("Raw: %v, %v", raw, err)
	}
	if view, err := kv.WithCodec(c, codec.Bytes{}); view != nil || !errors.Is(err, kv.ErrNotSupported) || !strings.Contains(err.Error(), `the values of store "store0" are mirrored by one codec`) {
		t.Errorf("WithCodec: %v, %v", view, err)
	}
	for what, err := range map[string]error{
		"Guarded":   func() error { _, err := kv.Guarded(c); return err }(),
		"Versioned": func() error { _, err := kv.Versioned(c); return err }(),
		"Codec":     func() error { _, err := kv.CodecOf(c); return err }(),
		"Limits":    func() error { _, err := c.Limits(); return err }(),
	} {
		if !errors.Is(err, kv.ErrNotSupported) {
			t.Errorf("%s: %v", what, err)
		}
	}
	checked, err := multi.CheckRecord(backends[0].Client, multi.RecordRefuse, quiet)
	if checked != backends[0].Client || err != nil {
		t.Errorf("a client without records is checked: %v, %v", checked, err)
	}
}

// What a client by hand offers is that of its stores.
func TestWhatAClientByHandOffers(t *testing.T) {
	p := newPair(t)
	var denied atomic.Bool
	c := p.open(multi.DefaultConfig(), func(_ int, s driver.Store) driver.Store { return deniedReads{s, &denied} })
	put(t, c, "k", "v")
	if value, err := c.GetGuarded(t.Context(), "k"); value != "v" || err != nil {
		t.Errorf("GetGuarded: %v, %v", value, err)
	}
	if value, version, err := c.GetVersion(t.Context(), "k"); value != "v" || version == 0 || err != nil {
		t.Errorf("GetVersion: %v, %d, %v", value, version, err)
	}
	if cdc, err := kv.CodecOf(c); cdc != codec.Codec(codec.String{}) || err != nil || !kv.Linearizable(c) || len(c.Unwrap()) != 2 {
		t.Errorf("%v, %v, %v", cdc, err, c.Unwrap())
	}
	for op, call := range map[string]func(key string) error{
		"Get":        func(key string) error { _, err := c.Get(t.Context(), key); return err },
		"GetGuarded": func(key string) error { _, err := c.GetGuarded(t.Context(), key); return err },
		"GetVersion": func(key string) error { _, _, err := c.GetVersion(t.Context(), key); return err },
	} {
		var e *kv.Error
		if err := call("a//b"); !errors.Is(err, kv.ErrInvalidKey) || !errors.As(err, &e) || e.Op != op || e.Backend != "multi" || e.Key != "a//b" {
			t.Errorf("%s of no key: %v", op, err)
		}
		denied.Store(true)
		if err := call("other"); !errors.Is(err, kv.ErrPermission) {
			t.Errorf("%s that is denied: %v", op, err)
		}
		denied.Store(false)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := kv.Ping(ctx, c); err != nil {
		t.Error(err)
	}
	cancel()
	if err := kv.Ping(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("Ping: %v", err)
	}
}

// deniedReads is a store that allows no reads while it is denied.
type deniedReads struct {
	driver.Store
	denied *atomic.Bool
}

func (s deniedReads) Get(ctx context.Context, r driver.GetRequest) (driver.Entry, error) {
	if s.denied.Load() {
		return driver.Entry{}, errDenied
	}
	return s.Store.Get(ctx, r)
}

// A client of one store does everything else as without the check, and what the record
// itself guards in any case.
func TestCallsOfAClientThatIsChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, closed, boom := inmemory.NewStore(), new(atomic.Int32), errors.New("boom")
		o := kv.Options{Logger: quiet}
		admin := kv.New(store.Open(), codec.Bytes{}, &o)
		defer admin.Close()
		checked, err := multi.CheckRecord(kv.New(closing{store.Open(), closed, boom}, codec.String{}, &o), multi.RecordRefuse, quiet)
		if err != nil {
			t.Fatal(err)
		}
		s, err := side.New("first", admin, nil)
		if err != nil {
			t.Fatal(err)
		}
		guarded, err1 := kv.Guarded(checked)
		versioned, err2 := kv.Versioned(checked)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if err := checked.CAS(t.Context(), "k", func(any) (any, bool, error) { return nil, false, boom }); !errors.Is(err, boom) {
			t.Errorf("CAS: %v", err)
		}
		put(t, checked, "k", "1")
		_, version, err := versioned.GetVersion(t.Context(), "k")
		if err != nil {
			t.Fatal(err)
		}
		wrong := kv.Guard{Key: "k", Version: version + 9}
		for what, err := range map[string]error{
			"CASGuarded":    guarded.CASGuarded(t.Context(), "k", increment, wrong),
			"DeleteGuarded": guarded.DeleteGuarded(t.Context(), "k", wrong),
		} {
			if !errors.Is(err, kv.ErrFenced) {
				t.Errorf("%s under a guard that is broken: %v", what, err)
			}
		}
		if err := guarded.CASGuarded(t.Context(), "k", increment, kv.Guard{Key: "k", Version: version}); err != nil || get(t, checked, "k") != "2" {
			t.Errorf("CASGuarded: %v", err)
		}
		_, at, err := s.SwapRecord(t.Context(), 0, side.Record{State: side.Standby, Epoch: 1, Migration: "m", Source: "second", Target: "first"})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if err := guarded.CASGuarded(t.Context(), "k", increment); !errors.Is(err, kv.ErrFenced) {
			t.Errorf("in a store that is standby: %v", err)
		}
		if err := guarded.CASGuarded(t.Context(), "k", increment, side.Guards(at)...); err != nil {
			t.Errorf("under the record's guard: %v", err)
		}
		if err := s.Delete(t.Context(), side.RecordKey, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		put(t, checked, "k", "without a record")
		if err := checked.Close(); !errors.Is(err, boom) || closed.Load() != 1 {
			t.Errorf("Close: %v", err)
		}
	})
}

// A client that mirrors for all says when it begins, and when it has lost its place.
func TestAnOwnerSaysThatItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, d := newPair(t), &diary{}
		ctx, die := context.WithCancel(t.Context())
		defer die()
		var backends []multi.Backend
		for i, s := range p.stores {
			backends = append(backends, multi.Backend{
				Name: fmt.Sprint("store", i), Client: kv.New(severed{s.Open(), ctx}, codec.String{}, &kv.Options{Logger: quiet}), Gossip: i == 0,
			})
		}
		c, err := multi.New(multi.DefaultConfig(), backends, d.options()...)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		time.Sleep(time.Minute)
		d.expectAmong(t, "at first", map[string]int{`INFO msg="polykv: this client mirrors from now on" store=store1`: 1, "INFO": 1})
		die()
		time.Sleep(time.Minute)
		d.expectAmong(t, "when it is cut off", map[string]int{`INFO msg="polykv: this client mirrors no more" store=store1`: 1, "INFO": 1})
	})
}
