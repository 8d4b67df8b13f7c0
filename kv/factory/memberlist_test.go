package factory_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/factory"
	"github.com/polykv/polykv/kv/memberlist"
)

func gossip(t *testing.T, join string) *factory.Config {
	t.Helper()
	cfg := factory.NewConfig()
	text := fmt.Sprintf(`
backend: memberlist
memberlist:
  node_name: %q
  cluster_label: factory
  bind_address: 127.0.0.1
  bind_port: 0
  join: [%s]
`, t.Name()+join, join)
	if err := cfg.Load(strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func openGossip(t *testing.T, cfg *factory.Config, deps factory.Deps) kv.Client {
	t.Helper()
	client, err := factory.New(t.Context(), cfg, codec.String{}, deps)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestGossipClientReadsWhatTheClusterHas(t *testing.T) {
	node, err := memberlist.Start(t.Context(), gossip(t, "").Memberlist, codec.String{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = node.Close() }()
	shared := openGossip(t, gossip(t, ""), factory.Deps{Memberlist: node})
	err = shared.CAS(t.Context(), "key", func(any) (any, bool, error) { return "value", false, nil })
	if err != nil {
		t.Fatal(err)
	}

	reg := prometheus.NewPedanticRegistry()
	client := openGossip(t, gossip(t, node.Address()), factory.Deps{Registerer: reg})
	if got, err := client.Get(t.Context(), "key"); err != nil || got != "value" {
		t.Errorf("as soon as it is open: %v, %v", got, err)
	}
	if len(node.Peers()) != 1 {
		t.Errorf("the shared node has the peers %v: the client with Deps.Memberlist started one", node.Peers())
	}
	if got := gauge(t, reg, "polykv_gossip_keys"); got != 1 {
		t.Errorf("polykv_gossip_keys is %v", got)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	if got := gauge(t, reg, "polykv_gossip_keys"); got != -1 {
		t.Errorf("after Close polykv_gossip_keys is %v", got)
	}
	for deadline := time.Now().Add(30 * time.Second); len(node.Peers()) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the client's node is still a member after Close")
		}
	}
}

// gauge returns the value of a gauge, -1 if it isn't there.
func gauge(t *testing.T, reg prometheus.Gatherer, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return -1
}
