package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/polykv/polykv/internal/testdisk"
	"github.com/polykv/polykv/kv/driver"
)

// What a transaction doesn't take is not done, and can be done later.
func TestTransactionsThatFail(t *testing.T) {
	var files Files
	h := open(t, &files, fileOf(t))
	var leases []driver.LeaseID
	for range 2 {
		g, err := h.Grant(t.Context(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		leases = append(leases, g.ID)
	}
	attached := swap(t, h, driver.Swap{Key: "attached", Lease: leases[0], ID: 1})

	h.file.update = h.file.bolt.View // where nothing may be written
	r, swapErr := h.Swap(t.Context(), driver.Swap{Key: "k", ID: 2})
	g, grantErr := h.Grant(t.Context(), time.Hour)
	for i, err := range []error{swapErr, grantErr, h.Revoke(t.Context(), leases[0]), h.Revoke(t.Context(), leases[1]), h.file.bolt.View(makeBuckets)} {
		if !errors.Is(err, berrors.ErrTxNotWritable) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if r.Outcome != driver.NotApplied || g.ID != "" || get(t, h, "attached").Version != attached.Version {
		t.Errorf("something was done: %+v, %+v", r, g)
	}

	h.file.update = h.file.bolt.Update
	if r, err := h.Swap(t.Context(), driver.Swap{ID: 3}); r.Outcome != driver.NotApplied || !errors.Is(err, berrors.ErrKeyRequired) {
		t.Errorf("a write without a key: %+v, %v", r, err)
	}
	if err := errors.Join(h.Revoke(t.Context(), leases[0]), h.Revoke(t.Context(), leases[1])); err != nil || get(t, h, "attached").Exists() {
		t.Errorf("revoked again: %v", err)
	}
}

// A file that was closed below its handles fails every call, and holds up none.
func TestFileIsGone(t *testing.T) {
	var files Files
	h := open(t, &files, fileOf(t))
	lease, err := h.Grant(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.file.bolt.Close(); err != nil {
		t.Fatal(err)
	}
	watchErr := h.Watch(t.Context(), driver.WatchRequest{}, func(driver.Event) { t.Error("an event") })
	_, getErr := h.Get(t.Context(), driver.GetRequest{Key: "k"})
	_, scanErr := h.Scan(t.Context(), driver.ScanRequest{})
	r, swapErr := h.Swap(t.Context(), driver.Swap{Key: "k", ID: 1})
	_, grantErr := h.Grant(t.Context(), time.Hour)
	for i, err := range []error{watchErr, getErr, scanErr, swapErr, grantErr, h.Revoke(t.Context(), lease.ID)} {
		if !errors.Is(err, berrors.ErrDatabaseNotOpen) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if r.Outcome != driver.NotApplied {
		t.Errorf("the write: %v", r.Outcome)
	}
}

// Nobody knows of a commit that failed, and of which nothing can be read.
func TestCommitThatCannotBeSeen(t *testing.T) {
	var files Files
	h := open(t, &files, fileOf(t))
	h.file.update = func(f func(*bbolt.Tx) error) error {
		return errors.Join(h.file.bolt.Update(f), h.file.bolt.Close(), errDisk)
	}
	if r, err := h.Swap(t.Context(), driver.Swap{Key: "k", ID: 1}); r.Outcome != driver.Unknown || !errors.Is(err, errDisk) {
		t.Errorf("Swap: %v, %v", r.Outcome, err)
	}
}

// A lease that can't be ended when its time is up is ended as soon as it can, and none
// by a file that is closed.
func TestLeasesThatAreDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var files Files
		h := open(t, &files, fileOf(t))
		updates := func(by func(func(*bbolt.Tx) error) error) {
			h.file.writer <- struct{}{}
			h.file.update = by
			<-h.file.writer
		}
		for _, key := range []string{"a", "b"} {
			g, err := h.Grant(t.Context(), time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			swap(t, h, driver.Swap{Key: key, Lease: g.ID, ID: 1})
			updates(h.file.bolt.View) // where nothing may be written
			time.Sleep(time.Minute + 1500*time.Millisecond)
			if !get(t, h, key).Exists() {
				t.Error("what is attached is gone, and was not removed")
			}
			updates(h.file.bolt.Update)
			if key == "b" {
				break
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if get(t, h, key).Exists() {
				t.Error("what is attached outlasts its lease")
			}
		}
		updates(func(func(*bbolt.Tx) error) error {
			t.Error("a file that is closed is written to")
			return errDisk
		})
		closeStore(t, h)
		time.Sleep(time.Hour)
	})
}

// A lease that was revoked is due no more.
func TestRevokedLeaseIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var files Files
		h := open(t, &files, fileOf(t))
		g, err := h.Grant(t.Context(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		swap(t, h, driver.Swap{Key: "k", Lease: g.ID, ID: 1})
		if err := h.Revoke(t.Context(), g.ID); err != nil {
			t.Fatal(err)
		}
		h.file.update = func(func(*bbolt.Tx) error) error {
			t.Error("it was ended again")
			return nil
		}
		time.Sleep(time.Hour)
	})
}

// A write that waits while the file breaks is not made.
func TestWriterWaitsInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var files Files
		h := open(t, &files, fileOf(t))
		goOn := make(chan struct{})
		h.file.update = func(f func(*bbolt.Tx) error) error {
			<-goOn
			return errors.Join(h.file.bolt.Update(f), errDisk)
		}
		outcomes := make(chan driver.Outcome, 2)
		for _, key := range []string{"a", "b"} {
			go func() {
				r, err := h.Swap(t.Context(), driver.Swap{Key: key, ID: 1})
				if !errors.Is(err, errDisk) || driver.IsPermanent(err) != (r.Outcome == driver.NotApplied) {
					t.Errorf("%s: %v, %v", key, r.Outcome, err)
				}
				outcomes <- r.Outcome
			}()
		}
		synctest.Wait() // one writes, and the other has looked at the file and waits
		close(goOn)
		if first, second := <-outcomes, <-outcomes; first+second != driver.Unknown+driver.NotApplied || first == second {
			t.Errorf("%v and %v", first, second)
		}
	})
}

// A write that is refused changes nothing, nor what its key is attached to.
func TestRefusedWrites(t *testing.T) {
	var files Files
	h := open(t, &files, fileOf(t))
	for _, s := range []driver.Swap{{}, {Guards: []driver.Guard{{Key: "absent", Version: 1}}}} {
		g, err := h.Grant(t.Context(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		s.Key, s.ID = "k", 2
		now := swap(t, h, driver.Swap{Key: "k", Lease: g.ID, ID: 1})
		if s.Guards != nil {
			s.Prev = now
		}
		if r, err := h.Swap(t.Context(), s); err != nil || r.Outcome != driver.Conflict && r.Outcome != driver.GuardBroken {
			t.Errorf("%+v: %v, %v", s, r.Outcome, err)
		}
		if err := h.Revoke(t.Context(), g.ID); err != nil || get(t, h, "k").Exists() {
			t.Errorf("%+v: the key is not attached any more: %v", s, err)
		}
	}
}

// A file is the same by every name.
func TestRelativePath(t *testing.T) {
	t.Chdir(t.TempDir())
	var files Files
	relative := *NewConfig()
	relative.Path = "data.db"
	absolute := relative
	var err error
	if absolute.Path, err = filepath.Abs(relative.Path); err != nil {
		t.Fatal(err)
	}
	a, b := open(t, &files, relative), open(t, &files, absolute)
	put(t, a, "k", "v")
	closeStore(t, a)
	closeStore(t, b)
	if e := get(t, open(t, &files, relative), "k"); string(e.Value) != "v" {
		t.Errorf("opened again: %+v", e)
	}
}

// A file that is opened ends no lease before it knows what is attached to it.
func TestLeasesAreLoadedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var files Files
		h := open(t, &files, fileOf(t))
		h.file.writer <- struct{}{} // as one that ends a lease
		loaded := make(chan error, 1)
		go func() { loaded <- h.file.bolt.View(h.file.load) }()
		synctest.Wait()
		select {
		case err := <-loaded:
			t.Errorf("the leases are loaded while one ends: %v", err)
		default:
		}
		<-h.file.writer
		if err := <-loaded; err != nil {
			t.Error(err)
		}
		h.file.writer <- struct{}{} // which is free again
		<-h.file.writer
	})
}

// A file that can't be made is not kept open.
func TestOpenOnFullDisk(t *testing.T) {
	disk := testdisk.New(t, "1m")
	var files Files
	cfg := fileOf(t)
	cfg.Path, cfg.Timeout = filepath.Join(disk.Dir(), "data.db"), time.Millisecond
	if err := os.Mkdir(disk.Dir(), 0o700); err != nil {
		t.Fatal(err)
	}
	empty, err := bbolt.Open(cfg.Path, 0o600, nil)
	if err == nil {
		err = errors.Join(empty.Close(), disk.Fill())
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := files.Open(cfg); !errors.Is(err, syscall.ENOSPC) || !strings.HasPrefix(err.Error(), "path: "+cfg.Path) {
		t.Errorf("opened on a full disk: %v", err)
	}
	if err := disk.Drain(); err != nil {
		t.Fatal(err)
	}
	put(t, open(t, &files, cfg), "k", "v")
}

// A path that is relative to a folder which is gone names nothing.
func TestFolderIsGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	if err := os.Remove(dir); err != nil {
		t.Skip("a folder in use can't be removed here: ", err)
	}
	cfg := fileOf(t)
	cfg.Path = "data.db"
	if _, err := new(Files).Open(cfg); !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "path: ") {
		t.Errorf("opened: %v", err)
	}
}

// Nobody waits to write until a snapshot has been told, unless the file has to grow.
func TestWriteDuringSnapshot(t *testing.T) {
	var files Files
	h := open(t, &files, fileOf(t))
	put(t, h, "large", strings.Repeat("x", 1<<20)) // which makes room
	put(t, h, "a", "v")
	other := open(t, &files, h.file.cfg)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := h.Watch(ctx, driver.WatchRequest{Range: driver.Range{IsPrefix: true}}, func(ev driver.Event) {
		switch ev.Entry.Key {
		case "a":
			if r, err := other.Swap(ctx, driver.Swap{Key: "b", ID: 1}); r.Outcome != driver.Applied {
				t.Errorf("a write: %v, %v", r.Outcome, err)
			}
		case "b":
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the session ended: %v", err)
	}
}

// A session tells what there is in its range, in order, and what changes.
func TestWatch(t *testing.T) {
	var files Files
	h := open(t, &files, fileOf(t))
	for _, key := range []string{"o", "p2", "p1"} {
		put(t, h, key, "v "+key)
	}
	events := make(chan string, 100)
	sees := func(want ...string) {
		t.Helper()
		for _, what := range want {
			select {
			case got := <-events:
				if got != what {
					t.Errorf("told %q, want %q", got, what)
				}
			case <-time.After(time.Minute):
				t.Fatalf("%q is not told", what)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- h.Watch(ctx, driver.WatchRequest{Range: driver.Range{Key: "p", IsPrefix: true}}, func(ev driver.Event) {
			events <- fmt.Sprintf("%v %s %s", ev.Type, ev.Entry.Key, ev.Entry.Value)
		})
	}()
	tell := func(typ driver.EventType, key, value string) string { return fmt.Sprintf("%v %s %s", typ, key, value) }
	sees(tell(driver.Put, "p1", "v p1"), tell(driver.Put, "p2", "v p2"), tell(driver.Synced, "", ""))
	g, err := h.Grant(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	swap(t, h, driver.Swap{Key: "p3", Value: []byte("leased"), Lease: g.ID, ID: 1})
	if err := h.Revoke(t.Context(), g.ID); err != nil {
		t.Fatal(err)
	}
	sees(tell(driver.Put, "p3", "leased"), tell(driver.Delete, "p3", ""))
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the session ended: %v", err)
	}
	put(t, h, "p3", "nobody watches")
}
