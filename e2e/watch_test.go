package e2e

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv"
)

// traffic counts what the engine asks of the store.
type traffic struct {
	kv.NopObserver
	requests, resyncs atomic.Int64
}

func (o *traffic) Request(context.Context, string, string, time.Duration, error) { o.requests.Add(1) }

func (o *traffic) WatchResync(context.Context, string, error) { o.resyncs.Add(1) }

// Everything that can interrupt a watch, one after another on one server,
// while keys change, go and come. Afterwards the watcher's picture is the
// store, deletions included, and neither the client nor the connection ran
// hot meanwhile.
func TestWatchSurvives(t *testing.T) { onEachAmongOthers(t, watchSurvives) }

func watchSurvives(t *testing.T, b backend) {
	cluster := b.start(t, testserver.Options{NoFsync: true})
	proxy := servertest.Proxy(t, cluster.Endpoints()[0])
	seen := &traffic{}
	watched := b.client(t, kv.Options{Observer: seen}, proxy.Addr())
	direct := b.client(t, kv.Options{RetryTimeout: time.Minute}, cluster.Endpoints()...)
	p := watchPicture(t, watched, "w/")
	want := map[string]any{}
	change := func(round int) {
		t.Helper()
		keys := []string{"w/updated", fmt.Sprintf("w/created-%d", round)}
		for _, key := range keys {
			value := fmt.Sprintf("%s in round %d", key, round)
			mustCAS(t, direct, key, value)
			want[key] = value
		}
		if old := fmt.Sprintf("w/created-%d", round-1); want[old] != nil {
			mustDelete(t, direct, old)
			delete(want, old)
		}
		short := fmt.Sprintf("w/short-%d", round)
		mustCAS(t, direct, short, "x")
		mustDelete(t, direct, short)
	}
	follows := func(after string) {
		t.Helper()
		eventually(t, "the watcher's picture equals the store after "+after, func() bool { return p.equals(want) })
	}
	change(0)
	follows("the start")

	for round, fault := range []struct {
		name    string
		do      func(change func())
		compact bool // of stores that keep a history
	}{
		{name: "a cut connection", do: func(change func()) {
			proxy.Cut()
			change()
			time.Sleep(2 * time.Second) // how long the fault lasts
			heal(t, proxy)
		}},
		{name: "a compaction during a cut", compact: true, do: func(change func()) {
			proxy.Cut()
			change()
			b.compact(t, cluster)
			heal(t, proxy)
		}},
		{name: "a compaction during a watch", compact: true, do: func(change func()) {
			b.compact(t, cluster)
			change()
		}},
		{name: "a kill and restart", do: func(change func()) {
			must(t, cluster.Kill(0))
			must(t, cluster.Restart(0))
			servertest.WaitReady(t, cluster)
			change()
		}},
		{name: "a stop of five seconds", do: func(change func()) {
			change()
			must(t, cluster.Pause(0))
			time.Sleep(5 * time.Second) // how long the fault lasts
			must(t, cluster.Continue(0))
			servertest.WaitReady(t, cluster)
		}},
		{name: "swallowed answers", do: func(change func()) {
			proxy.SwallowResponses()
			change()
			heal(t, proxy) // the stream has lost bytes and is closed; a new one must catch up
		}},
	} {
		if fault.compact && b.compact == nil {
			continue
		}
		begun, requests, connections := time.Now(), seen.requests.Load()+seen.resyncs.Load(), proxy.Stats().Accepted
		fault.do(func() { change(round + 1) })
		follows(fault.name)
		change(round + 100)
		if old := fmt.Sprintf("w/created-%d", round+1); want[old] != nil {
			mustDelete(t, direct, old)
			delete(want, old)
		}
		follows("a change after " + fault.name)
		lasted := time.Since(begun).Seconds() + 1
		if n := float64(seen.requests.Load() + seen.resyncs.Load() - requests); n/lasted > 20 {
			t.Errorf("%s: %.0f requests and new sessions in %.1f s", fault.name, n, lasted)
		}
		if n := float64(proxy.Stats().Accepted - connections); n/lasted > 20 {
			t.Errorf("%s: %.0f connections in %.1f s", fault.name, n, lasted)
		}
		t.Logf("%s: %.1f s", fault.name, lasted-1)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func heal(t testing.TB, p *testserver.Proxy) {
	t.Helper()
	must(t, p.Heal())
}

// compactEtcd drops all history of the cluster's keys.
func compactEtcd(t testing.TB, cluster *testserver.Cluster) {
	t.Helper()
	c, err := cluster.EtcdClient()
	must(t, err)
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	now, err := c.Get(ctx, "any")
	must(t, err)
	_, err = c.Compact(ctx, now.Header.Revision)
	must(t, err)
}
