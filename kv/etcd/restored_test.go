package etcd

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv"
)

// A server that is set back to an earlier copy of its data, as the same cluster,
// gives revisions out again. What a client remembers from before is then no
// base of a write: the write that somebody else made meanwhile would be gone.
func TestRememberedAcrossARestore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/etcd"
	c := servertest.Etcd(t, testserver.Options{NoFsync: true, Dir: dir})
	ours, theirs := kv.New(open(t, configFor(c)), codec.String{}, nil), kv.New(open(t, configFor(c)), codec.String{}, nil)
	for _, client := range []kv.Client{ours, theirs} {
		defer func() { _ = client.Close() }()
	}
	write := func(client kv.Client, value string) (seen any) {
		t.Helper()
		err := client.CAS(t.Context(), "k", func(in any) (any, bool, error) { seen = in; return value, true, nil })
		if err != nil {
			t.Fatal(err)
		}
		return seen
	}
	write(ours, "first")
	backup := t.TempDir()
	data := dataOf(t, dir)
	stopped(t, c, func() error { return os.CopyFS(backup, os.DirFS(data)) })
	drivertest.Eventually(t, func() error { _, err := theirs.Get(t.Context(), "k"); return err })
	write(ours, "ours")
	before, err := theirs.Get(t.Context(), "k")
	if err != nil || before != "ours" {
		t.Fatal(before, err)
	}
	stopped(t, c, func() error {
		if err := os.RemoveAll(data); err != nil {
			return err
		}
		return os.CopyFS(data, os.DirFS(backup))
	})
	drivertest.Eventually(t, func() error { _, err := theirs.Get(t.Context(), "k"); return err })
	if seen := write(theirs, "theirs"); seen != "first" {
		t.Fatalf("the other client saw %v", seen)
	}
	// At the very revision that ours had.
	if seen := write(ours, "last"); seen != "theirs" {
		t.Errorf("the callback saw %v, and the write of another client is gone", seen)
	}
}

func dataOf(t *testing.T, dir string) string {
	t.Helper()
	data, err := filepath.Glob(filepath.Join(dir, "node*", "data"))
	if err != nil || len(data) != 1 {
		t.Fatal(data, err)
	}
	return data[0]
}

// stopped does something while the server is stopped.
func stopped(t *testing.T, c *testserver.Cluster, do func() error) {
	t.Helper()
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := do(); err != nil {
		t.Fatal(err)
	}
	if err := c.Restart(); err != nil {
		t.Fatal(err)
	}
	servertest.WaitReady(t, c)
}
