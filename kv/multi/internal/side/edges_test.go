package side

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

func TestNamesForPeople(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.FixedZone("east", 3600))
	for want, got := range map[string]string{
		"-":                                    Author{User: "u"}.String(),
		"start by u@h at 2030-01-02T02:04:05Z": Author{User: "u", Host: "h", At: at, Command: "start"}.String(),
		"start by u at 2030-01-02T02:04:05Z":   Author{User: "u", At: at, Command: "start"}.String(),
		"start by @h at 2030-01-02T02:04:05Z":  Author{Host: "h", At: at, Command: "start"}.String(),
		"by somebody at 2030-01-02T02:04:05Z":  strings.TrimPrefix(Author{At: at, Command: "start"}.String(), "start "),
		"name":                                 Heartbeat{Instance: "i", Name: "name"}.String(),
		"i":                                    Heartbeat{Instance: "i", PID: 7}.String(),
		"name (h, pid 7)":                      Heartbeat{Instance: "i", Name: "name", Host: "h", PID: 7}.String(),
		"h (pid 7)":                            Heartbeat{Instance: "i", Host: "h", PID: 7}.String(),
		"other of a: b":                        "other of a: " + Record{Store: "a", Source: "a", Target: "b"}.Other(),
		"other of b: a":                        "other of b: " + Record{Store: "b", Source: "a", Target: "b"}.Other(),
		`2 keys could not be copied, "k" among them: gone`: (&FailedError{Count: 2, Failures: []Failure{{"k", errors.New("gone")}}}).Error(),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	h := Heartbeat{Sees: []Sight{{Store: "a", Version: 1}, {Store: "b", Version: 2}}}
	for _, want := range h.Sees {
		if s, knows := h.Sight(want.Store); s != want || !knows {
			t.Errorf("of %s: %+v, %v", want.Store, s, knows)
		}
	}
	if s, knows := h.Sight("c"); s != (Sight{}) || knows {
		t.Errorf("of no store: %+v, %v", s, knows)
	}
}

// A record is final only while it is sealed, and no record is written that could not be
// read.
func TestFinalRecords(t *testing.T) {
	s := newStore(t, "a")
	r := record(Sealed)
	r.Final = true
	written, version, err := s.SwapRecord(t.Context(), 0, r)
	if now, at, readErr := s.ReadRecord(t.Context()); err != nil || readErr != nil || now != written || at != version || !now.Final {
		t.Errorf("wrote %+v, %v; found %+v, %v", written, err, now, readErr)
	}
	r.State = Standby
	_, none, err := s.SwapRecord(t.Context(), version, r)
	wantErr(t, err, ErrBadRecord)
	if none != 0 || !strings.Contains(err.Error(), `"a"`) || !strings.Contains(err.Error(), "final, but in state") {
		t.Errorf("at %d: %v", none, err)
	}
	if _, at, err := s.ReadRecord(t.Context()); at != version || err != nil {
		t.Errorf("it is at %d, %v", at, err)
	}
}

// Whoever can't tell whether its record was written finds out only by its own run.
func TestSwapRecordThatAnotherOvertook(t *testing.T) {
	s := newStore(t, "a")
	s.hooks.onSwap = func(_ driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
		if _, err := do(); err != nil {
			t.Error(err)
		}
		s.setRecordAs(t, s.other, Filling)
		return driver.Result{}, driver.Permanent(errLost)
	}
	r, version, err := s.SwapRecord(t.Context(), 0, record(Primary))
	if err == nil || version != 0 || r != (Record{}) {
		t.Errorf("%+v at %d, %v", r, version, err)
	}
	if err := s.client.Close(); err != nil {
		t.Fatal(err)
	}
	for what, call := range map[string]func() (Record, kv.Version, error){
		"write the record of": func() (Record, kv.Version, error) { return s.SwapRecord(t.Context(), 0, record(Primary)) },
		"read the record of":  func() (Record, kv.Version, error) { return s.ReadRecord(t.Context()) },
	} {
		r, version, err := call()
		if wantErr(t, err, kv.ErrClosed); r != (Record{}) || version != 0 || !strings.HasPrefix(err.Error(), what+` store "a": `) {
			t.Errorf("%+v at %d, %v", r, version, err)
		}
	}
}

func TestCreate(t *testing.T) {
	s := newStore(t, "a")
	version, err := s.Create(t.Context(), "k", []byte("v"))
	if err != nil || version == 0 {
		t.Fatal(version, err)
	}
	s.want(t, "k", "v")
	_, err = s.Create(t.Context(), "k", []byte("w"))
	wantErr(t, err, kv.ErrConflict)
	if _, _, err := s.Get(t.Context(), "k", []kv.Guard{{Key: "k", Version: version}}); err != nil {
		t.Errorf("under the version that it returned: %v", err)
	}
	bare, err := New("bare", plain{s.other}, stringCodec)
	if err != nil {
		t.Fatal(err)
	}
	_, err = bare.Create(t.Context(), "l", nil)
	wantErr(t, err, kv.ErrNotSupported)
}

// scripted is a client whose listing and reads are as a test says.
type scripted struct {
	kv.Forward
	list  []scriptedEntry
	reads map[string]scriptedEntry
}

type scriptedEntry struct {
	key   string
	value any
	err   error
}

func (s scripted) Raw() (kv.Client, error) { return s, nil }

func (s scripted) Entries(context.Context, string) iter.Seq2[kv.Entry, error] {
	return func(yield func(kv.Entry, error) bool) {
		for _, e := range s.list {
			if !yield(kv.Entry{Key: e.key, Value: e.value}, e.err) {
				return
			}
		}
	}
}

func (s scripted) GetVersion(_ context.Context, key string, _ ...kv.Guard) (any, kv.Version, error) {
	return s.reads[key].value, 1, s.reads[key].err
}

func (s scripted) GetGuarded(_ context.Context, key string, _ ...kv.Guard) (any, error) {
	return s.reads[key].value, s.reads[key].err
}

// What can't be read is a difference if it is about one key, and the end if not.
func TestCompareWhatCannotBeRead(t *testing.T) {
	broken, worse := errors.New("broken"), errors.New("worse")
	v := []byte("v")
	whole := func(keys ...string) (all []scriptedEntry) {
		for _, key := range keys {
			all = append(all, scriptedEntry{key, v, nil})
		}
		return all
	}
	var many []scriptedEntry // two batches, and a part of the third
	for i := range 600 {
		many = append(many, whole(fmt.Sprintf("k%03d", i))...)
	}
	many = slices.Clip(many)
	read := func(list ...scriptedEntry) map[string]scriptedEntry {
		all := map[string]scriptedEntry{}
		for _, e := range list {
			all[e.key] = e
		}
		return all
	}
	for name, test := range map[string]struct {
		a, b         []scriptedEntry
		readA, readB []scriptedEntry
		found        string
		err          error
		says         string // that is no known error
		keys, bytes  int
	}{
		"equal":               {a: whole("a", "b"), b: whole("a", "b"), keys: 2, bytes: 4},
		"by a listing only":   {a: []scriptedEntry{{"a", v, broken}, {"b", v, nil}}, b: whole("a", "b"), readA: whole("a"), readB: whole("a"), keys: 2, bytes: 3},
		"one in the first":    {a: []scriptedEntry{{"a", v, broken}, {"b", v, nil}}, b: whole("a", "b"), readA: []scriptedEntry{{"a", nil, broken}}, readB: whole("a"), found: "a unreadable broken; ", keys: 2, bytes: 3},
		"one in the second":   {a: whole("a", "b"), b: []scriptedEntry{{"a", v, nil}, {"b", v, worse}}, readA: whole("b"), readB: []scriptedEntry{{"b", nil, worse}}, found: "b unreadable worse; ", keys: 2, bytes: 4},
		"it is there no more": {a: whole("a", "b"), b: whole("b"), keys: 2, bytes: 4},
		"out of reach":        {a: []scriptedEntry{{"a", v, fmt.Errorf("%w: now", kv.ErrUnavailable)}}, b: whole("a"), err: kv.ErrUnavailable},
		"no key":              {a: append(whole("a"), scriptedEntry{"", nil, broken}), b: whole("a", "b"), err: broken, keys: 0, bytes: 0},
		"no key, the second":  {a: whole("a", "b"), b: append(whole("a"), scriptedEntry{"", nil, worse}), err: worse, keys: 0, bytes: 0},
		"at once, the second": {a: whole("a"), b: []scriptedEntry{{"", nil, worse}}, err: worse},
		"no bytes":            {a: []scriptedEntry{{"a", 7, nil}}, b: whole("a"), readA: []scriptedEntry{{"a", 7, nil}}, readB: whole("a"), found: `a unreadable a value of store "a": the raw view returned a int instead of bytes; `, keys: 1, bytes: 1},
		"twice the same":      {a: whole("a", "a"), b: whole("a"), says: `the key "a" came after "a"; keys must ascend`},
		"later":               {a: append(many, scriptedEntry{"", nil, broken}), b: many, err: broken, keys: 511, bytes: 511 * 5},
		"later, the second":   {a: many, b: append(many, scriptedEntry{"", nil, worse}), err: worse, keys: 511, bytes: 511 * 5},
		"reads that fail":     {a: whole("a"), readA: []scriptedEntry{{"a", nil, fmt.Errorf("%w: now", kv.ErrUnavailable)}}, err: kv.ErrUnavailable, keys: 1, bytes: 2},
	} {
		inner := newStore(t, "inner")
		side := func(name string, list, reads []scriptedEntry) *Side {
			s, err := New(name, scripted{kv.Forward{Client: inner.other}, list, read(reads...)}, nil)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		found := ""
		last := Totals{}
		totals, err := Compare(t.Context(), side("a", test.a, test.readA), side("b", test.b, test.readB), CompareOptions{
			Found: func(d Difference) error {
				if d.Reason == Unreadable && (d.From != nil || d.To != nil) {
					t.Errorf("%s: %+v", name, d)
				}
				found += fmt.Sprintf("%s %s %s; ", d.Key, d.Reason, d.Error)
				return nil
			},
			Progress: func(t Totals) { last = t },
		})
		if found != test.found || !errors.Is(err, test.err) && test.says == "" || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) || totals.Keys != test.keys || totals.Bytes != int64(test.bytes) || totals.Different != strings.Count(found, ";") || last != totals {
			t.Errorf("%s: found %s of %+v, told %+v at the end, %v", name, found, totals, last, err)
		}
	}
	inner := newStore(t, "inner")
	bad := func(name string, err error) *Side {
		s, newErr := New(name, scripted{kv.Forward{Client: inner.other}, []scriptedEntry{{"a", v, err}, {"z", v, nil}}, read(scriptedEntry{"a", nil, err})}, nil)
		if newErr != nil {
			t.Fatal(newErr)
		}
		return s
	}
	totals, err := Copy(t.Context(), bad("a", broken), bad("b", worse), CopyOptions{})
	var failed *FailedError
	if wantErr(t, err, broken); !errors.As(err, &failed) || totals.Failed != 1 || totals.Different != 1 || totals.Keys != 2 {
		t.Errorf("Copy: %+v, %v", totals, err)
	}
}

// A comparison takes its time for what differs only.
func TestHowLongComparisonsTake(t *testing.T) {
	for _, test := range []struct {
		attempts int
		want     time.Duration
	}{{0, 1270 * time.Millisecond}, {1, 0}, {2, 10 * time.Millisecond}, {3, 30 * time.Millisecond}} {
		synctest.Test(t, func(t *testing.T) {
			from, to := newStore(t, "a"), newStore(t, "b")
			for _, key := range []string{"equal", "other"} {
				from.put(t, key, "v")
				to.put(t, key, "v")
			}
			compare := func(want time.Duration, different int) {
				t.Helper()
				began := time.Now()
				totals, err := Compare(t.Context(), from.Side, to.Side, CompareOptions{Attempts: test.attempts})
				if took := time.Since(began); took != want || err != nil || totals.Different != different || totals.Moving != 0 {
					t.Errorf("%d attempts: %+v after %v, %v; want %v", test.attempts, totals, took, err, want)
				}
			}
			compare(0, 0)
			to.put(t, "other", "w")
			compare(test.want, 1)
			if test.want == 0 {
				return
			}
			time.AfterFunc(time.Millisecond, func() { to.put(t, "other", "v") }) // its mirror
			compare(10*time.Millisecond, 0)
			to.put(t, "other", "w")
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
			defer cancel()
			began := time.Now()
			_, err := Compare(ctx, from.Side, to.Side, CompareOptions{Attempts: test.attempts})
			if wantErr(t, err, context.DeadlineExceeded); time.Since(began) != 5*time.Millisecond {
				t.Errorf("it ended after %v", time.Since(began))
			}
		})
	}
}

// Large values make small batches.
func TestCompareReadsNotTooManyBytesAhead(t *testing.T) {
	from, to := newStore(t, "a"), newStore(t, "b")
	large := strings.Repeat("v", 500_000)
	for i := range 60 {
		from.put(t, fmt.Sprintf("k%02d", i), large)
	}
	_, err := Compare(t.Context(), from.Side, to.Side, CompareOptions{Found: func(Difference) error {
		if read := from.hooks.scans.Load() * int64(fast.ScanPage); read > 30 {
			t.Errorf("after the first key %d of 60 were read", read)
		}
		return errLost
	}, Attempts: atOnce})
	wantErr(t, err, errLost)
}

// A copy names each key that it wrote, and the first hundred that it could not.
func TestCopyNamesKeys(t *testing.T) {
	from, to := newStore(t, "a"), newStore(t, "b")
	to.put(t, "extra", "v")
	to.put(t, "same", "v")
	from.put(t, "same", "v")
	for i := range 130 {
		from.put(t, fmt.Sprintf("bad%03d", i), "v")
	}
	from.put(t, "good", "v")
	to.hooks.onSwap = func(s driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
		if strings.HasPrefix(s.Key, "bad") {
			return driver.Result{Outcome: driver.NotApplied}, driver.Permanent(fmt.Errorf("%w: it is", kv.ErrTooLarge))
		}
		return do()
	}
	for attempts, asked := range map[int]bool{0: false, 1: true} { // which is verified, too
		to.put(t, "extra", "v")
		to.put(t, "good", "")
		var wrote []string
		var last Totals
		totals, err := Copy(t.Context(), from.Side, to.Side, CopyOptions{
			DeleteExtra: true, Attempts: attempts, Verify: asked, Wrote: func(key string) { wrote = append(wrote, key) }, Progress: func(t Totals) { last = t },
		})
		slices.Sort(wrote)
		var failed *FailedError
		if !errors.As(err, &failed) || !errors.Is(err, kv.ErrTooLarge) || errors.Is(err, ErrDiffers) || failed.Count != 130 || len(failed.Failures) != 100 || !slices.Equal(wrote, []string{"extra", "good"}) || last != totals ||
			totals.Keys != 133 || totals.Different != 132 || totals.Failed != 130 || totals.Copied != 1 || totals.Deleted != 1 {
			t.Errorf("asked again: %v: %+v, told %+v; wrote %v; %v", asked, totals, last, wrote, err)
		}
	}
}

// A copy that is asked to look again leaves alone what is being mirrored.
func TestCopyLeavesWhatIsBeingMirrored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := newStore(t, "a"), newStore(t, "b")
		from.put(t, "k", "v")
		from.put(t, "missing", "v")
		time.AfterFunc(5*time.Millisecond, func() { to.put(t, "k", "v") })
		var wrote []string
		totals, err := Copy(t.Context(), from.Side, to.Side, CopyOptions{Attempts: Patient, Wrote: func(key string) { wrote = append(wrote, key) }})
		if err != nil || totals.Copied != 1 || totals.Different != 1 || !slices.Equal(wrote, []string{"missing"}) {
			t.Errorf("%+v, %v, wrote %v", totals, err, wrote)
		}
	})
}

// What a store's client lacks, or breaks, is said with the store's name.
func TestSidesOfOddClients(t *testing.T) {
	s := newStore(t, "inner")
	forward := kv.Forward{Client: s.other}
	boom := errors.New("boom")
	if _, err := New("a", failing{forward, boom}, nil); !errors.Is(err, boom) || !strings.Contains(err.Error(), `store "a": `) {
		t.Errorf("New: %v", err)
	}
	bare, err := New("bare", plain{s.other}, codec.JSON[int]{}) // which is not its codec
	if err != nil {
		t.Fatal(err)
	}
	if bare.Name() != "bare" || bare.Limits() != (kv.Limits{}) || bare.Ping(t.Context()) != nil {
		t.Errorf("%q: %+v, %v", bare.Name(), bare.Limits(), bare.Ping(t.Context()))
	}
	s.put(t, "k", "text")
	if _, exists, err := bare.Get(t.Context(), "k", nil); err == nil || exists || !strings.Contains(err.Error(), `a value of store "bare": `) {
		t.Errorf("Get: %v, %v", exists, err)
	}
	calls := 0
	err = bare.CAS(t.Context(), "l", nil, func([]byte, bool) ([]byte, kv.Action, error) { calls++; return []byte("what?"), kv.Put, nil })
	if err == nil || calls != 1 || !strings.Contains(err.Error(), `a value for store "bare": `) {
		t.Errorf("CAS: %v", err)
	}
	s.want(t, "l", nil)
	if value, exists, err := bare.Get(t.Context(), "absent", nil); value != nil || exists || err != nil {
		t.Errorf("an absent key: %q, %v, %v", value, exists, err)
	}

	none, err := New("none", unguarded{forward}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if value, exists, err := none.Get(t.Context(), "k", nil); string(value) != "text" || !exists || err != nil {
		t.Errorf("of a client without guards: %q, %v, %v", value, exists, err)
	}
	_, _, err = none.Get(t.Context(), "k", Guards(1))
	wantErr(t, err, kv.ErrNotSupported)

	_, _, err = none.Get(t.Context(), "k", Guards(1))
	wantErr(t, err, kv.ErrNotSupported)
	lacking, err := New("lacking", lacks{forward}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"read the record of": func() error { _, _, err := lacking.ReadRecord(t.Context()); return err }(),
		"":                   lacking.Delete(t.Context(), "k", Guards(1)),
	} {
		if wantErr(t, err, kv.ErrNotSupported); what != "" && !strings.HasPrefix(err.Error(), what+` store "lacking": `) {
			t.Errorf("without guards and versions: %v", err)
		}
	}
	numbers, err := New("numbers", scripted{forward, nil, map[string]scriptedEntry{RecordKey: {RecordKey, 7, nil}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if value, exists, err := numbers.Get(t.Context(), RecordKey, nil); value != nil || exists || err == nil {
		t.Errorf("a value that isn't bytes: %q, %v, %v", value, exists, err)
	}
	if _, version, err := numbers.ReadRecord(t.Context()); version != 0 || err == nil || !strings.Contains(err.Error(), "returned a int instead of bytes") {
		t.Errorf("a record that isn't bytes: %d, %v", version, err)
	}

	closed := newStore(t, "closed")
	if err := closed.client.Close(); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"WriteHeartbeat":  closed.WriteHeartbeat(t.Context(), Heartbeat{Instance: "i"}),
		"RemoveHeartbeat": closed.RemoveHeartbeat(t.Context(), "i"),
		"Count":           func() error { _, err := closed.Count(t.Context(), ""); return err }(),
		"Get":             func() error { _, _, err := closed.Get(t.Context(), "k", nil); return err }(),
		"getByCAS":        func() error { _, _, err := closed.getByCAS(t.Context(), "k"); return err }(),
	} {
		if !errors.Is(err, kv.ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if host, err := os.Hostname(); Hostname() != host || err != nil {
		t.Errorf("the host is %q, not %q, %v", Hostname(), host, err)
	}
	if err := closed.Ping(t.Context()); !errors.Is(err, kv.ErrClosed) || !strings.HasPrefix(err.Error(), `reach store "closed": `) {
		t.Errorf("Ping: %v", err)
	}
	if has, err := closed.HasGuards(t.Context()); has || !errors.Is(err, kv.ErrClosed) {
		t.Errorf("HasGuards: %v, %v", has, err)
	}
	if _, err := closed.Heartbeats(t.Context()); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("Heartbeats: %v", err)
	}
	for name, test := range map[string]struct {
		err  error
		want error
	}{"no versions": {kv.ErrNotSupported, nil}, "out of reach": {kv.ErrUnavailable, kv.ErrUnavailable}, "versions": {nil, nil}} {
		odd, err := New("odd", unversioned{forward, test.err}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if has, err := odd.HasGuards(t.Context()); has != (test.err == nil) || !errors.Is(err, test.want) {
			t.Errorf("%s: HasGuards: %v, %v", name, has, err)
		}
	}
}

// lacks is a client without guards and versions, says its store.
type lacks struct{ kv.Forward }

func (l lacks) Raw() (kv.Client, error) { return l, nil }

func (l lacks) Supports(kv.Capability) error { return kv.ErrNotSupported }

// failing is a client whose raw view fails.
type failing struct {
	kv.Forward
	err error
}

func (f failing) Raw() (kv.Client, error) { return nil, f.err }

// unversioned is a client that has no versions, or can't be asked for them.
type unversioned struct {
	kv.Forward
	err error
}

func (u unversioned) Raw() (kv.Client, error) {
	raw, err := u.Forward.Raw()
	return unversioned{kv.Forward{Client: raw}, u.err}, err
}

func (u unversioned) GetVersion(ctx context.Context, key string, guards ...kv.Guard) (any, kv.Version, error) {
	if u.err != nil {
		return nil, 0, u.err
	}
	return u.Forward.GetVersion(ctx, key, guards...)
}

// Heartbeats come in the order of their start, and one of another release by its
// name only.
func TestHeartbeatsInOrder(t *testing.T) {
	s := newStore(t, "a")
	for i, name := range []string{"c", "a", "b"} {
		if err := s.WriteHeartbeat(t.Context(), Heartbeat{Instance: name, Started: time.Unix(int64(10-i), 0)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.CAS(t.Context(), ClientsPrefix+"alias", nil, func([]byte, bool) ([]byte, kv.Action, error) {
		return []byte(`{"instance":"other","pid":9}`), kv.Put, nil
	}); err != nil {
		t.Fatal(err)
	}
	all, err := s.Heartbeats(t.Context())
	names := ""
	for _, h := range all {
		names += h.Instance + " "
	}
	if err != nil || names != "alias b a c " || all[0].PID != 0 {
		t.Errorf("%s: %+v, %v", names, all, err)
	}
}

// What is asked again is asked in batches, patiently in the first one: where very many
// keys differ, it is for no mirror's delay. Progress is called every 100 keys.
func TestComparisonsInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := newStore(t, "a"), newStore(t, "b")
		for i := range 257 {
			from.put(t, fmt.Sprintf("k%03d", i), "v")
		}
		var told []int
		began := time.Now()
		totals, err := Compare(t.Context(), from.Side, to.Side, CompareOptions{
			Found: func(Difference) error { return nil }, Progress: func(t Totals) { told = append(told, t.Keys) },
		})
		if took := time.Since(began); err != nil || totals.Different != 257 || took != 1300*time.Millisecond || !slices.Equal(told, []int{100, 200, 257}) {
			t.Errorf("%+v, %v after %v, told of %v", totals, err, took, told)
		}
	})
}

// A key is moving if both of its values have changed since it was read first.
func TestWhatIsMoving(t *testing.T) {
	for _, test := range []struct {
		from, to string // what they become
		want     Totals
		took     time.Duration
	}{
		{"3", "4", Totals{Moving: 1}, 10 * time.Millisecond},
		{"1", "4", Totals{Different: 1}, 10 * time.Millisecond},
		{"3", "2", Totals{Different: 1}, 10 * time.Millisecond},
		{"", "4", Totals{Moving: 1}, 10 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			from, to := newStore(t, "a"), newStore(t, "b")
			from.put(t, "k", "1")
			to.put(t, "k", "2")
			time.AfterFunc(5*time.Millisecond, func() {
				from.put(t, "k", test.from)
				to.put(t, "k", test.to)
			})
			test.want.Keys, test.want.Bytes = 1, 2
			began := time.Now()
			if totals, err := Compare(t.Context(), from.Side, to.Side, CompareOptions{Attempts: 2}); totals != test.want || err != nil || time.Since(began) != test.took {
				t.Errorf("become %q and %q: %+v, %v after %v", test.from, test.to, totals, err, time.Since(began))
			}
		})
	}
}

// A comparison that ends early reads no further, and leaves nothing behind.
func TestAComparisonThatEndsReadsNoFurther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := newStore(t, "a"), newStore(t, "b")
		for i := range 5000 {
			from.put(t, fmt.Sprintf("k%04d", i), "v")
		}
		_, err := Compare(context.Background(), from.Side, to.Side, CompareOptions{Found: func(Difference) error { return errLost }, Attempts: atOnce})
		wantErr(t, err, errLost)
		if n := from.hooks.scans.Load(); n > 150 {
			t.Errorf("%d of 500 pages were read", n)
		}
	})
}

// So many keys are copied at a time, each for two reads and a write.
func TestHowManyKeysAreCopiedAtOnce(t *testing.T) {
	for workers, want := range map[int]time.Duration{0: 10, 1: 60, 2: 30, 3: 20, -1: 10} {
		synctest.Test(t, func(t *testing.T) {
			from, to := newStore(t, "a"), newStore(t, "b")
			for i := range 6 {
				from.put(t, fmt.Sprint(i), "v")
			}
			to.hooks.onSwap = func(_ driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
				time.Sleep(10 * time.Millisecond)
				return do()
			}
			reads := from.hooks.gets.Load()
			began := time.Now()
			totals, err := Copy(t.Context(), from.Side, to.Side, CopyOptions{Workers: workers})
			if took := time.Since(began); took != want*time.Millisecond || err != nil || totals.Copied != 6 {
				t.Errorf("%d workers: %+v, %v after %v", workers, totals, err, took)
			}
			if reads = from.hooks.gets.Load() - reads; reads != 12 {
				t.Errorf("%d reads of 6 keys", reads)
			}
		})
	}
}

// What holds for every key ends a copy.
func TestCopyEndsWithWhatHoldsForAllKeys(t *testing.T) {
	from, to := newStore(t, "a"), newStore(t, "b")
	for i := range 50 {
		from.put(t, fmt.Sprint(i), "v")
	}
	to.hooks.onSwap = func(driver.Swap, func() (driver.Result, error)) (driver.Result, error) {
		return driver.Result{Outcome: driver.NotApplied}, driver.Permanent(fmt.Errorf("%w: not yours", kv.ErrPermission))
	}
	totals, err := Copy(t.Context(), from.Side, to.Side, CopyOptions{Workers: 1})
	var failed *FailedError
	if wantErr(t, err, kv.ErrPermission); errors.As(err, &failed) || totals.Failed != 0 || totals.Copied != 0 || to.hooks.swaps.Load() != 1 {
		t.Errorf("%+v, %v after %d swaps", totals, err, to.hooks.swaps.Load())
	}
}

// A change spares reads where it fits, and does no harm where it doesn't.
func TestCopyOfAChange(t *testing.T) {
	a, b, empty := []byte("A"), []byte("B"), []byte{}
	for name, test := range map[string]struct {
		from, to []byte // nil: absent
		change   *Change
		reads    int64
		wrote    bool
	}{
		"none":                      {b, a, nil, 2, true},
		"it replaced what is there": {b, a, &Change{a, b}, 1, true},
		"it is there":               {b, b, &Change{a, b}, 0, false},
		"something else is there":   {b, []byte("C"), &Change{a, b}, 2, true},
		"a creation":                {b, nil, &Change{nil, b}, 1, true},
		"a deletion":                {nil, a, &Change{a, nil}, 1, true},
		"it is gone":                {nil, nil, &Change{a, nil}, 0, false},
		"empty is not absent":       {b, empty, &Change{nil, b}, 2, true},
		"absent is not empty":       {b, nil, &Change{empty, b}, 2, true},
		"it is overtaken":           {[]byte("C"), a, &Change{a, b}, 3, true}, // looks, and does it again
	} {
		from, to := newStore(t, "a"), newStore(t, "b")
		set := func(s *store, value []byte) {
			if err := s.CAS(t.Context(), "k", nil, func([]byte, bool) ([]byte, kv.Action, error) {
				if value == nil {
					return nil, kv.Remove, nil
				}
				return value, kv.Put, nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		set(from, test.from)
		set(to, test.to)
		reads := from.hooks.gets.Load()
		wrote, err := Task{From: from.Side, To: to.Side}.CopyChange(t.Context(), "k", test.change)
		if reads = from.hooks.gets.Load() - reads; wrote != test.wrote || err != nil || reads != test.reads {
			t.Errorf("%s: wrote: %v, %v after %d reads", name, wrote, err, reads)
		}
		value, exists, err := to.Get(t.Context(), "k", nil)
		if string(value) != string(test.from) || exists != (test.from != nil) || err != nil {
			t.Errorf("%s: it holds %q, %v, %v", name, value, exists, err)
		}
	}
}

// A change counts for the first look only, and what was decided before a conflict
// counts no more.
func TestChangesAndConflicts(t *testing.T) {
	for name, test := range map[string]struct {
		from   string
		change *Change
		theirs string // what another client writes
		want   string
		wrote  bool
	}{
		"overtaken":  {"C", &Change{[]byte("A"), []byte("B")}, "B", "C", true},
		"done by it": {"C", nil, "C", "C", false},
	} {
		from, to := newStore(t, "a"), newStore(t, "b")
		from.put(t, "k", test.from)
		to.put(t, "k", "A")
		conflict := once(func() { to.put(t, "k", test.theirs) })
		to.hooks.onSwap = func(_ driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
			conflict()
			return do()
		}
		if wrote, err := (Task{From: from.Side, To: to.Side}).CopyChange(t.Context(), "k", test.change); wrote != test.wrote || err != nil {
			t.Errorf("%s: wrote: %v, %v", name, wrote, err)
		}
		to.want(t, "k", test.want)
	}
}

// A task that can't read leaves the other store as it is, or says that it wrote.
func TestTasksThatFailToRead(t *testing.T) {
	for nth, want := range map[int64]struct {
		holds string
		wrote bool
	}{1: {"B", false}, 2: {"A", true}, 3: {"A", true}} { // the third is of a second round, since the key has changed
		from, to := newStore(t, "a"), newStore(t, "b")
		from.put(t, "k", "A")
		to.put(t, "k", "B")
		reads := int64(0)
		from.hooks.failed = func(driver.GetRequest) error {
			if reads++; reads == 2 {
				from.put(t, "k", "C")
			}
			if reads == nth {
				return driver.Permanent(fmt.Errorf("%w: once", kv.ErrPermission))
			}
			return nil
		}
		wrote, err := copyKey(t.Context(), from.Side, to.Side, "k", nil)
		if wantErr(t, err, kv.ErrPermission); wrote != want.wrote {
			t.Errorf("after read %d failed: wrote: %v", nth, wrote)
		}
		to.want(t, "k", want.holds)
	}
}

// The end of ctx ends the pause after a write of unknown outcome.
func TestTaskEndsInItsPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := newStore(t, "a"), newStore(t, "b")
		from.put(t, "k", "A")
		to.hooks.onSwap = func(driver.Swap, func() (driver.Result, error)) (driver.Result, error) {
			return driver.Result{}, driver.Permanent(errLost)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		began := time.Now()
		wrote, err := copyKey(ctx, from.Side, to.Side, "k", nil)
		if wantErr(t, err, context.DeadlineExceeded); wrote || time.Since(began) != time.Millisecond {
			t.Errorf("wrote: %v after %v", wrote, time.Since(began))
		}
	})
}

// An error of a callback ends the call, which is not made again.
func TestCallbacksThatFail(t *testing.T) {
	s, boom := newStore(t, "a"), errors.New("boom")
	calls := 0
	err := s.CAS(t.Context(), "k", nil, func([]byte, bool) ([]byte, kv.Action, error) { calls++; return nil, kv.Put, boom })
	if wantErr(t, err, boom); calls != 1 {
		t.Errorf("%d calls", calls)
	}
	guard := Guards(s.setRecord(t, Standby))
	s.setRecord(t, Standby)
	if value, exists, err := s.Get(t.Context(), "k", guard); value != nil || exists || !errors.Is(err, kv.ErrFenced) {
		t.Errorf("a guard that is broken: %q, %v, %v", value, exists, err)
	}
	bare, err := New("bare", plain{s.other}, stringCodec)
	if err != nil {
		t.Fatal(err)
	}
	if value, exists, err := bare.Get(t.Context(), "k", guard); value != nil || exists || !errors.Is(err, kv.ErrNotSupported) {
		t.Errorf("without guards: %q, %v, %v", value, exists, err)
	}
}

// A comparison whose ctx ends while its readers wait for it is not complete.
func TestAComparisonWhoseCtxEnds(t *testing.T) {
	for _, keys := range []int{1000, 5000} { // the readers wait with the last batch, or with one of many
		synctest.Test(t, func(t *testing.T) {
			from, to := newStore(t, "a"), newStore(t, "b")
			for i := range keys {
				from.put(t, fmt.Sprintf("k%04d", i), "v")
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			_, err := Compare(ctx, from.Side, to.Side, CompareOptions{Attempts: atOnce, Found: func(d Difference) error {
				if d.Key == "k0000" {
					synctest.Wait() // until they do
					cancel()
					synctest.Wait()
				}
				return nil
			}})
			wantErr(t, err, context.Canceled)
		})
	}
}
