package multi_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/multi"
	"github.com/polykv/polykv/kv/multi/migrate"
)

// Without a primary everything fails closed, with an error that says what to
// run, until there is one.
func TestWithoutAPrimaryNothingGoes(t *testing.T) {
	p := newPair(t)
	cfg := multi.DefaultConfig()
	cfg.Coordinated, cfg.FenceTimeout = true, 10*time.Second
	c := p.open(cfg, nil)
	for name, call := range map[string]func() error{
		"Ready": func() error { return c.Ready(t.Context()) },
		"CAS":   func() error { return c.CAS(t.Context(), "k", increment) },
		"Get":   func() error { _, err := c.Get(t.Context(), "k"); return err },
		"Ping":  func() error { return kv.Ping(t.Context(), c) },
	} {
		err := call()
		if !errors.Is(err, kv.ErrFenced) || !strings.Contains(err.Error(), `"polykv migrate start"`) {
			t.Errorf("%s without any record returned %v", name, err)
		}
	}
	if s := c.Status(); s.Phase != multi.PhaseFenced || s.Problem == "" || len(s.Records) != 2 {
		t.Errorf("the status is %+v", s)
	}
	m, err := migrate.New(migrate.Backend{Name: "first", Client: p.plain[0]}, migrate.Backend{Name: "second", Client: p.plain[1]}, migrate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the client finds the primary", func() bool { return c.Ready(t.Context()) == nil })
	put(t, c, "k", "v")
	// The record of the other store may be written, or read, only now.
	eventually(t, "the write is mirrored", func() bool { return get(t, p.plain[1], "k") == "v" })
}

// A cutover that was left half done keeps writes waiting for FenceTimeout, and
// says what to run; reads go on.
func TestAHalfDoneCutoverKeepsWritesWaiting(t *testing.T) {
	r := newRig(t)
	cfg := coordinatedConfig()
	cfg.FenceTimeout = 300 * time.Millisecond
	c := r.clientOf(cfg, nil)
	put(t, c, "k", "v")
	r.set(0, migrate.State("sealed"))
	err := c.CAS(t.Context(), "k", increment)
	if !errors.Is(err, kv.ErrFenced) || !strings.Contains(err.Error(), "polykv migrate cutover") {
		t.Errorf("a write amid a cutover returned %v", err)
	}
	if got := get(t, c, "k"); got != "v" {
		t.Errorf("a read amid a cutover gave %v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Delete(ctx, "k"); !errors.Is(err, context.Canceled) {
		t.Errorf("a write under a cancelled ctx returned %v", err)
	}
	if s := c.Status(); s.Phase != multi.PhaseCutover {
		t.Errorf("the phase is %v", s.Phase)
	}
}

// After the cutover writes are mirrored back, those made before the old store
// was ready for it too, and a roll-back loses nothing.
func TestReverseMirroringAndRollback(t *testing.T) {
	r := newRig(t)
	c := r.client(nil)
	put(t, c, "k", "1")
	r.cutover()
	put(t, c, "k", "2")
	put(t, c, "new", "v")
	eventually(t, "everything is mirrored back", func() bool {
		return get(t, r.plain[0], "k") == "2" && get(t, r.plain[0], "new") == "v"
	})
	if err := r.move(t, 0); err != nil {
		t.Fatal(err)
	}
	put(t, c, "k", "3")
	if got := get(t, r.plain[0], "k"); got != "3" || c.Primary() != "first" {
		t.Errorf("after the roll-back the primary is %q and holds %v", c.Primary(), got)
	}
}

// Of versions only those of the present epoch count.
func TestVersionsAmidCutover(t *testing.T) {
	r := newRig(t)
	c := r.client(nil)
	put(t, c, "k", "v")
	_, version, err := c.GetVersion(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	r.cutover()
	if _, err := c.SwapVersion(t.Context(), "k", version, "w"); !errors.Is(err, kv.ErrConflict) {
		t.Errorf("a swap of a version of before the cutover returned %v", err)
	}
	if _, version, err = c.GetVersion(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.SwapVersion(t.Context(), "k", version, "w"); err != nil {
		t.Errorf("a swap of the present version returned %v", err)
	}
	if _, err := c.SwapVersion(t.Context(), "absent", 0, "created"); err != nil {
		t.Errorf("a creation returned %v", err)
	}
}

// A coordinated client is on the list of both stores.
func TestClientsSayThatTheyAreThere(t *testing.T) {
	r := newRig(t)
	c := r.client(nil)
	put(t, c, "k", "v")
	listed := func(at int) int {
		raw, err := kv.Raw(r.admins[at])
		if err != nil {
			t.Fatal(err)
		}
		keys, err := raw.List(t.Context(), ".polykv/clients/")
		if err != nil {
			t.Fatal(err)
		}
		return len(keys)
	}
	eventually(t, "the client is listed in both", func() bool { return listed(0) == 1 && listed(1) == 1 })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if listed(0)+listed(1) != 0 {
		t.Error("a client that was closed is still listed")
	}
}
