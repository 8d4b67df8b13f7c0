package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
)

func TestWrapMeasuresEveryOperation(t *testing.T) {
	m, reg := newMetrics(t)
	c := m.Wrap(newClient(t, m), "mem").(everything)
	raw, err := kv.Raw(c)
	if err != nil {
		t.Fatal(err)
	}
	for name, call := range measured {
		if n := withPrefix(t, reg, "polykv_operation_duration_seconds mem "+name); len(n) != 0 {
			if name != "get" && name != "cas" && name != "delete" { // beginnings of other names
				t.Errorf("%s is exported before its first use", n)
			}
		}
		if err := call(t.Context(), c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		wantSeries(t, reg, map[string]float64{"polykv_operation_duration_seconds mem " + name: 1})
		// What the raw view refuses here, strings, is counted all the same.
		_ = call(t.Context(), raw.(everything))
		wantSeries(t, reg, map[string]float64{"polykv_operation_duration_seconds mem " + name: 2})
	}
	view, err := kv.WithCodec(c, codec.Bytes{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := view.Get(t.Context(), "of a view"); err != nil {
		t.Error(err)
	}
	wantSeries(t, reg, map[string]float64{"polykv_operation_duration_seconds mem get": 3})
	wantSeries(t, reg, map[string]float64{
		"polykv_operation_errors_total mem cas other":          1,
		"polykv_operation_errors_total mem cas_guarded other":  1,
		"polykv_operation_errors_total mem swap_version other": 1,
	})
	got := withPrefix(t, reg, "polykv_operation_errors_total")
	// A counter is there, as 0, before the first write of unknown outcome, whose increase nobody would see otherwise.
	if got = slices.DeleteFunc(got, func(name string) bool { return strings.HasSuffix(name, " indeterminate") }); len(got) != 3 {
		t.Errorf("exported errors: %q", got)
	}
	wantSeries(t, reg, map[string]float64{"polykv_operation_errors_total mem cas indeterminate": 0})
}

// failing is a client of which every call fails, after a time.
type failing struct {
	kv.Client
	err  error
	took time.Duration
}

func (f *failing) fail() error { time.Sleep(f.took); return f.err }

func (f *failing) List(context.Context, string) ([]string, error) { return nil, f.fail() }

func (f *failing) Get(context.Context, string) (any, error) { return nil, f.fail() }

func (f *failing) Delete(context.Context, string) error { return f.fail() }

func (f *failing) CAS(context.Context, string, func(any) (any, bool, error)) error { return f.fail() }

func (f *failing) Ping(context.Context) error { return f.fail() }

func (f *failing) Watch(context.Context, kv.Range, func(kv.Event) bool) error { return f.fail() }

func (f *failing) GetGuarded(context.Context, string, ...kv.Guard) (any, error) { return nil, f.fail() }

func (f *failing) DeleteGuarded(context.Context, string, ...kv.Guard) error { return f.fail() }

func (f *failing) GetVersion(context.Context, string, ...kv.Guard) (any, kv.Version, error) {
	return nil, 0, f.fail()
}

func (f *failing) CASGuarded(context.Context, string, func(any) (any, bool, error), ...kv.Guard) error {
	return f.fail()
}

func (f *failing) SwapVersion(context.Context, string, kv.Version, any, ...kv.Guard) (kv.Version, error) {
	return 0, f.fail()
}

func (f *failing) Entries(context.Context, string) iter.Seq2[kv.Entry, error] {
	return func(yield func(kv.Entry, error) bool) {
		for range 2 {
			if !yield(kv.Entry{}, f.fail()) {
				return
			}
		}
	}
}

func TestWrapMeasuresDurationsAndErrorsOfEveryOperation(t *testing.T) {
	for name, call := range measured {
		synctest.Test(t, func(t *testing.T) { // the clock moves only in Sleep
			m, reg := newMetrics(t)
			c := m.Wrap(&failing{err: kv.ErrFenced, took: 250 * time.Millisecond}, "b").(everything)
			if err := call(t.Context(), c); !errors.Is(err, kv.ErrFenced) {
				t.Errorf("%s: %v, want the error of the client inside", name, err)
			}
			wantSeries(t, reg, map[string]float64{
				"polykv_operation_duration_seconds b " + name + " sum": 0.25,
				"polykv_operation_errors_total b " + name + " fenced":  1,
			})
		})
	}
}

func TestWrapLeavesOutTheBodyOfAnEntriesLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, reg := newMetrics(t)
		c := m.Wrap(&failing{err: io.EOF, took: time.Second}, "b")
		items := 0
		for _, err := range kv.Entries(t.Context(), c, "") {
			if items++; !errors.Is(err, io.EOF) {
				t.Errorf("yielded %v, want the error of the client inside", err)
			}
			time.Sleep(time.Hour)
		}
		for _, err := range kv.Entries(t.Context(), c, "") {
			_ = err
			time.Sleep(time.Hour)
			break
		}
		if items != 2 {
			t.Errorf("saw %d items, want 2", items)
		}
		wantSeries(t, reg, map[string]float64{
			"polykv_operation_duration_seconds b entries":     2,
			"polykv_operation_duration_seconds b entries sum": 3,
			"polykv_operation_errors_total b entries other":   3,
		})
	})
}

func TestReasons(t *testing.T) {
	m, reg := newMetrics(t)
	for word, errs := range map[string][]error{
		"indeterminate": {kv.ErrIndeterminate, errors.Join(context.Canceled, kv.ErrIndeterminate), errors.Join(kv.ErrClosed, kv.ErrIndeterminate)},
		"closed":        {kv.ErrClosed, fmt.Errorf("%w: %w", kv.ErrClosed, context.Canceled)},
		"fenced":        {kv.ErrFenced},
		"conflict":      {kv.ErrConflict},
		"invalid_key":   {kv.ErrInvalidKey, kv.CheckKey("")},
		"too_large":     {kv.ErrTooLarge},
		"full":          {kv.ErrFull},
		"permission":    {kv.ErrPermission, fmt.Errorf("%w: %w", kv.ErrUnavailable, kv.ErrPermission)},
		"not_supported": {kv.ErrNotSupported},
		"unavailable":   {kv.ErrUnavailable, fmt.Errorf("%w: %w", kv.ErrUnavailable, context.DeadlineExceeded)},
		"canceled":      {context.Canceled},
		"deadline":      {context.DeadlineExceeded},
		"other":         {io.EOF},
	} {
		for _, err := range errs {
			_, _ = m.Wrap(&failing{err: &kv.Error{Op: "Get", Err: err}}, "b").Get(t.Context(), "k")
		}
		wantSeries(t, reg, map[string]float64{"polykv_operation_errors_total b get " + word: float64(len(errs))})
	}
}

func TestWrapCountsRunningWatches(t *testing.T) {
	ctx := t.Context()
	m, reg := newMetrics(t)
	c := m.Wrap(newClient(t, m), "mem")
	if err := c.CAS(ctx, "k", put("v")); err != nil {
		t.Fatal(err)
	}
	running := func(kind string, want float64) {
		t.Helper()
		wantSeries(t, reg, map[string]float64{"polykv_watches_running mem " + kind: want})
	}
	c.WatchKey(ctx, "k", func(any) bool {
		running("watch_key", 1)
		c.WatchPrefix(ctx, "", func(string, any) bool {
			running("watch_prefix", 1)
			return false
		})
		return false
	})
	if err := kv.Watch(ctx, c, kv.KeyRange("k"), func(kv.Event) bool {
		running("watch", 1)
		return false
	}); err != nil {
		t.Error(err)
	}
	func() {
		defer func() { _ = recover() }()
		c.WatchKey(ctx, "k", func(any) bool { panic("in a callback") })
	}()
	for _, kind := range []string{"watch", "watch_key", "watch_prefix"} {
		running(kind, 0)
	}
}

func TestWrapCountsFailedWatchesOnly(t *testing.T) {
	m, reg := newMetrics(t)
	for _, err := range []error{nil, context.Canceled, context.DeadlineExceeded, kv.ErrClosed} {
		c := m.Wrap(&failing{err: err}, "b")
		if got := kv.Watch(t.Context(), c, kv.KeyRange("k"), nil); !errors.Is(got, err) {
			t.Errorf("Watch = %v, want %v", got, err)
		}
	}
	wantSeries(t, reg, map[string]float64{"polykv_operation_errors_total b watch closed": 1})
	if got := withPrefix(t, reg, "polykv_operation_errors_total"); len(got) != 1 {
		t.Errorf("exported errors: %q", got)
	}
}

func TestWrapCountsCallsWhoseCallbackPanicked(t *testing.T) {
	m, reg := newMetrics(t)
	c := m.Wrap(newClient(t, m), "mem")
	func() {
		defer func() { _ = recover() }()
		_ = c.CAS(t.Context(), "k", func(any) (any, bool, error) { panic("in a callback") })
	}()
	wantSeries(t, reg, map[string]float64{"polykv_operation_duration_seconds mem cas": 1})
}

func TestWrapForwardsTheRest(t *testing.T) {
	m, _ := newMetrics(t)
	inner := newClient(t, m)
	c := m.Wrap(inner, "mem")
	want, _ := kv.LimitsOf(inner)
	if got, err := kv.LimitsOf(c); err != nil || got != want || got.Value == 0 {
		t.Errorf("LimitsOf = %+v, %v, want %+v", got, err, want)
	}
	if _, err := kv.Raw(m.Wrap(&failing{}, "b")); !errors.Is(err, kv.ErrNotSupported) {
		t.Errorf("Raw of a client without = %v, want ErrNotSupported", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := inner.Get(t.Context(), "k"); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("Close did not close the client inside: Get = %v", err)
	}
}
