package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/polykv/polykv/bench/internal/plan"
	"github.com/polykv/polykv/bench/workload"
	"github.com/polykv/polykv/internal/testserver"
)

// Start starts the servers of a backend, if it has any; end ends them. It is
// testserver.ErrNoPostgres where those of PostgreSQL are not installed.
func Start(ctx context.Context, name string, log io.Writer) (t workload.Target, end func() error, err error) {
	const quota = 8 << 30 // of etcd's database, since every write adds to it
	var cluster *testserver.Cluster
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
	case plan.Bolt:
		t.Backend = name
		folder, err := os.MkdirTemp("", "bolt")
		t.Endpoints = []string{folder}
		return t, func() error { return os.RemoveAll(folder) }, err
	case plan.NATS:
		return startNATS()
	case plan.Postgres:
		return startPostgres(ctx)
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

// startNATS starts a server in this process.
func startNATS() (t workload.Target, end func() error, err error) {
	folder, err := os.MkdirTemp("", "nats")
	if err != nil {
		return t, nil, err
	}
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: folder, NoSigs: true, NoLog: true,
	})
	if err != nil {
		return t, nil, err
	}
	go s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		s.Shutdown()
		return t, nil, errors.New("NATS does not start")
	}
	return workload.Target{Backend: plan.NATS, Endpoints: []string{s.Addr().String()}}, func() error {
		s.Shutdown()
		s.WaitForShutdown()
		return os.RemoveAll(folder)
	}, nil
}

func startPostgres(ctx context.Context) (t workload.Target, end func() error, err error) {
	s, err := testserver.NewPostgres()
	if err != nil {
		return t, nil, err
	}
	if err = errors.Join(s.Init(), s.Up(ctx)); err != nil {
		return t, nil, errors.Join(err, s.Close())
	}
	return workload.Target{Backend: plan.Postgres, Endpoints: []string{s.Addr()}}, s.Close, nil
}
