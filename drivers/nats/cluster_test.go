package nats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// cluster is three servers.
type cluster []*node

func startCluster(t tb) cluster {
	t.Helper()
	routes, release, err := testserver.ReservePorts(3)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(release)
	var urls []*url.URL
	for _, port := range routes {
		urls = append(urls, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", port)})
	}
	var c cluster
	for i, port := range routes {
		c = append(c, start(t, func(o *server.Options) {
			o.ServerName, o.Routes = fmt.Sprint("n", i), urls
			o.Cluster = server.ClusterOpts{Name: "polykv", Host: "127.0.0.1", Port: port}
		}))
	}
	return c
}

// config returns the configuration of clients of the cluster, for a bucket with a
// copy on each server.
func (c cluster) config(bucket string) Config {
	cfg := *NewConfig()
	cfg.Bucket, cfg.Replicas, cfg.Servers = bucket, 3, nil
	for _, n := range c {
		cfg.Servers = append(cfg.Servers, n.addr())
	}
	return cfg
}

// leader returns the server that leads the bucket's stream.
func (c cluster) leader(ctx context.Context, bucket string) (*node, error) {
	for {
		for _, n := range c {
			if n.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, "KV_"+bucket) {
				return n, nil
			}
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return nil, fmt.Errorf("nobody leads %s: %w", bucket, ctx.Err())
		}
	}
}

// changeLeader stops the leader, and starts it again when there is another.
func (c cluster) changeLeader(ctx context.Context, bucket string) error {
	old, err := c.leader(ctx, bucket)
	if err != nil {
		return err
	}
	old.down()
	_, err = c.leader(ctx, bucket)
	return errors.Join(err, old.up(), c.inStep(ctx, bucket))
}

// inStep waits until all have the stream.
func (c cluster) inStep(ctx context.Context, bucket string) error {
	for _, n := range c {
		for !n.JetStreamIsCurrent() || !n.JetStreamIsStreamCurrent(server.DEFAULT_GLOBAL_ACCOUNT, "KV_"+bucket) {
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("%s lags: %w", n.opts.ServerName, ctx.Err())
			}
		}
	}
	return nil
}

// TestConformanceOfCluster has the rules that a change of leader may break, on
// buckets of one cluster.
func TestConformanceOfCluster(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	var buckets atomic.Int64
	h := conformance.Harness{Parallel: 1, Patience: time.Minute}
	h.New = func(t conformance.T) conformance.Store {
		bucket := fmt.Sprint("case", buckets.Add(1))
		openAt := func(addr string, log *slog.Logger) (driver.Store, error) {
			cfg := c.config(bucket)
			if addr != "" {
				cfg.Servers = []string{addr}
			}
			return Open(cfg, log)
		}
		store := conformance.Driver(func(conformance.T) conformance.Opener {
			return func() (driver.Store, error) { return openAt("", nil) }
		}).New(t)
		store.OpenLine = func(cd codec.Codec, o kv.Options) (kv.Client, conformance.Line, error) {
			return drivertest.OpenLine(c[0].addr(), "nats", openAt, cd, o)
		}
		store.ChangeLeader = func(ctx context.Context) error { return c.changeLeader(ctx, bucket) }
		store.Compact = func(ctx context.Context) error { return c[0].compactBucket(ctx, bucket) }
		return store
	}
	conformance.Run(t, h.Declared("nats, three nodes"))
}
