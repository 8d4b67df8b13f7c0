package pairs

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polykv/polykv/internal/migratetest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/multi"
	"github.com/polykv/polykv/kv/multi/migrate"
)

// open opens a client of a store for the migration, which the caller closes.
func open(t *testing.T, i int) kv.Client {
	t.Helper()
	client, err := onServers(t, "migration/").plain(i)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

const (
	keys     = 2_000 // the fleet of e2e has 10,000
	clients  = 2
	counters = 8 // of each client, which a goroutine each increments
)

// fleet writes until it is stopped.
type fleet struct {
	t       *testing.T
	stop    atomic.Bool
	writers sync.WaitGroup
	acked   [clients * counters]atomic.Int64
	unknown [clients * counters]atomic.Int64
}

func counter(i int) string { return "counter/" + strconv.Itoa(i) }

func (f *fleet) start() {
	for c := range clients {
		client, err := multi.New(config(), []multi.Backend{{Name: "consul", Client: open(f.t, 0)}, {Name: "etcd", Client: open(f.t, 1)}}, multi.WithLogger(quiet))
		if err != nil {
			f.t.Fatal(err)
		}
		f.t.Cleanup(func() {
			f.stop.Store(true)
			f.writers.Wait()
			if err := client.Close(); err != nil {
				f.t.Error(err)
			}
		})
		for i := c * counters; i < (c+1)*counters; i++ {
			f.writers.Go(func() { f.count(client, i) })
		}
	}
}

func config() multi.Config {
	cfg := multi.DefaultConfig()
	cfg.Coordinated = true
	return cfg
}

func (f *fleet) count(client kv.Client, i int) {
	for !f.stop.Load() {
		err := client.CAS(f.t.Context(), counter(i), func(in any) (any, bool, error) {
			n := 0
			if s, ok := in.(string); ok {
				var err error
				if n, err = strconv.Atoi(s); err != nil {
					return nil, false, err
				}
			}
			return strconv.Itoa(n + 1), false, nil
		})
		switch {
		case err == nil:
			f.acked[i].Add(1)
		case errors.Is(err, kv.ErrIndeterminate):
			f.unknown[i].Add(1)
		case f.stop.Load():
		default:
			f.t.Errorf("increment of counter %d: %v", i, err)
			return
		}
	}
}

// written waits until every counter has grown.
func (f *fleet) written() {
	f.t.Helper()
	var before [clients * counters]int64
	for i := range before {
		before[i] = f.acked[i].Load()
	}
	deadline := time.Now().Add(time.Minute)
	for i := 0; i < len(before); {
		switch {
		case f.acked[i].Load() > before[i]:
			i++
		case time.Now().After(deadline):
			f.t.Fatalf("after a minute counter %d still has not grown", i)
		default:
			time.Sleep(time.Millisecond) // between two looks at the condition
		}
	}
}

// TestConsulToEtcdAndBack migrates there, back by a roll-back, there again and
// to the end.
func TestConsulToEtcdAndBack(t *testing.T) {
	source, target := open(t, 0), open(t, 1)
	t.Cleanup(func() {
		if err := errors.Join(source.Close(), target.Close()); err != nil {
			t.Error(err)
		}
	})
	seed(t, source)
	m, err := migrate.New(migrate.Backend{Name: "consul", Client: source}, migrate.Backend{Name: "etcd", Client: target}, migrate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if plan, err := m.Plan(ctx); err != nil || !plan.Ready || plan.Source.Keys != keys {
		t.Fatalf("plan: %+v, %v", plan, err)
	}
	must(t)(m.Start(ctx))
	f := &fleet{t: t}
	f.start()
	f.written()
	if copied, err := m.Copy(ctx, migrate.CopyOptions{}); err != nil || copied.Keys < keys {
		t.Fatalf("copy: %+v, %v", copied, err)
	}
	for _, command := range []func(context.Context) (migrate.Result, error){m.Cutover, m.Rollback, m.Cutover} {
		result := must(t)(migratetest.WhenReady(ctx, command))
		f.written()
		if result.Fenced.Keys < keys {
			t.Errorf("%s verified %d keys", result.Command, result.Fenced.Keys)
		}
		t.Logf("%s: writes waited for %v; before %+v, fenced %+v", result.Command, result.Pause, *result.Before, *result.Fenced)
	}
	f.stop.Store(true)
	f.writers.Wait()
	must(t)(m.Finish(ctx, ""))
	var updates int64
	for i := range f.acked {
		value, err := target.Get(ctx, counter(i))
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.ParseInt(fmt.Sprint(value), 10, 64)
		acked, unknown := f.acked[i].Load(), f.unknown[i].Load()
		if err != nil || n < acked || n > acked+unknown {
			t.Errorf("counter %d is %v after %d increments and %d of unknown outcome (%v)", i, value, acked, unknown, err)
		}
		updates += acked
	}
	if v, err := m.Verify(ctx, migrate.VerifyOptions{}); err != nil || v.Different != 0 || v.Keys != keys+clients*counters {
		t.Errorf("verify: %+v, %v", v, err)
	}
	t.Logf("%d updates", updates)
}

func must(t *testing.T) func(migrate.Result, error) migrate.Result {
	return func(r migrate.Result, err error) migrate.Result {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v (%+v)", r.Command, err, r)
		}
		return r
	}
}

// seed writes the keys that exist before.
func seed(t *testing.T, c kv.Client) {
	t.Helper()
	var writers sync.WaitGroup
	var next atomic.Int64
	for range 64 {
		writers.Go(func() {
			for i := next.Add(1); i <= keys; i = next.Add(1) {
				err := c.CAS(t.Context(), fmt.Sprintf("data/%04d", i), func(any) (any, bool, error) {
					return fmt.Sprintf("the value of key %d", i), false, nil
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
}
