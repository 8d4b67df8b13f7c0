package multi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/pflag"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// Every field but Primary has a flag that sets it.
func TestFlags(t *testing.T) {
	c, fs := DefaultConfig(), pflag.NewFlagSet("", pflag.ContinueOnError)
	c.RegisterFlags(fs, "m.")
	err := fs.Parse([]string{
		"--m.mirror=false", "--m.mirror-timeout=2s", "--m.mirror-async", "--m.mirror-workers=3", "--m.drain-timeout=4s", "--m.mirror-min-backoff=5s", "--m.mirror-max-backoff=6s",
		"--m.repair-interval=7s", "--m.coordinated", "--m.fence-timeout=8s", "--m.client-name=n", "--m.refresh-interval=9s",
	})
	want := Config{
		MirrorTimeout: 2 * time.Second, MirrorAsync: true, MirrorWorkers: 3, DrainTimeout: 4 * time.Second, MirrorMinBackoff: 5 * time.Second, MirrorMaxBackoff: 6 * time.Second,
		RepairInterval: 7 * time.Second, Coordinated: true, FenceTimeout: 8 * time.Second, ClientName: "n", RefreshInterval: 9 * time.Second,
	}
	if err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("%+v, %v; want %+v", c, err, want)
	}
}

func TestValidate(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Config)
		want   string // how the error begins; "": there is none
	}{
		"default":              {func(*Config) {}, ""},
		"mirror timeout":       {func(c *Config) { c.MirrorTimeout = 0 }, "mirror_timeout: 0 is not allowed"},
		"without mirroring":    {func(c *Config) { c.Mirror, c.MirrorTimeout = false, 0 }, ""},
		"asynchronous":         {func(c *Config) { c.MirrorAsync, c.MirrorTimeout = true, 0 }, ""},
		"negative timeout":     {func(c *Config) { c.MirrorAsync, c.MirrorTimeout = true, -1 }, "mirror_timeout: -1ns is not allowed; it must not be negative"},
		"no drain timeout":     {func(c *Config) { c.DrainTimeout = 0 }, ""},
		"drain timeout":        {func(c *Config) { c.DrainTimeout = -1 }, "drain_timeout: -1ns"},
		"min backoff":          {func(c *Config) { c.MirrorMinBackoff = 0 }, "mirror_min_backoff: 0"},
		"max backoff":          {func(c *Config) { c.MirrorMaxBackoff = 0 }, "mirror_max_backoff: 0"},
		"one backoff":          {func(c *Config) { c.MirrorMinBackoff, c.MirrorMaxBackoff = 5, 5 }, ""},
		"backoffs":             {func(c *Config) { c.MirrorMinBackoff, c.MirrorMaxBackoff = 6, 5 }, "mirror_min_backoff: 6ns is longer than mirror_max_backoff, 5ns"},
		"no repairs":           {func(c *Config) { c.RepairInterval = 0 }, ""},
		"repairs":              {func(c *Config) { c.RepairInterval = -1 }, "repair_interval: -1ns"},
		"fence timeout":        {func(c *Config) { c.Coordinated, c.FenceTimeout = true, 0 }, "fence_timeout: 0"},
		"refresh interval":     {func(c *Config) { c.Coordinated, c.RefreshInterval = true, 0 }, "refresh_interval: 0"},
		"without coordination": {func(c *Config) { c.FenceTimeout, c.RefreshInterval = 0, 0 }, ""},
		"workers":              {func(c *Config) { c.MirrorWorkers = 0 }, "mirror_workers: 0 is not allowed"},
		"one worker":           {func(c *Config) { c.MirrorWorkers = 1 }, ""},
	} {
		c := DefaultConfig()
		test.change(&c)
		if err := c.Validate(); (err == nil) != (test.want == "") || err != nil && !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

func TestBackends(t *testing.T) {
	client := &view{}
	a, b := Backend{Name: "a", Client: client}, Backend{Name: "b", Client: client}
	for _, test := range []struct {
		primary  string
		backends []Backend
		at       int
		want     string
	}{
		{"", []Backend{a, b}, 0, ""},
		{"a", []Backend{a, b}, 0, ""},
		{"b", []Backend{a, b}, 1, ""},
		{"c", []Backend{a, b}, 0, `primary: there is no backend "c"; the backends are "a" and "b"`},
		{"", []Backend{a}, 0, "there must be two backends, not 1"},
		{"", []Backend{a, {Client: client}}, 0, "a backend has no name"},
		{"", []Backend{{Name: "b"}, a}, 0, `backend "b" has no client`},
		{"", []Backend{a, a}, 0, `both backends are named "a"; they must have names of their own`},
	} {
		at, err := Config{Primary: test.primary}.index(test.backends)
		if at != test.at || (err == nil) != (test.want == "") || err != nil && err.Error() != test.want {
			t.Errorf("primary %q of %d: %d, %v; want %d, %s", test.primary, len(test.backends), at, err, test.at, test.want)
		}
	}
}

func TestKeys(t *testing.T) {
	for key, want := range map[string][2]bool{ // valid for all, and for the raw view
		"a/b": {true, true}, "": {false, false}, "a//b": {false, false}, "a\n": {false, false}, "a.polykv": {true, true},
		".polykv/a": {false, true}, "a/.polykv": {false, true}, ".polykv//a": {false, false}, ".polykv/\n": {false, false},
		".polykv/" + strings.Repeat("k", 300): {kv.CheckKey("xxxxxxx/"+strings.Repeat("k", 300)) == nil && false, kv.CheckKey("xxxxxxx/"+strings.Repeat("k", 300)) == nil},
	} {
		for i, v := range []*view{{}, {raw: true}} {
			if err := v.check(key); (err == nil) != want[i] || err != nil && !errors.Is(err, kv.ErrInvalidKey) {
				t.Errorf("%q, raw: %v: %v", key, v.raw, err)
			}
		}
	}
	if err := checkForm(".polykv//a"); err == nil || !strings.HasPrefix(err.Error(), `".polykv//a": `) {
		t.Errorf("an error of another key: %v", err)
	}
}

func TestVersionsAreMarked(t *testing.T) {
	for _, version := range []kv.Version{1, versionMask} {
		for _, epoch := range []uint64{0, 1, epochMask, epochMask + 1} {
			marked, err := mark(version, epoch)
			if err != nil {
				t.Fatal(err)
			}
			if got, valid := unmark(marked, epoch); got != version || !valid {
				t.Errorf("%d of epoch %d became %d, %v", version, epoch, got, valid)
			}
			if _, valid := unmark(marked, epoch+1); valid {
				t.Errorf("%d of epoch %d is valid in the next", version, epoch)
			}
		}
	}
	if _, err := mark(versionMask+1, 1); !errors.Is(err, kv.ErrNotSupported) {
		t.Errorf("a version that is too large: %v", err)
	}
	if got, err := mark(0, 7); got != 0 || err != nil {
		t.Errorf("of no version: %d, %v", got, err)
	}
}

// One watch across stores: nothing comes twice, and nothing is forgotten.
func TestWhatIsNews(t *testing.T) {
	d := &delivered{keys: map[string]*deliveredKey{}}
	put := func(key, value string) (deliveredKey, bool) {
		return d.put(kv.Event{Type: kv.Put, Key: key, Stored: []byte(value)})
	}
	undecodable := func(key, value string) bool {
		_, news := d.put(kv.Event{Type: kv.Undecodable, Key: key, Stored: []byte(value)})
		return news
	}
	expect := func(what string, got, want bool) {
		t.Helper()
		if got != want {
			t.Errorf("%s: news: %v", what, got)
		}
	}
	news := func(_ deliveredKey, news bool) bool { return news }
	d.turn()
	expect("a value", news(put("a", "1")), true)
	expect("the same", news(put("a", "1")), false)
	expect("another", news(put("a", "2")), true)
	expect("an empty one", news(put("empty", "")), true)
	expect("what can't be decoded", undecodable("a", "?"), true)
	expect("again", undecodable("a", "?"), false)
	expect("the value before it", news(put("a", "2")), false) // was delivered and not deleted since
	expect("what can't be decoded, after it", undecodable("a", "?"), true)
	expect("the first that can't be decoded", undecodable("u", "?"), true)
	before, isNews := put("b", "1")
	expect("a value that is taken back", isNews, true)
	d.takeBack("b", before)
	expect("its deletion", d.remove("b"), false)
	put("b", "1")
	before, _ = put("b", "2")
	d.takeBack("b", before)
	expect("the value before the one that is taken back", news(put("b", "1")), false)
	before, _ = d.put(kv.Event{Type: kv.Put, Key: "b"})
	d.takeBack("b", before)
	expect("the value before one that isn't told", news(put("b", "1")), false)
	expect("its deletion", d.remove("b"), true)
	if gone := d.complete(); gone != nil || d.scanning {
		t.Errorf("of the first store %q are gone", gone)
	}
	if gone := d.complete(); gone != nil {
		t.Errorf("of no snapshot %q are gone", gone)
	}
	put("z", "1")
	put("c", "1")
	d.turn()
	expect("the same in the next store", news(put("a", "2")), false)
	if gone := d.complete(); !slices.Equal(gone, []string{"c", "empty", "z"}) {
		t.Errorf("of the next store %q are gone", gone)
	}
	if _, kept := d.keys["u"]; kept {
		t.Error("a key that was never delivered is kept")
	}
	expect("a deletion", d.remove("c"), true)
	expect("again", d.remove("c"), false)
	expect("of a key that nobody knows", d.remove("nobody's"), false)
	d.put(kv.Event{Type: kv.Undecodable, Key: "w"}) // of a client that doesn't tell what is stored
	expect("a deletion of what can't be decoded", d.remove("w"), false)
	for range 2 {
		expect("a value of a client that doesn't tell", news(d.put(kv.Event{Type: kv.Put, Key: "w"})), true)
	}
	d.put(kv.Event{Type: kv.Undecodable, Key: "w"})
	expect("its deletion", d.remove("w"), true)
}

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		over, end := context.WithCancel(t.Context())
		end()
		one, err := g.enter(t.Context(), t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for want, ctx := range map[error][2]context.Context{context.Canceled: {over, t.Context()}, kv.ErrClosed: {t.Context(), over}} {
			if err := g.close(ctx[0], ctx[1]); !errors.Is(err, want) || g.isClosed() {
				t.Errorf("somebody is inside: %v, want %v; shut: %v", err, want, g.isClosed())
			}
		}
		if !one.expired() {
			t.Error("a permit from before counts")
		}
		one.out()
		one.out() // once more does nothing
		if one.in() {
			t.Error("a permit from before lets in")
		}
		if err := g.close(t.Context(), t.Context()); err != nil || !g.isClosed() {
			t.Fatalf("nobody is inside: %v", err)
		}
		for want, ctx := range map[error][2]context.Context{context.Canceled: {over, t.Context()}, kv.ErrClosed: {t.Context(), over}} {
			if p, err := g.enter(ctx[0], ctx[1]); p != nil || !errors.Is(err, want) {
				t.Errorf("shut: %v, want %v", err, want)
			}
		}
		entered := make(chan *permit)
		go func() { p, _ := g.enter(t.Context(), t.Context()); entered <- p }()
		synctest.Wait()
		g.reopen()
		two := <-entered
		if two.expired() || !two.in() || g.inside != 1 {
			t.Errorf("inside are %d", g.inside)
		}
		two.out()
		if !two.in() || g.inside != 1 {
			t.Error("a permit doesn't let in again")
		}
		done := make(chan error)
		go func() { done <- g.close(t.Context(), t.Context()) }()
		synctest.Wait()
		two.out()
		if err := <-done; err != nil {
			t.Error(err)
		}
		g.reopen()
		var none *permit
		if none.out(); none.expired() || !none.in() {
			t.Error("no permit doesn't let in")
		}
	})
}

// saying returns the records of two stores that say this.
func saying(states [2]side.State, change func(*records)) *records {
	rs := &records{core: &core{cfg: DefaultConfig(), stores: [2]*store{{name: "a"}, {name: "b"}}, ctx: context.Background()}, lastPrimary: -1}
	for i, state := range states {
		rs.seen[i] = observation{known: true, reads: 1, ticket: 1, version: kv.Version(i + 5), record: side.Record{State: state, Epoch: uint64(i + 1)}}
		if state == "" {
			rs.seen[i].version = 0
		}
	}
	if change != nil {
		change(rs)
	}
	return rs
}

func TestWhatTheRecordsSay(t *testing.T) {
	refused := fmt.Errorf("%w: b", kv.ErrPermission)
	primary := func(at int) func(*records) {
		return func(rs *records) { rs.reads = rs.route(at, false); rs.writes = rs.reads }
	}
	for name, test := range map[string]struct {
		states  [2]side.State
		change  func(*records)
		phase   Phase
		mirrors [2]mirrorState
		over    bool   // waiting won't help
		verdict string // part of it
		tooLong string // part of the error of who waited
	}{
		"nothing": {
			[2]side.State{},
			func(rs *records) { rs.seen = [2]observation{} }, PhaseUnknown,
			[2]mirrorState{mirrorPaused, mirrorPaused},
			false, "",
			`no store was known to be primary for 30s: store "a" is unknown, store "b" is unknown: no answer yet`,
		},
		"one unknown": {
			[2]side.State{side.Standby, ""},
			func(rs *records) { rs.seen[1] = observation{} }, PhaseFenced,
			[2]mirrorState{mirrorPaused, mirrorPaused},
			false, "",
			`store "a" is standby, store "b" is unknown: no answer yet`,
		},
		"other unknown": {
			[2]side.State{"", side.Standby},
			func(rs *records) { rs.seen[0] = observation{} }, PhaseFenced,
			[2]mirrorState{mirrorPaused, mirrorPaused},
			false, "",
			`store "a" is unknown, store "b" is standby: no answer yet`,
		},
		"no records": {
			[2]side.State{},
			nil, PhaseFenced,
			[2]mirrorState{mirrorPaused, mirrorPaused},
			true, `no store is primary: store "a" is without a record, store "b" is without a record; run "polykv migrate start"`,
			`no store was primary for 30s: store "a" is without a record, store "b" is without a record; run "polykv migrate start"`,
		},
		"one record":     {[2]side.State{"", side.Retired}, nil, PhaseFenced, [2]mirrorState{mirrorPaused, mirrorPaused}, true, `see "polykv migrate status"`, `store "b" is retired; see "polykv migrate status"`},
		"other record":   {[2]side.State{side.Retired, ""}, nil, PhaseFenced, [2]mirrorState{mirrorPaused, mirrorPaused}, true, `see "polykv migrate status"`, `store "b" is without a record; see`},
		"mirroring":      {[2]side.State{side.Primary, side.Standby}, primary(0), PhaseMirroring, [2]mirrorState{mirrorOff, mirrorOn}, false, "", ""},
		"mirroring to a": {[2]side.State{side.Standby, side.Primary}, primary(1), PhaseMirroring, [2]mirrorState{mirrorOn, mirrorOff}, false, "", ""},
		"moved":          {[2]side.State{side.Sealed, side.Primary}, primary(1), PhaseMoved, [2]mirrorState{mirrorPaused, mirrorOff}, false, "", ""},
		"finished":       {[2]side.State{side.Retired, side.Primary}, primary(1), PhaseFinished, [2]mirrorState{mirrorOff, mirrorOff}, false, "", ""},
		"begun":          {[2]side.State{side.Primary, ""}, primary(0), PhaseFinished, [2]mirrorState{mirrorOff, mirrorPaused}, false, "", ""},
		"no mirroring":   {[2]side.State{side.Primary, side.Standby}, func(rs *records) { primary(0)(rs); rs.core.cfg.Mirror = false }, PhaseMirroring, [2]mirrorState{mirrorOff, mirrorOff}, false, "", ""},
		"cutover":        {[2]side.State{side.Sealed, side.Filling}, func(rs *records) { rs.reads = rs.route(0, true) }, PhaseCutover, [2]mirrorState{mirrorPaused, mirrorPaused}, false, "", "a cutover is under way"},
		"sealed":         {[2]side.State{side.Sealed, side.Standby}, nil, PhaseFenced, [2]mirrorState{mirrorPaused, mirrorPaused}, false, "", "a cutover is under way"},
		"filling":        {[2]side.State{side.Filling, side.Standby}, nil, PhaseFenced, [2]mirrorState{mirrorPaused, mirrorPaused}, false, "", "a cutover is under way"},
		"being read":     {[2]side.State{"", ""}, func(rs *records) { rs.seen[1].ticket = 0 }, PhaseFenced, [2]mirrorState{mirrorPaused, mirrorPaused}, false, "", "run"},
		"out of reach":   {[2]side.State{side.Standby, side.Standby}, func(rs *records) { rs.seen[0].err = io.EOF }, PhaseFenced, [2]mirrorState{mirrorPaused, mirrorPaused}, false, "", `store "b" is standby: EOF`},
		"refused": {
			[2]side.State{side.Standby, side.Standby},
			func(rs *records) { rs.seen[1].err = refused }, PhaseFenced,
			[2]mirrorState{mirrorPaused, mirrorPaused},
			true,
			`no store is known to be primary: the record of store "b" can't be read: `, refused.Error(),
		},
	} {
		rs := saying(test.states, test.change)
		if got := rs.phase(); got != test.phase {
			t.Errorf("%s: phase %s, want %s", name, got, test.phase)
		}
		for to, want := range test.mirrors {
			state, guards := rs.mirroring(to)
			if state != want || (guards != nil) != (want == mirrorOn) || want == mirrorOn && guards[0].Version != rs.seen[to].version {
				t.Errorf("%s: mirroring to %d: %v by %v, want %v", name, to, state, guards, want)
			}
		}
		over, err := rs.verdict(1)
		if over != test.over || (err != nil) != over || err != nil && !strings.Contains(err.Error(), test.verdict) {
			t.Errorf("%s: %v, %v; want %v, %s", name, over, err, test.over, test.verdict)
		}
		if err := rs.tooLong(); !strings.Contains(err.Error(), test.tooLong) || errors.Is(err, kv.ErrUnavailable) == errors.Is(err, kv.ErrFenced) || errors.Is(err, kv.ErrPermission) {
			t.Errorf("%s: who waited gets %v, want %s", name, err, test.tooLong)
		}
		var s Status
		if rs.status(&s); len(s.Records) != 2 {
			t.Errorf("%s: %d records", name, len(s.Records))
		}
		mirrored := ""
		if i := slices.Index(test.mirrors[:], mirrorOn); i >= 0 {
			mirrored = rs.core.stores[i].name
		}
		isPrimary := rs.writes != nil
		if s.Phase != test.phase || s.Mirror != mirrored || (s.Primary != "") != isPrimary || (s.Problem != "") != (!isPrimary && (rs.seen[0].known || rs.seen[1].known)) || s.NoPrimaryFor != 0 {
			t.Errorf("%s: status %+v", name, s)
		}
		for i, r := range s.Records {
			seen := rs.seen[i]
			if r.Store != rs.core.stores[i].name || r.State != string(seen.state()) || r.Epoch != seen.record.Epoch || r.Version != uint64(seen.version) || r.Known != seen.known || (r.Error != "") != (seen.err != nil) {
				t.Errorf("%s: record %+v of %+v", name, r, seen)
			}
		}
	}
}

func TestNoPrimaryIsTimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rs := saying([2]side.State{}, func(rs *records) { rs.alarmed, rs.alarmedAt, rs.waiting = true, time.Now().Add(-time.Minute), 3 })
		var s Status
		if rs.status(&s); s.NoPrimaryFor != time.Minute || s.Waiting != 3 {
			t.Errorf("%+v", s)
		}
	})
}

// Of two stores in one state it is the one of the higher epoch, and a route stays
// the same while nothing changes.
func TestRoutes(t *testing.T) {
	rs := saying([2]side.State{side.Primary, side.Primary}, nil)
	if at := rs.highest(side.Primary); at != 1 {
		t.Errorf("the highest of epochs 1 and 2 is %d", at)
	}
	rs.seen[0].record.Epoch = 2
	if at := rs.highest(side.Primary); at != 0 {
		t.Errorf("of equal epochs it is %d", at)
	}
	if rs.highest(side.Sealed) != -1 || rs.route(-1, false) != nil {
		t.Error("there is a route to nowhere")
	}
	one := rs.route(1, false)
	if one.at != 1 || one.guards[0].Version != 6 || one.epoch != 2 || one.sealed || one.ctx.Err() != nil {
		t.Errorf("%+v", one)
	}
	if rs.reads = one; rs.route(1, false) != one {
		t.Error("another route, though nothing changed")
	}
	sealed := rs.route(1, true)
	if sealed == one || !sealed.sealed || sealed.ctx != one.ctx {
		t.Errorf("sealed: %+v", sealed)
	}
	rs.seen[1].version = 9
	if next := rs.route(1, false); next == one || next.guards[0].Version != 9 || next.ctx != one.ctx {
		t.Errorf("of another version: %+v", next)
	}
	if other := rs.route(0, false); other.at != 0 || other.ctx == one.ctx {
		t.Errorf("to the other store: %+v", other)
	}
	if at, guarded := rs.limits(); at != 1 || !guarded {
		t.Errorf("the limits are those of %d", at)
	}
	for ticket, want := range map[uint64]bool{0: true, 1: true, 2: false} {
		if rs.fresh(0, ticket) != want {
			t.Errorf("read for ticket 1, fresh for %d: %v", ticket, !want)
		}
	}
	if rs.seen[0].reads = 0; rs.fresh(0, 0) {
		t.Error("fresh without a read")
	}
}

func TestSamples(t *testing.T) {
	var s samples
	for i := range sampleCount + 2 {
		s.add(Sample{Backlog: i})
	}
	all := s.all()
	if len(all) != sampleCount || all[0].Backlog != 2 || all[sampleCount-1].Backlog != sampleCount+1 {
		t.Errorf("%d samples, from %d", len(all), all[0].Backlog)
	}
	if all[0].Backlog = math.MaxInt; s.all()[0].Backlog != 2 {
		t.Error("a caller's samples are the kept ones")
	}
}

func TestTotalsOfMirroring(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ago := func(d time.Duration) *task { return &task{since: time.Now().Add(-d)} }
		m := &mirror{core: saying([2]side.State{}, nil).core, directions: [2]*direction{
			{state: mirrorOn, mirrored: 1, failed: 2, late: 3, dead: true, tasks: map[string]*task{"a": ago(time.Second), "b": ago(time.Minute)}},
			{state: mirrorPaused, mirrored: 10, failed: 20, lastErr: io.EOF, tasks: map[string]*task{"a": ago(time.Hour)}},
		}}
		want := [2]MirrorStatus{
			{Store: "a", Open: true, Dead: true, Mirrored: 1, Failed: 2, Late: 3, Backlog: 2, Oldest: time.Minute},
			{Store: "b", Mirrored: 10, Failed: 20, Backlog: 1, Oldest: time.Hour, Error: "EOF"},
		}
		if got := m.status(); !reflect.DeepEqual(got, want[:]) {
			t.Errorf("%+v, want %+v", got, want)
		}
		if got, want := m.totals(), (totals{backlog: 3, oldest: time.Hour, mirrored: 11, failed: 22, err: "EOF"}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		if m.backlog() != 3 {
			t.Errorf("a backlog of %d", m.backlog())
		}
	})
}

func TestGuardsOfARoute(t *testing.T) {
	c := kv.New(inmemory.NewStore().Open(), codec.String{}, nil)
	defer func() { _ = c.Close() }()
	limits, err := kv.LimitsOf(c)
	if err != nil {
		t.Fatal(err)
	}
	for callers, want := range map[int]bool{0: true, 1: limits.Guards > 1, limits.Guards - 1: limits.Guards > 1, limits.Guards: false} {
		if err := room(c, callers); (err == nil) != want || err != nil && !errors.Is(err, kv.ErrNotSupported) {
			t.Errorf("%d guards beside the record's, of %d: %v", callers, limits.Guards, err)
		}
	}
	v := &view{core: &core{cfg: Config{Coordinated: true}}, stores: [2]*store{{name: "a"}, {name: "b"}}, clients: [2]kv.Client{c, c}}
	record := kv.Guard{Key: side.RecordKey, Version: 9}
	at := func(epoch uint64) kv.Guard {
		version, err := mark(7, epoch)
		if err != nil {
			t.Fatal(err)
		}
		return kv.Guard{Key: "g", Version: version}
	}
	for name, test := range map[string]struct {
		route   route
		callers []kv.Guard
		want    []kv.Guard
		err     error
	}{
		"none":                   {route{epoch: 3}, nil, nil, nil},
		"the record's":           {route{epoch: 3, guards: []kv.Guard{record}}, nil, []kv.Guard{record}, nil},
		"a caller's":             {route{epoch: 3}, []kv.Guard{at(3)}, []kv.Guard{{Key: "g", Version: 7}}, nil},
		"both":                   {route{epoch: 3, guards: []kv.Guard{record}}, []kv.Guard{at(3)}, []kv.Guard{record, {Key: "g", Version: 7}}, nil},
		"of an absent key":       {route{epoch: 3}, []kv.Guard{{Key: "g"}}, []kv.Guard{{Key: "g"}}, nil},
		"of another epoch":       {route{epoch: 3}, []kv.Guard{at(2)}, nil, kv.ErrFenced},
		"of no key":              {route{epoch: 3}, []kv.Guard{{Key: ""}}, nil, kv.ErrInvalidKey},
		"too many, none is ours": {route{epoch: 3}, slices.Repeat([]kv.Guard{at(3)}, limits.Guards), slices.Repeat([]kv.Guard{{Key: "g", Version: 7}}, limits.Guards), nil},
		"too many beside ours":   {route{epoch: 3, guards: []kv.Guard{record}}, slices.Repeat([]kv.Guard{at(3)}, limits.Guards), nil, kv.ErrNotSupported},
	} {
		got, err := v.guards(&test.route, test.callers)
		if !slices.Equal(got, test.want) || !errors.Is(err, test.err) || isFenced(err) {
			t.Errorf("%s: %v, %v; want %v, %v", name, got, err, test.want, test.err)
		}
		client, all, err := v.versioned(&test.route, test.callers)
		if (client == nil) != (err != nil) || !slices.Equal(all, test.want) || !errors.Is(err, test.err) {
			t.Errorf("%s: versioned %v, %v", name, all, err)
		}
	}
	for what, want := range map[kv.Capability]error{kv.Guards: nil, kv.Versions: nil, kv.Leases: kv.ErrNotSupported} {
		if err := v.Supports(what); !errors.Is(err, want) || err != nil && !strings.HasPrefix(err.Error(), `store "a": `) {
			t.Errorf("%v: %v", what, err)
		}
	}
	for guarded, want := range map[bool]int{false: limits.Guards, true: limits.Guards - 1} {
		v.core.selector = limited{guarded: guarded}
		if l, err := v.Limits(); err != nil || l.Guards != want {
			t.Errorf("guarded: %v: %+v, %v; want %d guards", guarded, l, err, want)
		}
	}
}

// limited is a selector of which only the limits are asked.
type limited struct {
	selector
	guarded bool
}

func (l limited) limits() (int, bool) { return 0, l.guarded }

func TestWhoseErrorItIs(t *testing.T) {
	for err, want := range map[error]bool{
		kv.ErrFenced:                                   true,
		fmt.Errorf("a: %w", kv.ErrFenced):              true,
		&callersError{kv.ErrFenced}:                    false,
		errors.Join(kv.ErrFenced, kv.ErrIndeterminate): false,
		io.EOF: false,
	} {
		if isFenced(err) != want {
			t.Errorf("%v is the record's: %v", err, !want)
		}
	}
	plain, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ctxError(plain); err != context.Canceled { //nolint:errorlint // the very error
		t.Errorf("of a ctx without a cause: %v", err)
	}
	because, cancelFor := context.WithCancelCause(t.Context())
	cancelFor(io.EOF)
	if err := ctxError(because); !errors.Is(err, context.Canceled) || !errors.Is(err, io.EOF) {
		t.Errorf("of a ctx with a cause: %v", err)
	}
}

// What a watch tells of two stores that it follows one after the other: the first by
// its client, the second by its bytes.
func TestWatchAcrossStores(t *testing.T) {
	text := codec.JSON[string]{}
	first, raw := &view{}, &view{raw: true}
	c := saying([2]side.State{}, nil).core
	c.log = slog.New(slog.DiscardHandler)
	var told []string
	enough := -1 // events after which the watch has had enough; less than 0: never
	w := &watch{
		view:      &view{core: c, clients: [2]kv.Client{first, first}, stores: [2]*store{{raw: raw, codec: text}, {raw: raw, codec: text}}},
		delivered: &delivered{keys: map[string]*deliveredKey{}}, rewrites: true,
		f: func(ev kv.Event) bool {
			told = append(told, fmt.Sprint(ev.Type, " ", ev.Key, " ", ev.Value, " ", ev.Version, " ", ev.Err))
			enough--
			return enough != 0
		},
	}
	put := func(key, bytes string, version kv.Version) kv.Event {
		return kv.Event{Type: kv.Put, Key: key, Stored: []byte(bytes), Version: version}
	}
	expect := func(what string, ev kv.Event, goesOn bool, want ...string) {
		t.Helper()
		told = nil
		if w.deliver(ev) != goesOn || w.over == goesOn || !slices.Equal(told, want) {
			t.Errorf("%s: over: %v, told %q, want %q", what, w.over, told, want)
		}
	}
	w.delivered.turn()
	if w.turnTo(0) != kv.Client(first) || w.codec != nil {
		t.Error("the first store is not followed by its client")
	}
	value := func(key, bytes string, version kv.Version) kv.Event {
		ev := put(key, bytes, version)
		ev.Value, _ = text.Decode([]byte(bytes))
		return ev
	}
	expect("a value of the snapshot", value("a", `"1"`, 5), true, "put a 1 0 <nil>")
	expect("another", value("b", `"1"`, 4), true, "put b 1 0 <nil>")
	expect("the end of the snapshot", kv.Event{Type: kv.Synced}, true, "rewritten  <nil> 5 <nil>", "synced  <nil> 0 <nil>")
	expect("a change", value("a", `"2"`, 6), true, "put a 2 6 <nil>")
	expect("the same again", value("a", `"2"`, 7), true, "rewritten a <nil> 7 <nil>")
	expect("a deletion", kv.Event{Type: kv.Delete, Key: "b"}, true, "delete b <nil> 0 <nil>")
	expect("once more", kv.Event{Type: kv.Delete, Key: "b"}, true)
	expect("an interruption", kv.Event{Type: kv.Interrupted, Err: io.EOF}, true, "interrupted  <nil> 0 EOF")
	expect("its end", kv.Event{Type: kv.Synced}, true, "synced  <nil> 0 <nil>")
	expect("a second Synced", kv.Event{Type: kv.Synced}, true)
	expect("a key to come", value("c", `"3"`, 8), true, "put c 3 8 <nil>")

	w.delivered.turn()
	w.epoch = 1
	if w.turnTo(1) != kv.Client(raw) || w.codec == nil {
		t.Error("the second store is not followed by its bytes")
	}
	shown, _ := mark(3, 1)
	expect("polykv's own", put(".polykv/record", `"r"`, 2), true)
	expect("what was delivered", put("a", `"2"`, 2), true, "rewritten a <nil> 0 <nil>")
	expect("what is new", put("d", `"4"`, 3), true, "put d 4 0 <nil>")
	expect("the end of the snapshot", kv.Event{Type: kv.Synced}, true, "delete c <nil> 0 <nil>", fmt.Sprint("rewritten  <nil> ", uint64(shown), " <nil>"))
	told = nil
	if !w.deliver(put("a", `odd`, 3)) || len(told) != 1 || !strings.HasPrefix(told[0], fmt.Sprint("undecodable a <nil> ", uint64(shown), " the stored value can't be decoded")) {
		t.Errorf("what can't be decoded: %q", told)
	}
	expect("the value before it", put("a", `"2"`, 3), true, fmt.Sprint("rewritten a <nil> ", uint64(shown), " <nil>"))
	w.rewrites = false
	expect("once more, for who doesn't care", put("a", `"2"`, 3), true)
	expect("a version that is too large", put("e", `"5"`, versionMask+1), true, "put e 5 0 <nil>")
	enough = 1
	expect("a change for who has had enough", put("a", `"6"`, 3), false, fmt.Sprint("put a 6 ", uint64(shown), " <nil>"))
	for _, left := range []*store{{codec: text}, {raw: raw}} {
		if w.stores[1] = left; w.turnTo(1) != kv.Client(first) || w.codec != nil {
			t.Errorf("%+v is followed by its bytes", left)
		}
	}
	w.view = &view{core: c, clients: w.clients, stores: [2]*store{{raw: raw, codec: text}, {raw: raw, codec: text}}, raw: true}
	if w.turnTo(1) != kv.Client(first) {
		t.Error("a raw view's watch is made by another client than its own")
	}
}
