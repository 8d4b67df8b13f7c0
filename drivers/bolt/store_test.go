package bolt

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"go.etcd.io/bbolt"

	"github.com/polykv/polykv/kv/driver"
)

func TestSwapOutcomes(t *testing.T) {
	var files Files
	h := open(t, &files, fileOf(t))
	guard := swap(t, h, driver.Swap{Key: "g", ID: 1})
	holds, broken := []driver.Guard{{Key: "g", Version: guard.Version}}, []driver.Guard{{Key: "g", Version: guard.Version}, {Key: "k", Version: 99}}
	one := swap(t, h, driver.Swap{Key: "k", Value: []byte("1"), ID: 2, Guards: holds})
	if one.Version <= guard.Version || string(one.Value) != "1" {
		t.Errorf("written: %+v", one)
	}
	for name, test := range map[string]struct {
		swap driver.Swap
		want driver.Outcome
	}{
		"creation of what is there": {driver.Swap{Key: "k", ID: 3}, driver.Conflict},
		"of what isn't there":       {driver.Swap{Key: "absent", Prev: one, ID: 3}, driver.Conflict},
		"removal of another":        {driver.Swap{Key: "k", Prev: guard, Remove: true, ID: 3}, driver.Conflict},
		"broken guard":              {driver.Swap{Key: "k", Prev: one, Guards: broken, ID: 3}, driver.GuardBroken},
		"broken guard and conflict": {driver.Swap{Key: "k", Prev: guard, Guards: broken, ID: 3}, driver.GuardBroken},
	} {
		r, err := h.Swap(t.Context(), test.swap)
		now := get(t, h, test.swap.Key)
		if err != nil || r.Outcome != test.want || r.Known != (test.want == driver.Conflict) || now.Key != test.swap.Key || r.Known && !reflect.DeepEqual(r.Entry, now) {
			t.Errorf("%s: %+v, %v; want %v and %+v", name, r, err, test.want, now)
		}
	}
	for guards, want := range map[*[]driver.Guard]error{&holds: nil, &broken: driver.ErrFenced} {
		if e, err := h.Get(t.Context(), driver.GetRequest{Key: "k", Guards: *guards}); !errors.Is(err, want) || want == nil && e.Version != one.Version {
			t.Errorf("guarded get: %+v, %v; want %v", e, err, want)
		}
	}
	if gone := swap(t, h, driver.Swap{Key: "k", Prev: one, Remove: true, ID: 4}); gone.Exists() || get(t, h, "k").Exists() {
		t.Errorf("removed: %+v, and there is %+v", gone, get(t, h, "k"))
	}
}

func TestScan(t *testing.T) {
	var files Files
	h := open(t, &files, fileOf(t))
	swap(t, h, driver.Swap{Key: "o", ID: 1})
	for _, key := range []string{"p", "p1", "p2", "p3", "q"} {
		swap(t, h, driver.Swap{Key: key, Value: []byte(key), ID: 1})
	}
	for _, test := range []struct {
		req  driver.ScanRequest
		want string // keys, and "more"
	}{
		{driver.ScanRequest{}, "[o p p1 p2 p3 q] false"},
		{driver.ScanRequest{Prefix: "p"}, "[p p1 p2 p3] false"},
		{driver.ScanRequest{Prefix: "p", Limit: 4}, "[p p1 p2 p3] false"},
		{driver.ScanRequest{Prefix: "p", Limit: 1}, "[p] true"},
		{driver.ScanRequest{Prefix: "p", Limit: 2, After: "p"}, "[p1 p2] true"},
		{driver.ScanRequest{Prefix: "p", After: "p2"}, "[p3] false"},
		{driver.ScanRequest{Prefix: "p", After: "a"}, "[p p1 p2 p3] false"},
		{driver.ScanRequest{Prefix: "p", KeysOnly: true, Limit: 1}, "[p p1 p2 p3] false"},
		{driver.ScanRequest{Prefix: "r"}, "[] false"},
	} {
		p, err := h.Scan(t.Context(), test.req)
		keys := []string{}
		for _, e := range p.Entries {
			keys = append(keys, e.Key)
			whole := get(t, h, e.Key)
			if test.req.KeysOnly {
				whole = driver.Entry{Key: e.Key, Version: whole.Version}
			}
			if !reflect.DeepEqual(e, whole) {
				t.Errorf("%+v: lists %+v, want %+v", test.req, e, whole)
			}
		}
		if got := fmt.Sprint(keys, " ", p.More); err != nil || got != test.want {
			t.Errorf("%+v: %s, %v; want %s", test.req, got, err, test.want)
		}
	}
}

func TestCallsThatAreOver(t *testing.T) {
	var files Files
	h := open(t, &files, fileOf(t))
	lease, err := h.Grant(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	closed := open(t, &files, h.file.cfg)
	closeStore(t, closed)
	over, end := context.WithCancel(t.Context())
	end()
	for want, call := range map[error]struct {
		h   *handle
		ctx context.Context
	}{context.Canceled: {h, over}, driver.ErrClosed: {closed, t.Context()}} {
		_, getErr := call.h.Get(call.ctx, driver.GetRequest{Key: "k"})
		page, scanErr := call.h.Scan(call.ctx, driver.ScanRequest{})
		r, swapErr := call.h.Swap(call.ctx, driver.Swap{Key: "k", ID: 1})
		_, grantErr := call.h.Grant(call.ctx, time.Hour)
		watchErr := call.h.Watch(call.ctx, driver.WatchRequest{}, func(driver.Event) { t.Error("an event") })
		for i, err := range []error{getErr, scanErr, swapErr, grantErr, watchErr, call.h.Renew(call.ctx, lease.ID), call.h.Revoke(call.ctx, lease.ID)} {
			if !errors.Is(err, want) {
				t.Errorf("call %d: %v, want %v", i, err, want)
			}
		}
		if r.Outcome != driver.NotApplied || page.Entries != nil {
			t.Errorf("%v, %+v", r, page)
		}
	}
	if get(t, h, "k").Exists() || h.Renew(t.Context(), lease.ID) != nil {
		t.Error("a call that was over did something")
	}
}

func TestLeases(t *testing.T) {
	var files Files
	h := open(t, &files, fileOf(t))
	for ask, want := range map[time.Duration]time.Duration{0: h.MinLease(), time.Hour: time.Hour} {
		if g, err := h.Grant(t.Context(), ask); err != nil || g.ID == "" || g.TTL != want || g.Bound != want+overdue {
			t.Errorf("asked for %v: %+v, %v", ask, g, err)
		}
	}
	g, err := h.Grant(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	kept := swap(t, h, driver.Swap{Key: "kept", Lease: g.ID, ID: 1})
	swap(t, h, driver.Swap{Key: "kept", Prev: kept, ID: 2}) // is attached no more
	swap(t, h, driver.Swap{Key: "gone", Lease: g.ID, ID: 3})
	again := swap(t, h, driver.Swap{Key: "again", Lease: g.ID, ID: 4})
	swap(t, h, driver.Swap{Key: "again", Prev: again, Lease: g.ID, Remove: true, ID: 5})
	swap(t, h, driver.Swap{Key: "again", ID: 6})
	if err := errors.Join(h.Renew(t.Context(), g.ID), h.Revoke(t.Context(), g.ID)); err != nil {
		t.Error(err)
	}
	if get(t, h, "gone").Exists() || !get(t, h, "kept").Exists() || !get(t, h, "again").Exists() {
		t.Error("another key is gone than what was attached")
	}
	if err := h.Renew(t.Context(), g.ID); !errors.Is(err, driver.ErrLeaseLost) {
		t.Errorf("renewed: %v", err)
	}
	if r, err := h.Swap(t.Context(), driver.Swap{Key: "new", Lease: g.ID, ID: 7}); !errors.Is(err, driver.ErrLeaseLost) || r.Outcome != driver.NotApplied {
		t.Errorf("attached: %v, %v", r, err)
	}
}

// Every field has a flag that sets it, and bounds.
func TestConfig(t *testing.T) {
	c, fs := NewConfig(), pflag.NewFlagSet("", pflag.ContinueOnError)
	c.RegisterFlags(fs, "b.")
	err := fs.Parse([]string{"--b.path=p", "--b.timeout=3s", "--b.no-sync", "--b.max-value-size=5"})
	if want := (Config{Path: "p", Timeout: 3 * time.Second, NoSync: true, MaxValueSize: 5}); err != nil || *c != want {
		t.Errorf("%+v, %v; want %+v", c, err, want)
	}
	for size, valid := range map[int]bool{0: false, 1: true, 1<<31 - 2 - headerSize: true, 1<<31 - 1 - headerSize: false} {
		if c.MaxValueSize = size; (c.Validate() == nil) != valid {
			t.Errorf("values of %d bytes: %v", size, c.Validate())
		}
	}
}

// endsLater is a context that ends when it was asked so often.
type endsLater struct {
	context.Context
	left int
}

func (c *endsLater) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// A listing looks every 256 keys whether anybody still wants it.
func TestScanThatIsNotWanted(t *testing.T) {
	var files Files
	cfg := fileOf(t)
	cfg.NoSync = true
	h := open(t, &files, cfg)
	for i := range 600 {
		swap(t, h, driver.Swap{Key: fmt.Sprintf("%03d", i), ID: 1})
	}
	for asked, want := range map[int]int{0: 0, 1: 255, 2: 511, 3: 600} { // once before the listing
		p, err := h.Scan(&endsLater{t.Context(), asked}, driver.ScanRequest{KeysOnly: true})
		if len(p.Entries) != want || (err == nil) != (want == 600) {
			t.Errorf("asked %d times: %d keys, %v; want %d", asked, len(p.Entries), err, want)
		}
	}
}

// A file that is opened again knows no lease that is over, and nothing that is
// attached no more.
func TestLeasesThatAreOverStayOver(t *testing.T) {
	var files Files
	cfg := fileOf(t)
	h := open(t, &files, cfg)
	over, err1 := h.Grant(t.Context(), time.Hour)
	lives, err2 := h.Grant(t.Context(), time.Hour)
	if err := errors.Join(err1, err2, h.Revoke(t.Context(), over.ID)); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"removed", "freed"} {
		e := swap(t, h, driver.Swap{Key: key, Lease: lives.ID, ID: 1})
		if key == "removed" {
			swap(t, h, driver.Swap{Key: key, Prev: e, Lease: lives.ID, Remove: true, ID: 2})
		} else {
			swap(t, h, driver.Swap{Key: key, Prev: e, ID: 2})
		}
	}
	closeStore(t, h)
	h = open(t, &files, cfg)
	if err := h.Renew(t.Context(), over.ID); !errors.Is(err, driver.ErrLeaseLost) {
		t.Errorf("a lease that was over is renewed: %v", err)
	}
	swap(t, h, driver.Swap{Key: "attached", Lease: lives.ID, ID: 3})
	err := h.file.bolt.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(attachedBucket).ForEach(func(key, _ []byte) error {
			if string(key) != "attached" {
				t.Errorf("%s is attached", key)
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}
