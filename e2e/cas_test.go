package e2e

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv"
)

func TestHotKeyFailsNobody(t *testing.T) { onEach(t, hotKeyFailsNobody) }

func hotKeyFailsNobody(t *testing.T, b backend) {
	cluster := b.shared.Get(t)
	for name, clients := range map[string]int{"one client": 1, "eight clients": 8} {
		t.Run(name, func(t *testing.T) {
			var cs []kv.Client
			for range clients {
				cs = append(cs, b.client(t, kv.Options{}, cluster.Endpoints()...))
			}
			key := "hot/" + strconv.Itoa(clients)
			const contenders, each = 64, 20
			var wg sync.WaitGroup
			for i := range contenders {
				wg.Go(func() {
					for range each {
						if err := cs[i%clients].CAS(t.Context(), key, increment); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			if got, err := cs[0].Get(t.Context(), key); got != strconv.Itoa(contenders*each) || err != nil {
				t.Errorf("the counter is %v, %v; want %d", got, err, contenders*each)
			}
		})
	}
}

func TestNoABA(t *testing.T) { onEach(t, noABA) }

func noABA(t *testing.T, b backend) {
	c, other := b.client(t, kv.Options{}, b.shared.Get(t).Endpoints()...), b.client(t, kv.Options{}, b.shared.Get(t).Endpoints()...)
	mustCAS(t, c, "aba", "a")
	runs := 0
	err := c.CAS(t.Context(), "aba", func(any) (any, bool, error) {
		if runs++; runs == 1 {
			mustDelete(t, other, "aba")
			mustCAS(t, other, "aba", "a")
		}
		return "b", false, nil
	})
	if err != nil || runs != 2 {
		t.Errorf("CAS = %v after %d runs; delete and re-create in between must be noticed", err, runs)
	}
}

// Answers are swallowed at random moments. A counter ends between the
// successes and the successes plus the indeterminate.
func TestLostAnswersNeverDouble(t *testing.T) { onEach(t, lostAnswersNeverDouble) }

func lostAnswersNeverDouble(t *testing.T, b backend) {
	cluster := b.shared.Get(t)
	proxy := servertest.Proxy(t, cluster.Endpoints()[0])
	opts := kv.Options{AttemptTimeout: 300 * time.Millisecond, RetryTimeout: 20 * time.Second}
	name := strconv.FormatInt(time.Now().UnixNano(), 36)

	var success, unknown atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 3 {
		c := b.client(t, opts, proxy.Addr())
		for range 4 {
			wg.Go(func() {
				for ctx.Err() == nil {
					switch err := c.CAS(context.Background(), name, increment); {
					case err == nil:
						success.Add(1)
					case errors.Is(err, kv.ErrIndeterminate):
						unknown.Add(1)
					default:
						t.Error(err)
					}
				}
			})
		}
	}
	for range 8 {
		goal := success.Load() + 30
		eventually(t, "work goes on", func() bool { return success.Load() >= goal })
		proxy.SwallowResponses()
		time.Sleep(500 * time.Millisecond) // how long the fault lasts, longer than an attempt
		if err := proxy.Heal(); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	wg.Wait()
	plain := b.client(t, kv.Options{}, cluster.Endpoints()...)
	got, err := plain.Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := got.(string)
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < success.Load() || n > success.Load()+unknown.Load() {
		t.Errorf("the counter is %v; %d calls succeeded, %d are indeterminate", got, success.Load(), unknown.Load())
	}
	t.Logf("%d successes, %d indeterminate, counter %d", success.Load(), unknown.Load(), n)
}

// Create, lost answer, delete by another: never a second create.
func TestLostAnswerOfACreate(t *testing.T) { onEach(t, lostAnswerOfACreate) }

func lostAnswerOfACreate(t *testing.T, b backend) {
	cluster := b.shared.Get(t)
	proxy := servertest.Proxy(t, cluster.Endpoints()[0])
	c := b.client(t, kv.Options{AttemptTimeout: 500 * time.Millisecond, RetryTimeout: 10 * time.Second}, proxy.Addr())
	other := b.client(t, kv.Options{}, cluster.Endpoints()...)
	key := "create/" + strconv.FormatInt(time.Now().UnixNano(), 36)
	if _, err := c.Get(t.Context(), key); err != nil { // connect
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() {
		result <- c.CAS(t.Context(), key, func(any) (any, bool, error) {
			proxy.SwallowResponses()
			return "created", false, nil
		})
	}()
	eventually(t, "the create landed", func() bool {
		v, err := other.Get(t.Context(), key)
		return err == nil && v != nil
	})
	mustDelete(t, other, key)
	if err := proxy.Heal(); err != nil {
		t.Fatal(err)
	}
	if err := <-result; !errors.Is(err, kv.ErrIndeterminate) {
		t.Errorf("CAS = %v, want ErrIndeterminate", err)
	}
	if v, err := other.Get(t.Context(), key); v != nil || err != nil {
		t.Errorf("the key is %v, %v: created a second time", v, err)
	}
}

// BenchmarkEtcdHotKey is 64 goroutines on one key of a real server, beside
// the loop that everybody writes by hand.
func BenchmarkEtcdHotKey(b *testing.B) {
	cluster := etcdBackend.shared.Get(b)
	b.Run("polykv", func(b *testing.B) {
		c := etcdBackend.client(b, kv.Options{}, cluster.Endpoints()...)
		hammer(b, func(ctx context.Context) error { return c.CAS(ctx, "bench/polykv", increment) })
	})
	b.Run("get-txn-loop", func(b *testing.B) {
		raw, err := cluster.EtcdClient()
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = raw.Close() }()
		hammer(b, func(ctx context.Context) error { return getTxnLoop(ctx, raw, "bench/plain") })
	})
}

func hammer(b *testing.B, op func(context.Context) error) {
	b.SetParallelism(32) // times two cores
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := op(context.Background()); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

func getTxnLoop(ctx context.Context, c *clientv3.Client, key string) error {
	for {
		got, err := c.Get(ctx, key)
		if err != nil {
			return err
		}
		var in any
		var rev int64
		if len(got.Kvs) == 1 {
			in, rev = string(got.Kvs[0].Value), got.Kvs[0].ModRevision
		}
		out, _, err := increment(in)
		if err != nil {
			return err
		}
		text, _ := out.(string)
		done, err := c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", rev)).Then(clientv3.OpPut(key, text)).Commit()
		if err != nil || done.Succeeded {
			return err
		}
	}
}
