package memberlist

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv/coordination"
	"github.com/polykv/polykv/kv/memberlist/internal/network"
)

// Members on gossip are told gone within a second of the failure that membership
// saw. A node that is cut off, and one that was stopped, takes nobody for gone, and
// is there again when it is back.
func TestPresence(t *testing.T) {
	for name, away := range map[string]func(*network.Fabric, netip.AddrPort) (back func()){
		"cut off": func(f *network.Fabric, addr netip.AddrPort) func() {
			f.Partition([]netip.AddrPort{addr})
			return f.Heal
		},
		"stopped": func(f *network.Fabric, addr netip.AddrPort) func() {
			f.Freeze(addr)
			return func() { f.Thaw(addr) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const size, everybody = 5, "0 1 2 3 4"
				fabric := network.NewFabric(1)
				nodes := startNodes(t, size, fabric, func(cfg *Config) { cfg.ProbeInterval, cfg.ProbeTimeout = time.Second, 500*time.Millisecond })
				var all []*coordination.Presence
				for i, n := range nodes {
					p, err := coordination.NewPresence(clientOf(t, n, codec.String{}), "ring", coordination.Options{Logger: testLogger(t)})
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { _ = p.Close() })
					if _, err := p.Join(t.Context(), fmt.Sprint(i), ""); err != nil {
						t.Fatal(err)
					}
					all = append(all, p)
				}
				present := func(p *coordination.Presence) string {
					members, err := p.Members(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					var ids []string
					for _, m := range members {
						ids = append(ids, m.ID)
					}
					return strings.Join(ids, " ")
				}
				soon(t, "all see all", func() bool { return present(all[0]) == everybody && present(all[4]) == everybody })
				writes := nodes[0].store.Snapshot().Len()
				if writes != size {
					t.Errorf("%d keys for %d members: beats are not needed here", writes, size)
				}
				back := away(fabric, nodes[4].net.Self().Addr)
				soon(t, "membership sees the failure", func() bool { return len(nodes[0].Peers()) == size-2 })
				time.Sleep(time.Second)
				if got := present(all[0]); got != "0 1 2 3" {
					t.Errorf("a second after membership saw it, %s are there", got)
				}
				for range 60 {
					time.Sleep(time.Second)
					if got := present(all[4]); got != everybody {
						t.Fatalf("to the node that is away, %s are there", got)
					}
				}
				back()
				for range 60 {
					time.Sleep(time.Second)
					if got := present(all[4]); got != everybody {
						t.Fatalf("to the node that was away, %s are there", got)
					}
				}
				if got := present(all[0]); got != everybody {
					t.Errorf("a minute after it is back, %s are there", got)
				}
				if err := all[3].Close(); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Second)
				if got := present(all[0]); got != "0 1 2 4" {
					t.Errorf("after one left, %s are there", got)
				}
			})
		})
	}
}
