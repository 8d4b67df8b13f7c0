package migrate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// hooked is a real in-memory store behind a hook that sees each write before
// it is carried out, and may refuse it.
type hooked struct {
	driver.Store
	onSwap func(s driver.Swap) error                      // set before use
	within func(ctx context.Context, s driver.Swap) error // the same with the ctx of the attempt
	onScan func(prefix string)
	onGet  func(key string)
	getErr func() error // nil: reads are answered
	frozen bool         // nothing is answered, until its ctx ends
}

func (h *hooked) Get(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
	if h.onGet != nil {
		h.onGet(req.Key)
	}
	if err := h.answer(ctx); err != nil {
		return driver.Entry{}, err
	}
	return h.Store.Get(ctx, req)
}

func (h *hooked) answer(ctx context.Context) error {
	if h.getErr != nil {
		if err := h.getErr(); err != nil {
			return err
		}
	}
	return h.freeze(ctx)
}

func (h *hooked) freeze(ctx context.Context) error {
	if !h.frozen {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (h *hooked) Swap(ctx context.Context, s driver.Swap) (driver.Result, error) {
	if h.onSwap != nil {
		if err := h.onSwap(s); err != nil {
			return driver.Result{Outcome: driver.NotApplied}, err
		}
	}
	if h.within != nil {
		if err := h.within(ctx, s); err != nil {
			return driver.Result{Outcome: driver.NotApplied}, err
		}
	}
	if err := h.freeze(ctx); err != nil {
		return driver.Result{Outcome: driver.NotApplied}, err
	}
	return h.Store.Swap(ctx, s)
}

func (h *hooked) Scan(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
	if h.onScan != nil {
		h.onScan(req.Prefix)
	}
	if err := h.answer(ctx); err != nil {
		return driver.Page{}, err
	}
	return h.Store.Scan(ctx, req)
}

// rig is two stores, what the operator has open on them, and a client of
// somebody else on each.
type rig struct {
	t       *testing.T
	data    [2]*inmemory.Store
	hooks   [2]*hooked
	clients [2]kv.Client
	others  [2]kv.Client
	sides   [2]*side.Side // of the others
}

var quiet = kv.Options{Logger: slog.New(slog.DiscardHandler), RetryTimeout: 200 * time.Millisecond, MinBackoff: time.Millisecond, MaxBackoff: 10 * time.Millisecond}

func newRig(t *testing.T) *rig {
	t.Helper()
	return rigOn(t, [2]*inmemory.Store{inmemory.NewStore(), inmemory.NewStore()})
}

// patient has the calls of r's own client of a store wait for an hour.
func (r *rig) patient(store int) {
	o := quiet
	o.RetryTimeout, o.AttemptTimeout = time.Hour, time.Hour
	old := r.clients[store]
	r.clients[store] = kv.New(r.hooks[store], codec.String{}, &o)
	r.t.Cleanup(func() { _ = old.Close() })
}

// again returns a rig with other clients on the same stores: another process.
func (r *rig) again() *rig { return rigOn(r.t, r.data) }

func rigOn(t *testing.T, data [2]*inmemory.Store) *rig {
	r := &rig{t: t, data: data}
	for i := range data {
		r.hooks[i] = &hooked{Store: data[i].Open()}
		r.clients[i] = kv.New(r.hooks[i], codec.String{}, &quiet)
		r.others[i] = kv.New(data[i].Open(), codec.String{}, &quiet)
		var err error
		if r.sides[i], err = side.New([]string{"old", "new"}[i], r.others[i], nil); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for i := range data {
			if err := errors.Join(r.clients[i].Close(), r.others[i].Close()); err != nil {
				t.Error(err)
			}
		}
	})
	return r
}

// migration returns the migration from old to new, whose cutovers go on in spite
// of everything.
func (r *rig) migration(o Options) *Migration {
	r.t.Helper()
	o.AllowNoClients, o.AllowEmpty, o.AllowDifferences = true, true, true
	return r.careful(o)
}

// careful is migration that goes on in spite of what o says only.
func (r *rig) careful(o Options) *Migration {
	r.t.Helper()
	m, err := New(Backend{Name: "old", Client: r.clients[0]}, Backend{Name: "new", Client: r.clients[1]}, o)
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// put writes to a store past the protocol; the empty value deletes.
func (r *rig) put(store int, key, value string) {
	r.t.Helper()
	err := r.others[store].CAS(context.Background(), key, func(any) (any, bool, error) {
		if value == "" {
			return kv.Remove, false, nil
		}
		return value, false, nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// all returns every key and value of a store.
func (r *rig) all(store int) string {
	r.t.Helper()
	var text strings.Builder
	for e, err := range kv.Entries(context.Background(), r.others[store], "") {
		if err != nil {
			r.t.Fatal(err)
		}
		fmt.Fprintf(&text, "%s=%v ", e.Key, e.Value)
	}
	return text.String()
}

// states returns the states of both records, as in "primary standby".
func (r *rig) states() string {
	r.t.Helper()
	var names []string
	for _, s := range r.sides {
		record, version, err := s.ReadRecord(context.Background())
		if err != nil {
			r.t.Fatal(err)
		}
		if version == 0 {
			record.State = "none"
		}
		names = append(names, string(record.State))
	}
	return strings.Join(names, " ")
}

func (r *rig) want(states string) {
	r.t.Helper()
	if got := r.states(); got != states {
		r.t.Fatalf("the records are %s, want %s", got, states)
	}
}

// set makes the records what a test begins with; "none" leaves a record out.
func (r *rig) set(states string) {
	r.t.Helper()
	epoch := uint64(1)
	for i, state := range strings.Fields(states) {
		_, version, err := r.sides[i].ReadRecord(context.Background())
		if err != nil {
			r.t.Fatal(err)
		}
		if state == "none" {
			continue
		}
		if i == 1 && state == string(side.Primary) {
			epoch++
		}
		record := side.Record{State: side.State(state), Epoch: epoch, Migration: "m", Source: "old", Target: "new"}
		if _, _, err := r.sides[i].SwapRecord(context.Background(), version, record); err != nil {
			r.t.Fatal(err)
		}
	}
}

// do runs a command that must succeed.
func (r *rig) do(command func(context.Context) (Result, error)) Result {
	r.t.Helper()
	result, err := command(context.Background())
	if err != nil {
		r.t.Fatalf("%s: %v", result.Command, err)
	}
	return result
}

func finish(m *Migration, on string) func(context.Context) (Result, error) {
	return func(ctx context.Context) (Result, error) { return m.Finish(ctx, on) }
}

// virtually is t.Run in virtual time.
func virtually(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

func wantErr(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got %v, want one that matches %v", err, target)
	}
}

// fleet is some coordinated clients, reduced to what a migration needs of them:
// each increments a counter of its own, guarded, wherever the records say, and
// mirrors, guarded.
type fleet struct {
	r     *rig
	stop  context.CancelFunc
	done  sync.WaitGroup
	mu    sync.Mutex
	acked map[string]int
}

func (r *rig) startFleet(clients int) *fleet {
	ctx, stop := context.WithCancel(context.Background())
	f := &fleet{r: r, stop: stop, acked: map[string]int{}}
	for i := range clients {
		f.done.Go(func() { f.client(ctx, fmt.Sprintf("counter-%02d", i)) })
	}
	return f
}

func (f *fleet) client(ctx context.Context, key string) {
	process := f.r.again()
	for ctx.Err() == nil {
		if !f.write(process, key) {
			time.Sleep(time.Millisecond) // no primary at the moment
		}
	}
}

// write makes one write on the store that is primary, if one is, and mirrors it.
func (f *fleet) write(process *rig, key string) bool {
	ctx := context.Background()
	var records [2]side.Record
	var versions [2]kv.Version
	for i, s := range process.sides {
		var err error
		if records[i], versions[i], err = s.ReadRecord(ctx); err != nil {
			f.r.t.Error(err)
			return false
		}
	}
	for i, s := range process.sides {
		if records[i].State != side.Primary {
			continue
		}
		wrote := 0
		err := s.CAS(ctx, key, side.Guards(versions[i]), func(in []byte, _ bool) ([]byte, kv.Action, error) {
			wrote = 1
			if len(in) > 0 {
				if _, err := fmt.Sscan(string(in), &wrote); err != nil {
					return nil, kv.Keep, err
				}
				wrote++
			}
			return fmt.Appendf(nil, "%d", wrote), kv.Put, nil
		})
		if err != nil {
			if !errors.Is(err, kv.ErrFenced) {
				f.r.t.Error(err)
			}
			return false
		}
		f.mu.Lock()
		f.acked[key] = wrote
		f.mu.Unlock()
		if records[1-i].State == side.Standby {
			_, err = side.Task{From: s, To: process.sides[1-i], Guards: side.Guards(versions[1-i])}.Copy(ctx, key)
			if err != nil && !errors.Is(err, kv.ErrFenced) {
				f.r.t.Error(err)
			}
		}
		return true
	}
	return false
}

// written waits until every client has written again.
func (f *fleet) written(clients int) {
	f.r.t.Helper()
	before := f.snapshot()
	deadline := time.Now().Add(time.Minute)
	for {
		now, all := f.snapshot(), true
		for i := range clients {
			key := fmt.Sprintf("counter-%02d", i)
			all = all && now[key] > before[key]
		}
		if all {
			return
		}
		if time.Now().After(deadline) {
			f.r.t.Fatal("after a minute a client still has not written again")
		}
		time.Sleep(time.Millisecond) // between two looks at the condition
	}
}

func (f *fleet) snapshot() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	copied := map[string]int{}
	for key, n := range f.acked {
		copied[key] = n
	}
	return copied
}

// end stops the clients and wants every acknowledged write in the store, no
// more and no less.
func (f *fleet) end(store int) {
	f.r.t.Helper()
	f.stop()
	f.done.Wait()
	for key, n := range f.acked {
		value, err := f.r.others[store].Get(context.Background(), key)
		if err != nil || value != fmt.Sprint(n) {
			f.r.t.Errorf("%s is %v in the primary, want %d (%v)", key, value, n, err)
		}
	}
}
