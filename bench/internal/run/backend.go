package run

import (
	"context"
	"fmt"
	"io"

	"github.com/polykv/polykv/bench/internal/plan"
	"github.com/polykv/polykv/bench/workload"
	"github.com/polykv/polykv/internal/testserver"
)

// startBackend starts the servers of a backend, if it has any.
func startBackend(ctx context.Context, name string, log io.Writer) (workload.Target, func() error, error) {
	const quota = 8 << 30 // of etcd's database, since every write adds to it
	var cluster *testserver.Cluster
	var err error
	t := workload.Target{}
	switch name {
	case plan.Memory, plan.Gossip:
		t.Backend = name
		return t, func() error { return nil }, nil
	case plan.Etcd, plan.EtcdNoFsync:
		t.Backend = "etcd"
		cluster, err = testserver.StartEtcd(ctx, testserver.Options{NoFsync: name == plan.EtcdNoFsync, QuotaBytes: quota, Log: log})
	case plan.Consul:
		t.Backend = "consul"
		cluster, err = testserver.StartConsul(ctx, testserver.Options{Args: []string{"-dev"}, Log: log})
	case plan.Consul3:
		t.Backend = "consul"
		cluster, err = testserver.StartConsul(ctx, testserver.Options{Nodes: 3, Log: log})
	default:
		return t, nil, fmt.Errorf("no backend %q", name)
	}
	if err != nil {
		return t, nil, err
	}
	t.Endpoints = cluster.Endpoints()
	if name == plan.Consul3 { // all contestants talk to the leader, or it would be a matter of luck
		leader, err := cluster.Leader(ctx)
		if err != nil {
			_ = cluster.Close() // what went wrong first is what counts
			return t, nil, err
		}
		t.Endpoints = t.Endpoints[leader : leader+1]
	}
	return t, cluster.Close, nil
}
