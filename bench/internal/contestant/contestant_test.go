package contestant

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polykv/polykv/bench/internal/plan"
	"github.com/polykv/polykv/bench/internal/run"
	"github.com/polykv/polykv/bench/workload"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
)

var (
	etcdServer   = servertest.SharedEtcd(testserver.Options{NoFsync: true})
	consulServer = servertest.SharedConsul(testserver.Options{Args: []string{"-dev"}})
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(servertest.Main(m, etcdServer, consulServer))
}

// TestContestantsWork has each do every kind of work that it takes part in, a
// little of it.
func TestContestantsWork(t *testing.T) {
	targets := []workload.Target{
		{Backend: "memory"},
		{Backend: "etcd", Endpoints: etcdServer.Get(t).Endpoints()},
		{Backend: "consul", Endpoints: consulServer.Get(t).Endpoints()},
		{Backend: "bolt", Endpoints: []string{t.TempDir()}},
	}
	for _, backend := range []string{plan.NATS, plan.Postgres} {
		target, end, err := run.Start(t.Context(), backend, io.Discard)
		switch {
		case errors.Is(err, testserver.ErrNoPostgres):
			t.Log(err)
			continue
		case err != nil:
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := end(); err != nil {
				t.Error(err)
			}
		})
		targets = append(targets, target)
	}
	works := []workload.Spec{
		{Work: "cas", Callers: 8, Clients: 2},
		{Work: "get", Callers: 8, Keys: 8},
		{Work: "list", Keys: 30, Writes: 10},
		{Work: "notify"},
		{Work: "notify", Keys: 10},
		{Work: "prefixwatch", Callers: 8, Keys: 20, Writes: 100},
		{Work: "fanout", Watchers: 8},
		{Work: "handover", TTL: 10},
		{Work: "watchmemory", Watchers: 8},
	}
	for name, open := range map[string]workload.Opener{"polykv": Polykv, "raw": Raw, "bare": Bare} {
		for _, target := range targets {
			if name == "raw" && target.Backend == "memory" || name == "bare" && target.Backend != "consul" {
				continue // there is no such client
			}
			for _, spec := range works {
				if name == "bare" && spec.Work != "cas" {
					continue // it has one caller at a time
				}
				own := slices.Contains([]string{plan.Bolt, plan.NATS, plan.Postgres}, target.Backend)
				if name == "raw" && own && !slices.Contains([]string{"cas", "get", "list"}, spec.Work) && (spec.Work != "notify" || spec.Keys > 1 || target.Backend == plan.Bolt) {
					continue // that is in no row
				}
				title := strings.Join([]string{name, target.Backend, spec.Work}, "/")
				t.Run(title, func(t *testing.T) {
					spec.Prefix, spec.Seconds = title, 0.05
					if target.Backend == plan.Etcd && spec.Work == "watchmemory" {
						noStreams(t, target)
					}
					sample, done, err := workload.Prepare(t.Context(), open, target, spec)
					if err != nil {
						t.Fatal(err)
					}
					got, err := sample(t.Context())
					if err != nil || got.Calls == 0 || got.Failed > 0 || got.Lost > 0 {
						t.Errorf("%+v, %v", got, err)
					}
					if streams, ok := got.Values["streams"]; ok && (streams < 1 || streams > 8) {
						t.Errorf("the server sees %v streams", streams)
					}
					if err := done(); err != nil {
						t.Error(err)
					}
				})
			}
		}
	}
}

// noStreams waits until an etcd server has noticed that all watches ended.
func noStreams(t *testing.T, target workload.Target) {
	t.Helper()
	defer http.DefaultClient.CloseIdleConnections()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		resp, err := http.Get("http://" + target.Endpoints[0] + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\netcd_debugging_mvcc_watch_stream_total 0\n") {
			return
		}
		if time.Now().After(end) {
			t.Fatal("the streams of others stay")
		}
	}
}

// TestGossip has three nodes do what the gossip rows are about.
func TestGossip(t *testing.T) {
	for _, spec := range []workload.Spec{
		{Work: "gossip", Nodes: 3, Keys: 5, Writes: 100},
		{Work: "gossipidle", Nodes: 3},
		{Work: "gossipget", Nodes: 1, Keys: 10},
	} {
		t.Run(spec.Work, func(t *testing.T) {
			spec.Seconds = 0.1
			sample, done, err := workload.Prepare(t.Context(), Polykv, workload.Target{Backend: "gossip"}, spec)
			if err != nil {
				t.Fatal(err)
			}
			got, err := sample(t.Context())
			if err != nil || got.Calls == 0 || got.Values["missing"] > 0 || spec.Work == "gossip" && got.Values["bytes"] <= 0 {
				t.Errorf("%+v, %v", got, err)
			}
			if err := done(); err != nil {
				t.Error(err)
			}
		})
	}
	if _, _, err := workload.Prepare(t.Context(), Polykv, workload.Target{Backend: "memory"}, workload.Spec{Work: "gossip"}); err == nil {
		t.Error("gossip without a cluster is no error")
	}
}

func TestUnknownBackends(t *testing.T) {
	for name, open := range map[string]workload.Opener{"polykv": Polykv, "raw": Raw, "bare": Bare} {
		if _, err := open(workload.Target{Backend: "paper"}); err == nil || !strings.Contains(err.Error(), "paper") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
