package multi_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/memberlist"
	"github.com/polykv/polykv/kv/multi"
	"github.com/polykv/polykv/kv/multi/internal/side"
	"github.com/polykv/polykv/kv/multi/migrate"
)

var counts = memberlist.MapCodec[string, int]{ID: "counts"}

// gossipNode starts a node on the loopback interface.
func gossipNode(t *testing.T, name string, join ...string) *memberlist.Node {
	cfg := memberlist.DefaultConfig()
	cfg.NodeName, cfg.ClusterLabel = name, t.Name()
	cfg.BindAddress, cfg.BindPort = "127.0.0.1", 0
	cfg.ProbeInterval, cfg.ProbeTimeout, cfg.GossipInterval = 200*time.Millisecond, 100*time.Millisecond, 50*time.Millisecond
	cfg.RejoinInterval, cfg.AloneInterval = time.Second, 200*time.Millisecond
	cfg.Join = join
	n, err := memberlist.StartWith(t.Context(), cfg, memberlist.Options{Logger: quiet}, codec.String{}, counts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

func gossipClient(t *testing.T, n *memberlist.Node, cdc codec.Codec) kv.Client {
	c, err := n.Client(cdc, &kv.Options{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// What is written on a node of the cluster where no client of both stores is
// arrives in the other store, deletions and merged values included, and back
// after a switch.
func TestGossipIsMirroredByWatch(t *testing.T) {
	here := gossipNode(t, "here")
	there := gossipNode(t, "there", here.Address())
	store := inmemory.NewStore()
	plain := kv.New(store.Open(), counts, &kv.Options{Logger: quiet})
	t.Cleanup(func() { plain.Close() })
	c, err := multi.New(multi.DefaultConfig(), []multi.Backend{
		{Name: "gossip", Client: gossipClient(t, here, counts), Gossip: true, Equal: memberlist.Equal(counts)},
		{Name: "memory", Client: kv.New(store.Open(), counts, &kv.Options{Logger: quiet})},
	}, multi.WithLogger(quiet))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	elsewhere := gossipClient(t, there, counts)
	set := func(c kv.Client, entry string, n int) {
		t.Helper()
		if err := c.CAS(t.Context(), "k", func(in any) (any, bool, error) {
			m, ok := in.(*memberlist.Map[string, int])
			if !ok {
				m = memberlist.NewMap[string, int]()
			}
			m.Set(entry, n)
			return m, false, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	holds := func(c kv.Client, want map[string]int) func() bool {
		return func() bool {
			m, ok := get(t, c, "k").(*memberlist.Map[string, int])
			if !ok {
				return len(want) == 0
			}
			for entry, n := range want {
				if got, ok := m.Get(entry); !ok || got != n {
					return false
				}
			}
			return m.Len() == len(want)
		}
	}
	set(elsewhere, "a", 1)
	eventually(t, "what another node wrote is mirrored", holds(plain, map[string]int{"a": 1}))
	set(c, "b", 2)
	set(elsewhere, "a", 3)
	eventually(t, "what two nodes wrote is mirrored", holds(plain, map[string]int{"a": 3, "b": 2}))
	if _, differences, err := c.Verify(t.Context()); err != nil || len(differences) > 0 {
		t.Errorf("the stores differ: %v, %v", differences, err)
	}
	if err := elsewhere.Delete(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the deletion is mirrored", func() bool { return get(t, plain, "k") == nil })

	set(c, "c", 4)
	eventually(t, "the key is there again", holds(plain, map[string]int{"c": 4}))
	if err := c.SetPrimary(t.Context(), "memory"); err != nil {
		t.Fatal(err)
	}
	set(plain, "d", 5)
	eventually(t, "what was written in the new primary is on every node", holds(elsewhere, map[string]int{"c": 4, "d": 5}))
}

// Where both stores are spread by gossip, clients tell of themselves there: on every
// node one can see who has followed, and what a dead one left is removed.
func TestFleetBetweenTwoGossipStores(t *testing.T) {
	var seeds [2]string
	node := func(name string) (both [2]*memberlist.Node) {
		for i, store := range []string{"first", "second"} {
			var join []string
			if seeds[i] != "" {
				join = []string{seeds[i]}
			}
			both[i] = gossipNode(t, store+"-"+name, join...)
		}
		return both
	}
	var n, stuck notice
	n.say("first", true, nil)
	stuck.say("first", true, nil)
	open := func(name string, read func() (multi.Update, error)) *multi.Client {
		nodes := node(name)
		for i := range nodes {
			seeds[i] = nodes[i].Address()
		}
		cfg := multi.DefaultConfig()
		cfg.ClientName = name
		c, err := multi.New(cfg, []multi.Backend{
			{Name: "first", Client: gossipClient(t, nodes[0], counts), Gossip: true, Equal: memberlist.Equal(counts)},
			{Name: "second", Client: gossipClient(t, nodes[1], counts), Gossip: true},
		}, multi.WithLogger(quiet), multi.WithWanted(read))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	clients := []*multi.Client{open("a", n.read), open("b", n.read), open("stuck", stuck.read)}
	operator := node("operator") // it comes when the clients have told of themselves
	var stores []migrate.Backend
	for i, name := range []string{"first", "second"} {
		stores = append(stores, migrate.Backend{Name: name, Client: gossipClient(t, operator[i], codec.String{})})
	}
	f, err := migrate.NewFleet(stores...)
	if err != nil {
		t.Fatal(err)
	}
	if seen, err := converged(f, "first", true, 3, time.Minute); err != nil || seen.Followed != 3 {
		t.Fatalf("%+v, %v", seen, err)
	}
	n.say("second", true, nil)
	eventually(t, "two follow", func() bool {
		seen, err := f.Look(t.Context(), migrate.Wanted{Primary: "second"})
		return err == nil && seen.Followed == 2
	})
	_, err = converged(f, "second", true, 3, 0)
	var behind *migrate.NotFollowedError
	if !errors.As(err, &behind) || behind.Followed != 2 || len(behind.Behind) != 1 || !strings.Contains(err.Error(), "client stuck (") ||
		!strings.Contains(err.Error(), `it uses store "first"`) {
		t.Errorf("with one that does not follow: %v", err)
	}
	stuck.say("second", true, nil)
	if seen, err := converged(f, "second", true, 3, time.Minute); err != nil || seen.Followed != 3 {
		t.Errorf("%+v, %v", seen, err)
	}

	left, err := side.New("second", stores[1].Client, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := left.WriteHeartbeat(t.Context(), side.Heartbeat{Instance: "dead", Mode: side.ModeWanted, Primary: "first", Seen: time.Now().Add(-2 * time.Minute)}); err != nil {
		t.Fatal(err)
	}
	if seen, err := f.Look(t.Context(), migrate.Wanted{Primary: "second"}); err != nil || seen.Followed != 3 || len(seen.Clients) != 3 {
		t.Errorf("with one that died: %+v, %v", seen, err)
	}
	if _, exists, err := left.Get(t.Context(), side.ClientsPrefix+"dead", nil); exists || err != nil {
		t.Errorf("what a dead client left is there: %v", err)
	}
	for _, c := range clients {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	eventually(t, "nobody is listed after the end of all", func() bool {
		seen, err := f.Look(t.Context(), migrate.Wanted{Primary: "second"})
		return err == nil && len(seen.Clients) == 0
	})
}

// Of a client with a gossip side there is no view, since it mirrors by one
// codec, and it says that it is not linearizable. What is inside is found.
func TestViewsAndGossip(t *testing.T) {
	node := gossipNode(t, "here")
	c, err := multi.New(multi.DefaultConfig(), []multi.Backend{
		{Name: "memory", Client: kv.New(inmemory.NewStore().Open(), codec.String{}, &kv.Options{Logger: quiet})},
		{Name: "gossip", Client: gossipClient(t, node, codec.String{}), Gossip: true},
	}, multi.WithLogger(quiet))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	prefixed, err := kv.Prefix(c, "ns/")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.WithCodec(prefixed, counts); !errors.Is(err, kv.ErrNotSupported) || !strings.Contains(err.Error(), `"counts"`) {
		t.Errorf("a view: %v", err)
	}
	if kv.Linearizable(prefixed) {
		t.Error("it says that it is linearizable")
	}
	// The primary has guards, but the other store may be primary one day.
	if _, err := kv.Guarded(prefixed); !errors.Is(err, kv.ErrNotSupported) || !strings.Contains(err.Error(), `"gossip"`) {
		t.Errorf("Guarded: %v", err)
	}
	if _, err := kv.Versioned(prefixed); err != nil {
		t.Errorf("Versioned: %v", err)
	}
	if found, ok := kv.As[*multi.Client](prefixed); !ok || found != c {
		t.Errorf("the client inside: %v, %v", found, ok)
	}
	if found, ok := kv.As[memberlist.Noder](prefixed); !ok || found.Node() != node {
		t.Errorf("the node: %v, %v", found, ok)
	}
}

// A view of a client over two stores is mirrored and switched with it.
func TestViewsOfTwoStores(t *testing.T) {
	p := newPair(t)
	c := p.open(multi.DefaultConfig(), nil)
	view, err := kv.WithCodec(c, codec.Bytes{})
	if err != nil {
		t.Fatal(err)
	}
	if err := view.CAS(t.Context(), "k", func(any) (any, bool, error) { return []byte("by the view"), false, nil }); err != nil {
		t.Fatal(err)
	}
	for i, store := range p.plain {
		if got := get(t, store, "k"); got != "by the view" {
			t.Errorf("store %d holds %v", i, got)
		}
	}
	switcher, ok := kv.As[*multi.Client](view)
	if !ok {
		t.Fatal("a view is no *multi.Client")
	}
	if err := switcher.SetPrimary(t.Context(), "second"); err != nil {
		t.Fatal(err)
	}
	put(t, p.plain[1], "k", "in the second store")
	if got := get(t, view, "k"); fmt.Sprintf("%s", got) != "in the second store" || c.Primary() != "second" {
		t.Errorf("after the switch to %q a view reads %s", c.Primary(), got)
	}
}
