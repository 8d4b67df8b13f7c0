package multi_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/multi"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// diary is all that a client tells its log and its observer.
type diary struct {
	mu    sync.Mutex
	lines []string
}

var _ multi.Observer = (*diary)(nil)

func (d *diary) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (d *diary) Mirrored(store string, _ time.Duration, err error) {
	d.note("mirrored %s: %v", store, err)
}
func (d *diary) Backlog(store string, keys int) { d.note("backlog %s: %d", store, keys) }
func (d *diary) Moved(store string)             { d.note("moved: %s", store) }
func (d *diary) Strays(store string, keys int)  { d.note("strays %s: %d", store, keys) }
func (d *diary) Waiting(calls int)              { d.note("waiting: %d", calls) }
func (d *diary) Repaired(store string, different int, err error) {
	d.note("repaired %s: %d, %v", store, different, err)
}

func (d *diary) Standing(phase, primary string, epoch uint64) {
	d.note("standing: %s, %q of %d", phase, primary, epoch)
}

// Write takes a line of the log, without its time.
func (d *diary) Write(line []byte) (int, error) {
	_, text, _ := strings.Cut(strings.TrimSpace(string(line)), "level=")
	d.note("%s", text)
	return len(line), nil
}

func (d *diary) logger() *slog.Logger { return slog.New(slog.NewTextHandler(d, nil)) }

func (d *diary) options() []multi.Option {
	return []multi.Option{multi.WithLogger(d.logger()), multi.WithObserver(d)}
}

// take returns what was told since it was last called, sorted, once nothing more
// happens.
func (d *diary) take() []string {
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	lines := d.lines
	d.lines = nil
	slices.Sort(lines)
	return lines
}

// expect wants just these lines, of which each begins like that.
func (d *diary) expect(t *testing.T, what string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := d.take(); !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("%s: told\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// expectAmong wants these lines among others, so often each.
func (d *diary) expectAmong(t *testing.T, what string, want map[string]int) {
	t.Helper()
	got := d.take()
	for begin, times := range want {
		n := 0
		for _, line := range got {
			if strings.HasPrefix(line, begin) {
				n++
			}
		}
		if n != times {
			t.Errorf("%s: %q was told %d times instead of %d:\n%s", what, begin, n, times, strings.Join(got, "\n"))
		}
	}
}

// What a client that is switched by hand tells, and how often.
func TestWhatAClientTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, d := newPair(t), &diary{}
		var out, full atomic.Bool
		full.Store(true)
		cfg := multi.DefaultConfig()
		cfg.RepairInterval = 0
		c := p.open(cfg, func(at int, s driver.Store) driver.Store {
			return &hooked{Store: s, beforeSwap: func(w driver.Swap) error {
				switch {
				case at == 1 && out.Load():
					return errors.New("out of reach")
				case at == 1 && full.Load() && w.Key == "large":
					return fmt.Errorf("no room: %w", kv.ErrTooLarge)
				}
				return nil
			}}
		}, d.options()...)
		did := func(what string, err error, want ...string) {
			t.Helper()
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
			d.expect(t, what, want...)
		}
		towards := func(primary, secondary string) []string {
			return []string{
				"backlog first: 0", "backlog second: 0", `standing: plain, "` + primary + `" of 0`, "moved: " + primary,
				`INFO msg="polykv: the primary was switched" from=` + secondary + " to=" + primary,
			}
		}
		did("New", nil, "backlog first: 0", "backlog second: 0", `standing: plain, "first" of 0`)
		put(t, c, "k", "v")
		did("a write", nil, "mirrored second: <nil>", "backlog second: 0")
		did("the primary that it has", c.SetPrimary(t.Context(), "first"))
		did("a switch", c.SetPrimary(t.Context(), "second"), towards("second", "first")...)
		did("a switch back", c.SetPrimary(t.Context(), "first"), towards("first", "second")...)
		did("mirroring that ends", c.SetMirroring(false), "backlog first: 0", "backlog second: 0", `standing: plain, "first" of 0`)
		put(t, c, "k", "missed")
		did("a write that is not mirrored", nil)
		err := c.SetMirroring(true)
		time.Sleep(10 * time.Second)
		did("mirroring again", err, "backlog first: 0", "backlog second: 0", `standing: plain, "first" of 0`, "repaired second: 1, <nil>", "strays second: 1",
			`WARN msg="polykv: keys differed that nobody had mirrored, and were made as they are in the primary: a client crashed before it had mirrored them, or somebody writes past polykv" store=second copied=1 deleted=0 first=[k]`)
		_, err = c.Repair(t.Context())
		did("a repair of nothing", err, "repaired second: 0, <nil>", "strays second: 0")
		_, _, err = c.Verify(t.Context())
		did("a comparison", err, "repaired second: 0, <nil>")

		put(t, c, "large", "v")
		did("a key that the other store refuses", nil, "mirrored second: ", "backlog second: 1", `WARN msg="polykv: a key can't be mirrored" store=second key=large error=`)
		full.Store(false)
		time.Sleep(time.Second)
		did("that it takes now", nil, "mirrored second: <nil>", "backlog second: 0")

		out.Store(true)
		put(t, c, "a", "1")
		put(t, c, "b", "1")
		d.expectAmong(t, "an outage", map[string]int{
			`WARN msg="polykv: mirroring lags" store=second error=`: 1, "WARN": 1, "INFO": 0, "mirrored second: <nil>": 0,
		})
		time.Sleep(10 * time.Second)
		out.Store(false)
		d.expectAmong(t, "a longer one", map[string]int{"WARN": 0, "INFO": 0, "mirrored second: <nil>": 0})
		time.Sleep(time.Minute)
		d.expectAmong(t, "its end", map[string]int{
			`INFO msg="polykv: mirroring works again" store=second backlog=1`: 1, "INFO": 1, "WARN": 0, "mirrored second: <nil>": 2, "backlog second: 0": 1,
		})
		if s := c.Status().Mirrors[1]; s.Error != "" || s.Dead || s.Backlog != 0 {
			t.Errorf("after it: %+v", s)
		}
		p.wantEqual()
	})
}

// What a coordinated client tells of a cutover, and of a record that it can't read.
func TestWhatACoordinatedClientTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := newRig(t), &diary{}
		var denied atomic.Bool
		cfg := patientConfig()
		cfg.RepairInterval = 0
		c, err := multi.New(cfg, []multi.Backend{
			{Name: "first", Client: kv.New(r.first.Open(), codec.String{}, &kv.Options{Logger: quiet})},
			{Name: "second", Client: kv.New(sometimes{r.second.Open(), &denied}, codec.String{}, &kv.Options{Logger: quiet})},
		}, d.options()...)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		d.expectAmong(t, "New", map[string]int{
			`INFO msg="polykv: the record of a store was read" store=first state=primary epoch=1 version=`:  1,
			`INFO msg="polykv: the record of a store was read" store=second state=standby epoch=1 version=`: 1,
			"moved: first": 1, "moved": 1, `standing: mirroring, "first" of 1`: 1, "WARN": 0, "INFO": 2, "waiting": 0,
		})
		time.Sleep(time.Hour)
		d.expect(t, "nothing to tell for an hour")
		denied.Store(true)
		time.Sleep(time.Hour)
		d.expect(t, "a record that can't be read", `WARN msg="polykv: the record of a store can't be read" store=second error=`)
		if s := c.Status(); s.Records[1].Error == "" || !s.Records[1].Known || s.Records[1].State != "standby" || s.Phase != multi.PhaseMirroring {
			t.Errorf("what is known of it: %+v", s)
		}
		denied.Store(false)
		time.Sleep(time.Hour)
		d.expect(t, "that can be read again")
		r.set(0, side.Sealed)
		time.Sleep(time.Millisecond)
		d.expect(t, "a store that is sealed", `INFO msg="polykv: the record of a store was read" store=first state=sealed epoch=1 version=`,
			`standing: cutover, "" of 0`, "backlog first: 0", "backlog second: 0")
		if s := c.Status(); s.NoPrimaryFor != time.Millisecond || s.Problem == "" {
			t.Errorf("no store is primary: %+v", s)
		}
		time.Sleep(time.Second - time.Millisecond - 1)
		d.expect(t, "for almost a second")
		time.Sleep(time.Nanosecond)
		d.expect(t, "for a second", `WARN msg="polykv: no store is primary, writes wait" since=1s records="store \"first\" is sealed, store \"second\" is standby" next="a cutover is under way`)
		time.Sleep(time.Hour)
		d.expect(t, "for an hour")
		r.set(0, side.Primary)
		time.Sleep(time.Millisecond)
		d.expect(t, "a store that is primary again", `INFO msg="polykv: the record of a store was read" store=first state=primary epoch=1 version=`,
			`INFO msg="polykv: a store is primary again" store=first`, `standing: mirroring, "first" of 1`, "backlog first: 0", "backlog second: 0")
		if s := c.Status(); s.NoPrimaryFor != 0 || s.Problem != "" {
			t.Errorf("a store is primary: %+v", s)
		}
		for range 3 { // too short for a warning, each
			r.set(0, side.Sealed)
			time.Sleep(600 * time.Millisecond)
			r.set(0, side.Primary)
			time.Sleep(600 * time.Millisecond)
		}
		d.expectAmong(t, "moments without a primary", map[string]int{"WARN": 0, "INFO": 6, "moved": 0})
		r.cutover()
		time.Sleep(time.Second)
		d.expectAmong(t, "a cutover", map[string]int{"moved: second": 1, "moved": 1, `standing: mirroring, "second" of 2`: 1, "WARN": 0})
		if err := r.move(t, 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		d.expectAmong(t, "a roll-back", map[string]int{"moved: first": 1, "moved": 1, "WARN": 0})
		r.set(0, side.Sealed)
		time.Sleep(500 * time.Millisecond)
		_ = c.Close()
		time.Sleep(time.Minute)
		d.expectAmong(t, "Close amid it", map[string]int{"WARN": 0})
	})
}

// sometimes is a store whose record can't be read while it is denied.
type sometimes struct {
	driver.Store
	denied *atomic.Bool
}

func (s sometimes) Get(ctx context.Context, r driver.GetRequest) (driver.Entry, error) {
	if r.Key == side.RecordKey && s.denied.Load() {
		return driver.Entry{}, errDenied
	}
	return s.Store.Get(ctx, r)
}
