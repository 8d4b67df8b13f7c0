package multi_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/multi"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// closing is a store whose handles count that they are closed, and may fail to.
type closing struct {
	driver.Store
	closed *atomic.Int32
	err    error
}

func (c closing) Close() error {
	c.closed.Add(1)
	return errors.Join(c.err, c.Store.Close())
}

// Close closes both stores once, says what either says, and ends every call.
func TestCloseOfTwoStores(t *testing.T) {
	p := newPair(t)
	var closed [2]atomic.Int32
	first, second := errors.New("first"), errors.New("second")
	c := p.open(multi.DefaultConfig(), func(at int, s driver.Store) driver.Store {
		return closing{s, &closed[at], []error{first, second}[at]}
	})
	put(t, c, "k", "v")
	for range 2 {
		if err := c.Close(); !errors.Is(err, first) || !errors.Is(err, second) {
			t.Errorf("closed: %v", err)
		}
	}
	if closed[0].Load() != 1 || closed[1].Load() != 1 {
		t.Errorf("the stores were closed %d and %d times", closed[0].Load(), closed[1].Load())
	}
	guarded, err1 := kv.Guarded(c)
	versioned, err2 := kv.Versioned(c)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	for op, call := range map[string]func() error{
		"Get":           func() error { _, err := c.Get(t.Context(), "k"); return err },
		"List":          func() error { _, err := c.List(t.Context(), ""); return err },
		"CAS":           func() error { return c.CAS(t.Context(), "k", increment) },
		"Delete":        func() error { return c.Delete(t.Context(), "k") },
		"CASGuarded":    func() error { return guarded.CASGuarded(t.Context(), "k", increment) },
		"DeleteGuarded": func() error { return guarded.DeleteGuarded(t.Context(), "k") },
		"GetVersion":    func() error { _, _, err := versioned.GetVersion(t.Context(), "k"); return err },
		"SwapVersion":   func() error { _, err := versioned.SwapVersion(t.Context(), "k", 0, "v"); return err },
		"SetPrimary":    func() error { return c.SetPrimary(t.Context(), "second") },
		"SetMirroring":  func() error { return c.SetMirroring(true) },
		"Ping":          func() error { return kv.Ping(t.Context(), c) },
		"": func() (err error) {
			for _, err = range kv.Entries(t.Context(), c, "") {
			}
			return err
		},
	} {
		var e *kv.Error
		if err := call(); !errors.Is(err, kv.ErrClosed) || !errors.As(err, &e) || op != "" && op != "Ping" && e.Op != op {
			t.Errorf("%s after Close: %v", op, err)
		}
	}
}

// What a switch by hand or a message can't do is said, and changes nothing.
func TestUpdatesThatCannotBeMade(t *testing.T) {
	p := newPair(t)
	updates := make(chan multi.Update)
	c := p.open(multi.DefaultConfig(), nil, multi.WithUpdates(updates))
	err := c.SetPrimary(t.Context(), "third")
	var e *kv.Error
	if err == nil || !strings.Contains(err.Error(), `there is no store "third"; the stores are "first" and "second"`) || !errors.As(err, &e) || e.Op != "SetPrimary" {
		t.Errorf("SetPrimary: %v", err)
	}
	on, off := true, false
	updates <- multi.Update{Primary: "third", Mirror: &off}
	updates <- multi.Update{} // the one before is done with by then
	if s := c.Status(); c.Primary() != "first" || s.Mirror != "second" {
		t.Errorf("the primary is %q, and %q is mirrored into", c.Primary(), s.Mirror)
	}
	updates <- multi.Update{Mirror: &off}
	updates <- multi.Update{}
	if s := c.Status(); s.Mirror != "" {
		t.Errorf("mirroring is off, but %q is mirrored into", s.Mirror)
	}
	put(t, c, "k", "unmirrored")
	updates <- multi.Update{Primary: "second", Mirror: &on}
	eventually(t, "the switch is made", func() bool { return c.Primary() == "second" })
	if s := c.Status(); s.Mirror != "first" || !s.Mirrors[0].Open || s.Mirrors[1].Open {
		t.Errorf("%q is mirrored into: %+v", s.Mirror, s.Mirrors)
	}
	close(updates)
}

// Whoever turns mirroring on has what was missed copied, who had it on has not.
func TestMirroringThatIsTurnedOnRepairs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		cfg := multi.DefaultConfig()
		cfg.ClientName, cfg.RepairInterval = "the name", 0
		c := p.open(cfg, nil)
		if err := c.SetMirroring(true); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		s := c.Status()
		if s.Repair != nil {
			t.Errorf("a repair was made: %+v", s.Repair)
		}
		if host, _ := os.Hostname(); s.Name != "the name" || s.Host != host || s.PID != os.Getpid() || s.Coordinated || !s.At.Equal(time.Now()) || s.Phase != multi.PhasePlain {
			t.Errorf("it is %+v", s)
		}
		if n := len(s.Samples); n != 31 || s.Samples[30].At.Sub(s.Samples[0].At) != time.Minute {
			t.Errorf("%d samples of a minute", n)
		}
		if err := c.SetMirroring(false); err != nil {
			t.Fatal(err)
		}
		put(t, c, "k", "missed")
		time.Sleep(time.Minute)
		if err := c.SetMirroring(true); err != nil || c.Status().Repair != nil {
			t.Fatal(err, c.Status().Repair)
		}
		time.Sleep(time.Minute)
		if r := c.Status().Repair; r == nil || r.Totals.Different != 1 {
			t.Errorf("the repair after it is %+v", r)
		}
		p.wantEqual()
		_ = c.Close()
		for _, plain := range p.plain {
			_ = plain.Close()
		}
	})
}

// A record that can't be read keeps nobody from writing, and is told of once.
func TestRecordThatCannotBeRead(t *testing.T) {
	for level, cause := range map[string]error{"WARN": errors.New("odd"), "INFO": fmt.Errorf("%w: odd", driver.ErrPermission)} {
		synctest.Test(t, func(t *testing.T) {
			var log strings.Builder
			store := inmemory.NewStore()
			readable := kv.New(store.Open(), codec.String{}, &kv.Options{Logger: quiet, RetryTimeout: time.Millisecond})
			c, err := multi.CheckRecord(kv.New(unreadable{store.Open(), cause}, codec.String{}, &kv.Options{Logger: quiet, RetryTimeout: time.Millisecond}),
				multi.RecordRefuse, slog.New(slog.NewTextHandler(&log, nil)))
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				put(t, c, "k", "v")
				for _, err := range kv.Entries(t.Context(), c, "") {
					if err != nil {
						t.Error(err)
					}
				}
				time.Sleep(time.Minute)
			}
			if err := errors.Join(c.Close(), readable.Close()); err != nil {
				t.Error(err)
			}
			if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "level="+level) || !strings.Contains(text, "can't be read") {
				t.Errorf("told:\n%s", text)
			}
		})
	}
	if c, err := multi.CheckRecord(nil, "perhaps", quiet); c != nil || err == nil || err.Error() != `multi: "perhaps" is not allowed; it must be "refuse", "warn" or "ignore"` {
		t.Errorf("an unknown check: %v", err)
	}
	plain := kv.New(inmemory.NewStore().Open(), codec.String{}, nil)
	defer plain.Close()
	if c, err := multi.CheckRecord(plain, multi.RecordIgnore, quiet); c != plain || err != nil {
		t.Errorf("who ignores the record gets another client, or %v", err)
	}
}

// unreadable is a store whose record can't be read.
type unreadable struct {
	driver.Store
	cause error
}

func (u unreadable) Get(ctx context.Context, r driver.GetRequest) (driver.Entry, error) {
	if r.Key == side.RecordKey {
		return driver.Entry{}, u.cause
	}
	return u.Store.Get(ctx, r)
}

// The versions of a listing are those of the primary, before a switch and after it,
// and a listing ends where it is left.
func TestVersionsOfAListing(t *testing.T) {
	p := newPair(t)
	c := p.open(multi.DefaultConfig(), nil)
	keys := []string{"a", "b", "c"}
	for _, key := range keys {
		put(t, c, key, "1")
	}
	versioned, err := kv.Versioned(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, primary := range []string{"first", "second"} {
		if err := c.SetPrimary(t.Context(), primary); err != nil {
			t.Fatal(err)
		}
		var listed []kv.Entry
		for e, err := range kv.Entries(t.Context(), c, "") {
			if err != nil {
				t.Fatal(err)
			}
			listed = append(listed, e)
		}
		if len(listed) != len(keys) {
			t.Fatalf("listed %v", listed)
		}
		for i, e := range listed {
			_, version, err := versioned.GetVersion(t.Context(), e.Key)
			if e.Key != keys[i] || version != e.Version || err != nil {
				t.Errorf("%s: listed %s at %d; it is at %d, %v", primary, e.Key, e.Version, version, err)
			}
			if _, err := versioned.SwapVersion(t.Context(), e.Key, e.Version, "2"); err != nil {
				t.Errorf("%s: a swap of what is listed: %v", primary, err)
			}
		}
	}
	for _, err := range kv.Entries(t.Context(), c, "") {
		if err != nil {
			t.Error(err)
		}
		break
	}
}
