package main

import (
	"flag"
	"testing"

	"github.com/go-kit/log"
	dskitkv "github.com/grafana/dskit/kv"
	"github.com/grafana/dskit/ring"

	"github.com/polykv/polykv/compat/internal/fleet"
)

// TestOldAndNewShareTheStore: while a fleet is rolled out, instances with dskit's
// own clients and such with polykv's are in one ring, and see each other.
func TestOldAndNewShareTheStore(t *testing.T) {
	for _, s := range servers.Stores(codec) {
		if s.Name != "etcd" && s.Name != "consul" {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			var cfg dskitkv.Config
			cfg.RegisterFlagsWithPrefix("", "", flag.NewFlagSet("", flag.PanicOnError)) // sets the defaults
			cfg.Store, cfg.Prefix = s.Name, t.Name()+"/"
			cfg.Etcd.Endpoints = servers.Etcd.Get(t).Endpoints()
			cfg.Consul.Host = servers.Consul.Get(t).Endpoints()[0]
			old, err := dskitkv.NewClient(cfg, ring.GetCodec(), nil, log.NewNopLogger())
			if err != nil {
				t.Fatal(err)
			}
			oldRing, err := newRing(old)
			if err != nil {
				t.Fatal(err)
			}
			ours, err := newRing(client(t, s))
			if err != nil {
				t.Fatal(err)
			}
			start(t, oldRing)
			start(t, ours)

			l, err := newLifecycler(old, "old")
			if err != nil {
				t.Fatal(err)
			}
			leave := start(t, l)
			join(t, s, "new")
			both := func(want string) func() bool {
				return func() bool { return healthy(oldRing) == want && healthy(ours) == want }
			}
			fleet.Eventually(t, "both see both", both("new old"))
			seen := heartbeat(t, old, "new")
			fleet.Eventually(t, "two heartbeats", func() bool { return heartbeat(t, old, "new") >= seen+2 })
			if !both("new old")() {
				t.Error("they don't see each other any more")
			}
			leave()
			fleet.Eventually(t, "both see who left", both("new"))
		})
	}
}
