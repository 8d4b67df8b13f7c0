//go:build linux

package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/migratetest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/etcd"
	"github.com/polykv/polykv/kv/multi"
	"github.com/polykv/polykv/kv/multi/migrate"
)

// Clients that count are moved from etcd to a table, back and over again: no count
// is lost or made twice, and a watch goes on.
func TestMigrationFromEtcd(t *testing.T) {
	n, cluster := start(t), servertest.Etcd(t, testserver.Options{NoFsync: true})
	c := newCounting(t)
	source := func() kv.Client {
		cfg := etcd.DefaultConfig()
		cfg.Endpoints = cluster.Endpoints()
		s, err := etcd.Open(cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.closed(kv.New(s, codec.String{}, &kv.Options{RetryTimeout: 3 * time.Minute}))
	}
	before, after := source(), c.client(n.config())
	const old = 100
	for i := range old {
		if err := before.CAS(t.Context(), fmt.Sprintf("old/%03d", i), func(any) (any, bool, error) { return "0", false, nil }); err != nil {
			t.Fatal(err)
		}
	}
	m, err := migrate.New(migrate.Backend{Name: "etcd", Client: before}, migrate.Backend{Name: "postgres", Client: after}, migrate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	must := func(r migrate.Result, err error) migrate.Result {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v (%+v)", r.Command, err, r)
		}
		return r
	}
	must(m.Start(t.Context()))
	both := func() kv.Client {
		cfg := multi.DefaultConfig()
		cfg.Coordinated = true
		client, err := multi.New(cfg, []multi.Backend{{Name: "etcd", Client: source()}, {Name: "postgres", Client: c.client(n.config())}}, multi.WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			t.Fatal(err)
		}
		return c.closed(client)
	}
	c.watch(both())
	for range 2 {
		c.start(both())
	}
	c.further(20)
	if copied, err := m.Copy(t.Context(), migrate.CopyOptions{}); err != nil || copied.Keys < old {
		t.Fatalf("copy: %+v, %v", copied, err)
	}
	for _, command := range []func(context.Context) (migrate.Result, error){m.Cutover, m.Rollback, m.Cutover} {
		r := must(migratetest.WhenReady(t.Context(), command))
		c.further(20)
		t.Logf("%s: writes waited for %v", r.Command, r.Pause)
	}
	c.judge(after)
	must(m.Finish(t.Context(), ""))
	if v, err := m.Verify(t.Context(), migrate.VerifyOptions{}); err != nil || v.Different != 0 || v.Keys != old+len(counted) {
		t.Errorf("verify: %+v, %v", v, err)
	}
}
