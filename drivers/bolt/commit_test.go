package bolt

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/polykv/polykv/kv/driver"
)

var errDisk = errors.New("the disk is broken")

// A commit that bbolt refuses halfway, here because the file may not grow,
// leaves nothing behind.
func TestCommitFailsBeforeItCounts(t *testing.T) {
	var files Files
	h := open(t, &files, fileOf(t))
	before := put(t, h, "k", "v")
	h.file.bolt.MaxSize = 1
	s := driver.Swap{Key: "k", Prev: before, Value: bytes.Repeat([]byte("x"), 1<<20), ID: 2}
	r, err := h.Swap(t.Context(), s)
	if r.Outcome != driver.NotApplied || !errors.Is(err, berrors.ErrMaxSizeReached) || driver.IsPermanent(err) {
		t.Fatalf("Swap: %v, %v", r.Outcome, err)
	}
	if now := get(t, h, "k"); now.Version != before.Version {
		t.Fatalf("the entry is at %d, was at %d", now.Version, before.Version)
	}
	h.file.bolt.MaxSize = 0
	if e := swap(t, h, s); e.Version <= before.Version {
		t.Fatalf("the version went from %d to %d", before.Version, e.Version)
	}
}

// A commit whose last sync fails can be seen, and may be lost all the same, be it a
// write or what begins or ends a lease.
func TestCommitFailsAtTheLastSync(t *testing.T) {
	for name, fails := range map[string]func(*testing.T, *handle, driver.LeaseID) error{
		"swap": func(t *testing.T, h *handle, _ driver.LeaseID) error {
			r, err := h.Swap(t.Context(), driver.Swap{Key: "k", Value: []byte("v"), ID: 1})
			if r.Outcome != driver.Unknown {
				t.Errorf("Swap: %v", r.Outcome)
			}
			return err
		},
		"grant": func(t *testing.T, h *handle, _ driver.LeaseID) error {
			g, err := h.Grant(t.Context(), time.Hour)
			if g.ID != "" {
				t.Errorf("granted: %+v", g)
			}
			return err
		},
		"revoke": func(t *testing.T, h *handle, id driver.LeaseID) error { return h.Revoke(t.Context(), id) },
	} {
		t.Run(name, func(t *testing.T) {
			var files Files
			cfg := fileOf(t)
			h := open(t, &files, cfg)
			lease, err := h.Grant(t.Context(), time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			watching := make(chan error)
			synced := make(chan struct{})
			go func() {
				watching <- h.Watch(t.Context(), driver.WatchRequest{Range: driver.Range{IsPrefix: true}}, func(ev driver.Event) {
					if ev.Type == driver.Synced {
						close(synced)
					}
				})
			}()
			<-synced
			h.file.update = func(f func(*bbolt.Tx) error) error {
				return errors.Join(h.file.bolt.Update(f), errDisk)
			}
			if err := fails(t, h, lease.ID); !errors.Is(err, errDisk) || driver.IsPermanent(err) {
				t.Errorf("it ended with %v", err)
			}
			if err := <-watching; !errors.Is(err, errDisk) {
				t.Errorf("the watch ended with %v", err)
			}
			if _, err := h.Get(t.Context(), driver.GetRequest{Key: "k"}); !driver.IsPermanent(err) {
				t.Errorf("Get after it: %v", err)
			}
			if r, err := h.Swap(t.Context(), driver.Swap{Key: "k", ID: 1}); r.Outcome != driver.NotApplied || !driver.IsPermanent(err) {
				t.Errorf("Swap after it: %v, %v", r.Outcome, err)
			}
			closeStore(t, h)
			h = open(t, &files, cfg)
			put(t, h, "other", "the file is as good as new")
		})
	}
}

func TestContextEndsDuringCommit(t *testing.T) {
	var files Files
	h := open(t, &files, fileOf(t))
	began, goOn := make(chan struct{}), make(chan struct{})
	h.file.update = func(f func(*bbolt.Tx) error) error {
		close(began)
		<-goOn
		return h.file.bolt.Update(f)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-began
		cancel()
	}()
	s := driver.Swap{Key: "k", Value: []byte("v"), ID: 7}
	r, err := h.Swap(ctx, s)
	if r.Outcome != driver.Unknown || !errors.Is(err, context.Canceled) {
		t.Fatalf("Swap whose ctx ended during its commit: %v, %v", r.Outcome, err)
	}

	// Another waits for its turn, in vain.
	ctx, cancel = context.WithCancel(t.Context())
	h2 := open(t, &files, h.file.cfg)
	go cancel()
	r, err = h2.Swap(ctx, driver.Swap{Key: "other", ID: 8})
	if r.Outcome != driver.NotApplied || !errors.Is(err, context.Canceled) {
		t.Fatalf("Swap whose ctx ended before its commit: %v, %v", r.Outcome, err)
	}
	close(goOn)
	closeStore(t, h) // waits for the commit
	now := get(t, h2, "k")
	if got := h2.Resolve(s, now); got != driver.Applied {
		t.Errorf("Resolve of %+v: %v", now, got)
	}
	s.ID = 9
	if got := h2.Resolve(s, now); got != driver.Unknown {
		t.Errorf("Resolve of another's entry: %v", got)
	}
	if now := get(t, h2, "other"); now.Exists() {
		t.Errorf("what was not applied is there: %+v", now)
	}
}
