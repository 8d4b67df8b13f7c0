package contestant

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/polykv/polykv/bench/workload"
	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/memberlist"
)

// startTimeout bounds the start of a cluster.
const startTimeout = time.Minute

// cluster is polykv's gossip at its defaults, on loopback.
type cluster struct {
	nodes  []*memberlist.Node
	tables []table
}

func openCluster(t workload.Target) (_ workload.Store, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	c := &cluster{}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	values := memberlist.MapCodec[string, int64]{Value: codec.JSON[int64]{}}
	for i := range t.Nodes {
		cfg := memberlist.DefaultConfig()
		cfg.NodeName = fmt.Sprintf("node-%d", i)
		cfg.BindAddress, cfg.BindPort = "127.0.0.1", 0
		if i > 0 {
			cfg.Join = []string{c.nodes[0].Address()}
		}
		node, err := memberlist.StartWith(ctx, cfg, memberlist.Options{Logger: slog.New(slog.DiscardHandler)}, values)
		if err != nil {
			return nil, err
		}
		c.nodes = append(c.nodes, node)
		client, err := node.Client(values, nil)
		if err != nil {
			return nil, err
		}
		c.tables = append(c.tables, table{client})
	}
	for _, node := range c.nodes {
		if err := node.WaitReady(ctx, t.Nodes-1); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Client implements workload.Store.
func (c *cluster) Client() (workload.Client, error) { return c.tables[0].client, nil }

// Table implements workload.Cluster.
func (c *cluster) Table(node int) workload.Table { return c.tables[node] }

// SentBytes implements workload.Cluster. What goes over a connection counts on
// both its ends, so half of it is what was sent.
func (c *cluster) SentBytes() (total float64, err error) {
	for _, node := range c.nodes {
		node.Figures(func(name, _ string, _ bool, value float64, labels ...string) {
			switch {
			case name == "polykv_gossip_datagram_bytes_total" && labelled(labels, "direction", "sent"):
				total += value
			case name == "polykv_gossip_stream_bytes_total":
				total += value / 2
			}
		})
	}
	return total, nil
}

func labelled(labels []string, name, value string) bool {
	for i := 0; i+1 < len(labels); i += 2 {
		if labels[i] == name {
			return labels[i+1] == value
		}
	}
	return false
}

// Close implements workload.Store.
func (c *cluster) Close() error {
	var clients []kv.Client
	for _, t := range c.tables {
		clients = append(clients, t.client)
	}
	return errors.Join(closeAll(clients), closeAll(c.nodes))
}

type table struct{ client kv.Client }

const tableKey = "table"

type tableMap = *memberlist.Map[string, int64]

// Set implements workload.Table.
func (t table) Set(ctx context.Context, name string, n int64) error {
	return t.client.CAS(ctx, tableKey, func(in any) (any, bool, error) {
		m, _ := in.(tableMap)
		if m == nil {
			m = memberlist.NewMap[string, int64]()
		}
		m.Set(name, n)
		return m, false, nil
	})
}

// Get implements workload.Table.
func (t table) Get(ctx context.Context) error {
	v, err := t.client.Get(ctx, tableKey)
	if err == nil && v.(tableMap).Len() == 0 {
		return errors.New("the table is empty")
	}
	return err
}

// Watch implements workload.Table.
func (t table) Watch(ctx context.Context, f func(get func(string) int64)) {
	t.client.WatchKey(ctx, tableKey, func(v any) bool {
		if m, ok := v.(tableMap); ok {
			f(func(name string) int64 { n, _ := m.Get(name); return n })
		}
		return true
	})
}
