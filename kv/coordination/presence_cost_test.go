package coordination_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/coordination"
	"github.com/polykv/polykv/kv/etcd"
)

// cost is what members that are there for a while cost a server.
type cost struct {
	revisions int64
	events    int64         // that a watch of the members gets
	cpu       time.Duration // of the server, in steps of 10 ms
}

// TestPresenceCost has members come, stay for some lifetimes of their leases, and
// go, on an etcd, by polykv and by etcd's own client. What counts is compared; how
// long the server computed is logged.
func TestPresenceCost(t *testing.T) {
	const (
		members = 300
		clients = 10
		ttl     = 5 * time.Second
		stay    = 3 * ttl
	)
	server := servertest.Etcd(t, testserver.Options{NoFsync: true})
	raw := make([]*clientv3.Client, clients)
	for i := range raw {
		var err error
		if raw[i], err = server.EtcdClient(); err != nil {
			t.Fatal(err)
		}
		defer raw[i].Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	each := func(do func(i int) error) {
		t.Helper()
		var all sync.WaitGroup
		for i := range members {
			all.Go(func() {
				if err := do(i); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	measure := func(prefix string, come, goAway func(i int) error) (c cost) {
		watched, stop := context.WithCancel(ctx)
		defer stop()
		var events atomic.Int64
		from := revision(ctx, t, raw[0])
		watch := raw[0].Watch(watched, prefix, clientv3.WithPrefix(), clientv3.WithRev(from+1))
		var counting sync.WaitGroup
		counting.Go(func() {
			for answer := range watch {
				events.Add(int64(len(answer.Events)))
			}
		})
		began := processorTime(t, server.Pid(0))
		each(come)
		time.Sleep(stay) // what it costs to be there
		each(goAway)
		c.cpu = processorTime(t, server.Pid(0)) - began
		c.revisions = revision(ctx, t, raw[0]) - from
		for deadline := time.Now().Add(time.Minute); events.Load() < c.revisions && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond) // until all are told
		}
		stop()
		counting.Wait()
		c.events = events.Load()
		return c
	}

	leases := make([]clientv3.LeaseID, members)
	bare := measure("bare/", func(i int) error {
		c := raw[i%clients]
		grant, err := c.Grant(ctx, int64(ttl/time.Second))
		if err != nil {
			return err
		}
		leases[i] = grant.ID
		alive, err := c.KeepAlive(ctx, grant.ID)
		if err != nil {
			return err
		}
		go func() {
			for range alive { // its answers
			}
		}()
		_, err = c.Put(ctx, fmt.Sprintf("bare/%d", i), "data", clientv3.WithLease(grant.ID))
		return err
	}, func(i int) error {
		_, err := raw[i%clients].Revoke(ctx, leases[i])
		return err
	})

	presences := make([]*coordination.Presence, clients)
	for i := range presences {
		cfg := etcd.DefaultConfig()
		cfg.Endpoints = server.Endpoints()
		store, err := etcd.Open(cfg, quiet)
		if err != nil {
			t.Fatal(err)
		}
		c := kv.New(store, codec.String{}, &kv.Options{Logger: quiet})
		defer c.Close()
		if presences[i], err = coordination.NewPresence(c, "ring", coordination.Options{TTL: ttl, Logger: quiet}); err != nil {
			t.Fatal(err)
		}
		defer presences[i].Close()
	}
	joined := make([]*coordination.Membership, members)
	ours := measure("ring/", func(i int) (err error) {
		joined[i], err = presences[i%clients].Join(ctx, strconv.Itoa(i), "data")
		return err
	}, func(i int) error { return joined[i].Leave(ctx) })

	t.Logf("%d members for %v: by polykv %d revisions, %d events, %v of the server; by etcd's client %d, %d, %v; that is %.2f, %.2f and %.2f times",
		members, stay, ours.revisions, ours.events, ours.cpu, bare.revisions, bare.events, bare.cpu,
		float64(ours.revisions)/float64(bare.revisions), float64(ours.events)/float64(bare.events), ours.cpu.Seconds()/bare.cpu.Seconds())
	if ours.revisions*10 > bare.revisions*13 || ours.events*10 > bare.events*13 {
		t.Errorf("presence costs more than 1.3 times what bare leases cost")
	}
}

func revision(ctx context.Context, t *testing.T, c *clientv3.Client) int64 {
	t.Helper()
	answer, err := c.Get(ctx, "none")
	if err != nil {
		t.Fatal(err)
	}
	return answer.Header.Revision
}

// processorTime is what a process has used; zero where there is no /proc.
func processorTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if os.IsNotExist(err) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text)[strings.LastIndexByte(string(text), ')')+1:])
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}
