package nats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/migratetest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/etcd"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/multi"
	"github.com/polykv/polykv/kv/multi/migrate"
)

// pair is another store and a bucket, between which clients migrate.
type pair struct {
	t    *testing.T
	name string // of the other store
	old  func() (driver.Store, error)
	node *node
}

// newPair returns a memory and a bucket.
func newPair(t *testing.T) pair {
	old := inmemory.NewStore()
	return pair{t, "memory", func() (driver.Store, error) { return old.Open(), nil }, start(t, nil)}
}

func etcdPair(t *testing.T) pair {
	cfg := etcd.DefaultConfig()
	cfg.Endpoints = servertest.Etcd(t, testserver.Options{NoFsync: true}).Endpoints()
	return pair{t, "etcd", func() (driver.Store, error) { return etcd.Open(cfg, nil) }, start(t, nil)}
}

// alone returns clients of each.
func (p pair) alone() (old, bucket kv.Client) {
	o, err := p.old()
	if err != nil {
		p.t.Fatal(err)
	}
	s, err := Open(p.node.config(), nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return client(p.t, o), client(p.t, s)
}

// both returns a client of both, which heeds the records of a migration.
func (p pair) both() *multi.Client {
	old, bucket := p.alone()
	cfg := multi.DefaultConfig()
	cfg.Coordinated, cfg.MirrorTimeout = true, 30*time.Second // a mirrored write has a guard, of which a server takes some a second
	c, err := multi.New(cfg, []multi.Backend{{Name: p.name, Client: old}, {Name: "nats", Client: bucket}}, multi.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (p pair) migration() *migrate.Migration {
	old, bucket := p.alone()
	m, err := migrate.New(migrate.Backend{Name: p.name, Client: old}, migrate.Backend{Name: "nats", Client: bucket}, migrate.Options{})
	if err != nil {
		p.t.Fatal(err)
	}
	return m
}

func put(t *testing.T, c kv.Client, key, value string) {
	t.Helper()
	if err := c.CAS(t.Context(), key, func(any) (any, bool, error) { return value, false, nil }); err != nil {
		t.Fatal(err)
	}
}

// Clients that count are moved to a bucket, back and over again: no count is lost or
// made twice, and a watch goes on.
func TestMigration(t *testing.T) {
	t.Parallel()
	for from, pairOf := range map[string]func(*testing.T) pair{"memory": newPair, "etcd": etcdPair} {
		t.Run(from, func(t *testing.T) { migrates(t, pairOf(t)) })
	}
}

func migrates(t *testing.T, p pair) {
	source, bucket := p.alone()
	const old = 100
	for i := range old {
		put(t, source, fmt.Sprintf("old/%03d", i), "0")
	}
	m := p.migration()
	if r, err := m.Start(t.Context()); err != nil {
		t.Fatalf("%v (%+v)", err, r)
	}
	n := newCounts(t, p.both(), p.both())
	n.watch(p.both())
	n.further()
	if copied, err := m.Copy(t.Context(), migrate.CopyOptions{}); err != nil || copied.Keys < old {
		t.Fatalf("copy: %+v, %v", copied, err)
	}
	for _, command := range []func(context.Context) (migrate.Result, error){m.Cutover, m.Rollback, m.Cutover} {
		r, err := migratetest.WhenReady(t.Context(), command)
		if err != nil {
			t.Fatalf("%v (%+v)", err, r)
		}
		n.further()
		t.Logf("%s: writes waited for %v", r.Command, r.Pause)
	}
	n.judge(bucket)
	if r, err := m.Finish(t.Context(), ""); err != nil {
		t.Fatalf("%v (%+v)", err, r)
	}
	if v, err := m.Verify(t.Context(), migrate.VerifyOptions{}); err != nil || v.Different != 0 || v.Keys != old+3 {
		t.Errorf("verify: %+v, %v", v, err)
	}
}

// What a bucket can't hold is refused at once, also of clients of two stores.
func TestWhatABucketCannotHold(t *testing.T) {
	p := newPair(t)
	_, bucket := p.alone()
	both := p.both()
	for name, c := range map[string]kv.Client{"a bucket": bucket, "two stores": both} {
		if _, err := kv.Leased(c); !errors.Is(err, kv.ErrNotSupported) {
			t.Errorf("leases of %s: %v", name, err)
		}
	}
	if _, ok := driver.Store(open(t, p.node.config())).(driver.Leaser); ok {
		t.Error("the driver has leases")
	}
	limits, err := both.Limits()
	if err != nil || limits.Guards != maxGuards-1 { // one is the migration's
		t.Fatalf("limits: %+v, %v", limits, err)
	}
	if r, err := p.migration().Start(t.Context()); err != nil {
		t.Fatalf("%v (%+v)", err, r)
	}
	put(t, both, "lock", "mine")
	_, version, err := both.GetVersion(t.Context(), "lock")
	if err != nil {
		t.Fatal(err)
	}
	write := func(any) (any, bool, error) { return "v", false, nil }
	guards := slices.Repeat([]kv.Guard{{Key: "lock", Version: version}}, maxGuards)
	if err := both.CASGuarded(t.Context(), "k", write, guards[1:]...); err != nil {
		t.Errorf("a write with as many guards as are allowed: %v", err)
	}
	if err := both.CASGuarded(t.Context(), "k", write, guards...); !errors.Is(err, kv.ErrNotSupported) {
		t.Errorf("a write with more: %v", err)
	}
}

// A migration to a bucket whose stream takes no batches is refused before anything
// is written without a guard.
func TestMigrationNeedsBatches(t *testing.T) {
	p := newPair(t)
	if _, err := asOther(t, p.node).CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "polykv"}); err != nil {
		t.Fatal(err)
	}
	source, _ := p.alone()
	put(t, source, "k", "v")
	m := p.migration()
	r, err := m.Start(t.Context())
	if err == nil {
		_, err = m.Copy(t.Context(), migrate.CopyOptions{})
	}
	if !errors.Is(err, kv.ErrNotSupported) {
		t.Errorf("a migration: %v (%+v)", err, r)
	}
	if e := drivertest.Get(t, open(t, p.node.config()), "k"); e.Exists() {
		t.Errorf("there is %+v", e)
	}
}

// What is purged below the bucket is gone for readers, writers and sessions that
// begin, and gives no version again.
func TestPurgedStream(t *testing.T) {
	n := start(t, nil)
	s := open(t, n.config())
	before := drivertest.Put(t, s, "k", "v")
	drivertest.Put(t, s, "other", "v")
	if err := n.admin(func(js jetstream.JetStream) error {
		stream, err := js.Stream(t.Context(), s.stream)
		if err == nil {
			err = stream.Purge(t.Context())
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if e := drivertest.Get(t, s, "k"); e.Exists() || e.Generation != before.Generation {
		t.Errorf("after a purge: %+v", e)
	}
	drivertest.Swap(t, s, driver.Swap{Key: "k", Prev: before, Value: []byte("late")}, driver.Conflict)
	if again := drivertest.Put(t, s, "k", "again"); again.Version <= before.Version {
		t.Errorf("version %d after %d", again.Version, before.Version)
	}
	drivertest.Follow(t.Context(), t, s, driver.Range{IsPrefix: true}, nil).Sees(t, map[string]string{"k": "again"})
}
