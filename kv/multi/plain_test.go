package multi_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/multi"
	"github.com/polykv/polykv/kv/multi/internal/side"
	"github.com/polykv/polykv/kv/multi/migrate"
)

// plainOn opens a client of one store that looks at its record.
func plainOn(t testing.TB, s *inmemory.Store, check multi.RecordCheck, log *slog.Logger) kv.Client {
	t.Helper()
	c, err := multi.CheckRecord(kv.New(s.Open(), codec.String{}, &kv.Options{Logger: quiet}), check, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// A host that was forgotten writes to neither store once the record calls it
// anything but primary: not at its first write, and not for longer than a second
// when it writes all the time.
func TestForgottenHostIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		forgotten := plainOn(t, r.first, multi.RecordRefuse, quiet)
		put(t, forgotten, "k", "while it is primary") // plain clients go on during the roll-out
		put(t, r.client(nil), "other", "v")
		r.cutover()
		time.Sleep(time.Second)
		synctest.Wait()
		for name, write := range map[string]func(c kv.Client) error{
			"CAS":    func(c kv.Client) error { return c.CAS(t.Context(), "k", increment) },
			"Delete": func(c kv.Client) error { return c.Delete(t.Context(), "k") },
			"CASGuarded": func(c kv.Client) error {
				g, err := kv.Guarded(c)
				if err == nil {
					err = g.CASGuarded(t.Context(), "k", increment)
				}
				return err
			},
			"DeleteGuarded": func(c kv.Client) error {
				g, err := kv.Guarded(c)
				if err == nil {
					err = g.DeleteGuarded(t.Context(), "k")
				}
				return err
			},
			"SwapVersion": func(c kv.Client) error {
				v, err := kv.Versioned(c)
				if err == nil {
					_, err = v.SwapVersion(t.Context(), "new", 0, "v")
				}
				return err
			},
		} {
			for who, c := range map[string]kv.Client{"the one that wrote before": forgotten, "one that was just opened": plainOn(t, r.first, multi.RecordRefuse, quiet)} {
				err := write(c)
				if !errors.Is(err, kv.ErrFenced) || !strings.Contains(err.Error(), `"standby"`) || !strings.Contains(err.Error(), `from "first" to "second"`) || !strings.Contains(err.Error(), "coordinated") {
					t.Errorf("%s by %s: %v", name, who, err)
				}
			}
		}
		if got := get(t, r.plain[0], "k"); got != "while it is primary" {
			t.Errorf("the old store holds %v", got)
		}
		if _, err := r.migration.Finish(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if err := forgotten.CAS(t.Context(), "k", increment); !errors.Is(err, kv.ErrFenced) || !strings.Contains(err.Error(), `configure this client for store "second"`) {
			t.Errorf("after the end: %v", err)
		}
		put(t, plainOn(t, r.second, multi.RecordRefuse, quiet), "k", "v") // the store that was moved to
	})
}

// A writer that never rests learns of it within a second.
func TestForgottenHostThatNeverRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		c := plainOn(t, r.first, multi.RecordRefuse, quiet)
		put(t, c, "k", "v")
		r.set(0, side.Retired)
		began := time.Now()
		for c.CAS(t.Context(), "k", func(any) (any, bool, error) { return "v", false, nil }) == nil {
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
			if time.Since(began) > time.Minute {
				t.Fatal("it writes for ever")
			}
		}
		if took := time.Since(began); took > 1100*time.Millisecond {
			t.Errorf("it wrote for another %v", took)
		}
	})
}

func TestRecordCheckWarnsOrIsOff(t *testing.T) {
	r := newRig(t)
	r.set(0, side.Standby)
	var log bytes.Buffer
	warns := plainOn(t, r.first, multi.RecordWarn, slog.New(slog.NewTextHandler(&log, nil)))
	put(t, warns, "k", "v")
	put(t, warns, "k", "w")
	if n := strings.Count(log.String(), "takes no writes of clients that know it alone"); n != 1 || !strings.Contains(log.String(), "level=WARN") {
		t.Errorf("%d warnings:\n%s", n, log.String())
	}
	put(t, plainOn(t, r.first, multi.RecordIgnore, quiet), "k", "x")
	_, err := multi.CheckRecord(r.plain[0], "perhaps", quiet)
	if err == nil || !strings.Contains(err.Error(), `"perhaps" is not allowed; it must be "refuse", "warn" or "ignore"`) {
		t.Errorf("%v", err)
	}
}

// What knows the record is not checked: the commands of a migration, and
// coordinated clients.
func TestRecordCheckKeepsNobodyFromMigrating(t *testing.T) {
	r := newRig(t)
	put(t, r.plain[0], "k", "v")
	m, err := migrate.New(
		migrate.Backend{Name: "first", Client: plainOn(t, r.first, multi.RecordRefuse, quiet)},
		migrate.Backend{Name: "second", Client: plainOn(t, r.second, multi.RecordRefuse, quiet)},
		migrate.Options{AllowNoClients: true, AllowDifferences: true, MaxPause: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Copy(t.Context(), migrate.CopyOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := m.Cutover(t.Context()); err != nil {
		t.Error(err)
	}
	c, err := multi.New(coordinatedConfig(), []multi.Backend{
		{Name: "first", Client: plainOn(t, r.first, multi.RecordRefuse, quiet)}, {Name: "second", Client: plainOn(t, r.second, multi.RecordRefuse, quiet)},
	}, multi.WithLogger(quiet))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	put(t, c, "k", "w")
	if _, err := m.Rollback(t.Context()); err != nil {
		t.Error(err)
	}
	put(t, c, "k", "x")
	eventually(t, "the write is mirrored", func() bool { return get(t, r.plain[1], "k") == "x" })
}

// A client that looks at the record keeps every promise that it kept before.
func TestConformanceOfRecordCheck(t *testing.T) {
	conformance.Run(t, conformance.Harness{Brief: true, New: func(t conformance.T) conformance.Store {
		s := inmemory.NewStore()
		return conformance.Store{
			Open: func(c codec.Codec, o kv.Options) (kv.Client, error) {
				return multi.CheckRecord(kv.New(s.Open(), c, &o), multi.RecordRefuse, quiet)
			},
		}
	}})
}
