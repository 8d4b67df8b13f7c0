package e2e

import (
	"context"
	"testing"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// An arena is a cluster of three servers with what it takes to break it.
type arena struct {
	name        string // of the test
	backend     backend
	cluster     *testserver.Cluster
	storeFaults map[kind]func(context.Context, *round, fault) error
	keeper      keeper // of a secured cluster; else nil

	workers int // of each client
	options kv.Options
	members []*member // in the present round
}

// A member is one client as a process would have it: with connections of its
// own, through links of its own.
type member struct {
	id     int
	client kv.Client
	links  []*link
	seen   *traffic
}

// A keeper hands out what the clients of a secured cluster log in with, and
// takes it away.
type keeper interface {
	open(t testing.TB, member int, endpoints []string) driver.Store
	revoke(ctx context.Context, member int) error
	grant(ctx context.Context, member int) error
}

const (
	membersPerRound  = 3
	watchesPerMember = 4 // see round.watch
)

// newArena starts a cluster, secured or not, that ends with the test.
func newArena(t testing.TB, b backend, secured bool) *arena {
	t.Helper()
	o := testserver.Options{Nodes: 3, NoFsync: true, Auth: secured}
	if secured && b.name == etcdBackend.name {
		o.Args = []string{"--auth-token-ttl=1"} // seconds without use
	}
	a := &arena{name: t.Name(), backend: b, cluster: b.start(t, o), workers: 4, options: kv.DefaultOptions()}
	a.storeFaults = map[kind]func(context.Context, *round, fault) error{
		compaction: compactSome, defrag: defragment, restore: restoreBackup, revoke: revokeOne,
	}
	if secured {
		a.keeper = b.keeper(t, a.cluster)
	}
	return a
}

// join opens a client. With etcd it knows all servers; with Consul it has the
// one that is its agent.
func (a *arena) join(t testing.TB, id int) *member {
	t.Helper()
	m := &member{id: id, seen: &traffic{}}
	var endpoints []string
	for node, endpoint := range a.cluster.Endpoints() {
		if a.backend.oneEndpoint && node != id%a.cluster.Nodes() {
			continue
		}
		l := newLink(t, id, node, endpoint)
		m.links = append(m.links, l)
		endpoints = append(endpoints, l.near.Addr())
	}
	options := a.options
	options.Observer, options.Logger, options.Backend = m.seen, quiet, a.backend.name
	m.client = kv.New(a.openStore(t, id, endpoints), codec.String{}, &options)
	return m
}

func (a *arena) openStore(t testing.TB, id int, endpoints []string) driver.Store {
	t.Helper()
	if a.keeper != nil {
		return a.keeper.open(t, id, endpoints)
	}
	store, err := a.backend.open(endpoints)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// links returns those of all clients.
func (a *arena) links() []*link {
	var links []*link
	for _, m := range a.members {
		links = append(links, m.links...)
	}
	return links
}

// direct runs f with a client that no fault of the network is in the way of,
// which is the judge of what the store has.
func (a *arena) direct(t testing.TB, f func(kv.Client)) {
	t.Helper()
	options := kv.Options{Logger: quiet, Backend: a.backend.name, RetryTimeout: adminTimeout}
	c := kv.New(a.openStore(t, adminMember, a.cluster.Endpoints()), codec.String{}, &options)
	f(c)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// adminMember is the keeper's name for the direct client, which keeps its
// rights.
const adminMember = -1
