package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-kit/log"
	"github.com/grafana/dskit/kv/codec"
	"github.com/grafana/dskit/kv/memberlist"
	"github.com/grafana/dskit/services"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/polykv/polykv/bench/workload"
)

const startTimeout = time.Minute

// cluster is dskit's memberlist client at its defaults, on loopback.
type cluster struct {
	nodes    []*memberlist.KV
	clients  []*memberlist.Client
	registry *prometheus.Registry
}

func openCluster(t workload.Target) (workload.Store, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	c := &cluster{registry: prometheus.NewRegistry()}
	for i := range t.Nodes {
		var cfg memberlist.KVConfig
		cfg.RegisterFlags(flag.NewFlagSet("", flag.ContinueOnError)) // sets the defaults
		cfg.NodeName = fmt.Sprintf("node-%d", i)
		cfg.TCPTransport.BindAddrs = []string{"127.0.0.1"}
		cfg.TCPTransport.BindPort = 0
		cfg.Codecs = []codec.Codec{tableCodec{}}
		if i > 0 {
			cfg.JoinMembers = []string{fmt.Sprintf("127.0.0.1:%d", c.nodes[0].GetListeningPort())}
		}
		reg := prometheus.WrapRegistererWith(prometheus.Labels{"node": cfg.NodeName}, c.registry)
		node := memberlist.NewKV(cfg, log.NewNopLogger(), &addresses{}, reg)
		// Not with ctx, whose end would end the node.
		if err := services.StartAndAwaitRunning(context.Background(), node); err != nil {
			return nil, err
		}
		client, err := memberlist.NewClient(node, tableCodec{})
		if err != nil {
			return nil, err
		}
		c.nodes, c.clients = append(c.nodes, node), append(c.clients, client)
	}
	return c, c.awaitMembers(ctx, t.Nodes)
}

// awaitMembers waits until the nodes know each other.
func (c *cluster) awaitMembers(ctx context.Context, want int) error {
	for {
		known, err := c.sum(func(name string) bool { return strings.HasSuffix(name, "memberlist_client_cluster_members_count") })
		if err != nil || int(known) == want*want {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d nodes know %v members in all: %w", want, known, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// sum adds the metrics of all nodes whose names are wanted.
func (c *cluster) sum(wanted func(name string) bool) (total float64, err error) {
	families, err := c.registry.Gather()
	for _, family := range families {
		if wanted(family.GetName()) {
			for _, m := range family.GetMetric() {
				total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return total, err
}

// addresses stands for dskit's DNS provider: they are resolved already.
type addresses struct{ all []string }

func (a *addresses) Resolve(_ context.Context, addrs []string) error { a.all = addrs; return nil }
func (a *addresses) Addresses() []string                             { return a.all }

func (c *cluster) Client() (workload.Client, error) { return c.clients[0], nil }
func (c *cluster) Table(node int) workload.Table    { return tableOf{c.clients[node]} }

// Close leaves the nodes to the end of the process, as leaving takes each of
// them seconds.
func (c *cluster) Close() error { return nil }

// SentBytes implements workload.Cluster.
func (c *cluster) SentBytes() (total float64, err error) {
	total, err = c.sum(func(name string) bool {
		return strings.Contains(name, "memberlist_tcp_transport_") && strings.HasSuffix(name, "sent_bytes_total")
	})
	if err == nil && total == 0 {
		err = errors.New("dskit's metrics show no bytes sent")
	}
	return total, err
}

type tableOf struct{ client *memberlist.Client }

const tableKey = "table"

func (t tableOf) Set(ctx context.Context, name string, n int64) error {
	return t.client.CAS(ctx, tableKey, func(in any) (any, bool, error) {
		out := &table{Entries: map[string]int64{}}
		if in != nil {
			out = in.(*table)
		}
		out.Entries[name] = n
		return out, true, nil
	})
}

func (t tableOf) Get(ctx context.Context) error {
	v, err := t.client.Get(ctx, tableKey)
	if err == nil && len(v.(*table).Entries) == 0 {
		return errors.New("the table is empty")
	}
	return err
}

func (t tableOf) Watch(ctx context.Context, f func(get func(string) int64)) {
	t.client.WatchKey(ctx, tableKey, func(v any) bool {
		if m, ok := v.(*table); ok && m != nil {
			f(func(name string) int64 { return m.Entries[name] })
		}
		return true
	})
}

// table is a map of which each entry only grows.
type table struct{ Entries map[string]int64 }

// Merge implements memberlist.Mergeable.
func (t *table) Merge(other memberlist.Mergeable, _ bool) (memberlist.Mergeable, error) {
	o, ok := other.(*table)
	if !ok || o == nil {
		return nil, nil
	}
	changed := map[string]int64{}
	for name, n := range o.Entries {
		if old, ok := t.Entries[name]; !ok || n > old {
			t.Entries[name], changed[name] = n, n
		}
	}
	if len(changed) == 0 {
		return nil, nil
	}
	return &table{changed}, nil
}

// MergeContent implements memberlist.Mergeable.
func (t *table) MergeContent() []string { return slices.Collect(maps.Keys(t.Entries)) }

// RemoveTombstones implements memberlist.Mergeable; there are none.
func (t *table) RemoveTombstones(time.Time) (total, removed int) { return 0, 0 }

// Clone implements memberlist.Mergeable.
func (t *table) Clone() memberlist.Mergeable { return &table{maps.Clone(t.Entries)} }

// tableCodec is JSON, as polykv's contestant has it.
type tableCodec struct{}

func (tableCodec) CodecID() string { return "table" }

func (tableCodec) Encode(v any) ([]byte, error) { return json.Marshal(v) }

func (tableCodec) Decode(data []byte) (any, error) {
	t := &table{}
	err := json.Unmarshal(data, t)
	return t, err
}
