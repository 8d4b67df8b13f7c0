package inmemory

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/polykv/polykv/kv/driver"
)

// model is a store as simple as it can be said.
type model map[string]driver.Entry

func (m model) hold(guards []driver.Guard) bool {
	return !slices.ContainsFunc(guards, func(g driver.Guard) bool { return g.Version == 0 || m[g.Key].Version != g.Version })
}

func (m model) list(prefix string) []driver.Entry {
	var es []driver.Entry
	for k, e := range m {
		if strings.HasPrefix(k, prefix) {
			es = append(es, e)
		}
	}
	slices.SortFunc(es, func(a, b driver.Entry) int { return strings.Compare(a.Key, b.Key) })
	return es
}

// modelTest runs the same calls on a store and on a model of it.
type modelTest struct {
	store    driver.Store
	model    model
	versions map[driver.Version]bool // all that were ever used
	frozen   []frozenScan
}

// frozenScan is a scan that has begun, and what it must still show.
type frozenScan struct {
	prefix, after string
	snapshot      any
	rest          []driver.Entry
}

// key draws keys that are often prefixes of each other.
func key(t *rapid.T, label string) string {
	return rapid.StringMatching(`[ab\x{0}\x{ff}é]{1,4}`).Draw(t, label)
}

func (m *modelTest) drawGuards(t *rapid.T) []driver.Guard {
	if !rapid.Bool().Draw(t, "guarded") {
		return nil
	}
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) driver.Guard {
		k := key(t, "guard")
		v := m.model[k].Version
		if rapid.IntRange(0, 3).Draw(t, "guard is stale") == 0 {
			v++
		}
		return driver.Guard{Key: k, Version: v}
	}), 1, 3).Draw(t, "guards")
}

func (m *modelTest) get(t *rapid.T) {
	k, g := key(t, "key"), m.drawGuards(t)
	e, err := m.store.Get(context.Background(), driver.GetRequest{Key: k, Guards: g})
	if !m.model.hold(g) {
		if !errors.Is(err, driver.ErrFenced) {
			t.Fatalf("Get with a broken guard: %v", err)
		}
		return
	}
	want := m.model[k]
	want.Key = k
	if err != nil || !same(e, want) {
		t.Fatalf("Get(%q) = %v, %v; want %v", k, e, err, want)
	}
}

func (m *modelTest) swap(t *rapid.T) {
	k, g := key(t, "key"), m.drawGuards(t)
	s := driver.Swap{Key: k, Guards: g, Prev: m.model[k], ID: 1}
	if rapid.IntRange(0, 3).Draw(t, "prev is stale") == 0 {
		s.Prev.Version++
	}
	if s.Prev.Version != 0 && rapid.Bool().Draw(t, "remove") {
		s.Remove = true
	} else {
		s.Value = rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "value")
	}
	cur, exists := m.model[k]
	want := driver.Applied
	switch {
	case !m.model.hold(g):
		want = driver.GuardBroken
	case cur.Version != s.Prev.Version:
		want = driver.Conflict
	}
	r, err := m.store.Swap(context.Background(), s)
	if err != nil || r.Outcome != want {
		t.Fatalf("Swap(%+v) of %v = %v, %v; want %v", s, cur, r, err, want)
	}
	switch {
	case want == driver.Conflict:
		cur.Key = k
		if r.Known && !same(r.Entry, cur) {
			t.Fatalf("conflict shows %v, want %v (exists: %v)", r.Entry, cur, exists)
		}
	case want == driver.Applied && s.Remove:
		delete(m.model, k)
	case want == driver.Applied:
		if v := r.Entry.Version; v == 0 || m.versions[v] {
			t.Fatalf("version %d is not fresh", v)
		}
		m.versions[r.Entry.Version] = true
		m.model[k] = driver.Entry{Key: k, Value: s.Value, Version: r.Entry.Version}
	}
}

func (m *modelTest) startScan(t *rapid.T) {
	prefix := rapid.StringMatching(`[ab\x{0}\x{ff}é]{0,2}`).Draw(t, "prefix")
	after := rapid.StringMatching(`[ab\x{0}\x{ff}é]{0,4}`).Draw(t, "after")
	want := m.model.list(prefix)
	want = slices.DeleteFunc(want, func(e driver.Entry) bool { return after != "" && e.Key <= after })
	m.frozen = append(m.frozen, frozenScan{prefix: prefix, after: after, rest: want})
	m.nextPage(t, len(m.frozen)-1)
}

func (m *modelTest) continueScan(t *rapid.T) {
	if len(m.frozen) == 0 {
		t.Skip("no scan has begun")
	}
	m.nextPage(t, rapid.IntRange(0, len(m.frozen)-1).Draw(t, "scan"))
}

func (m *modelTest) nextPage(t *rapid.T, i int) {
	f := &m.frozen[i]
	req := driver.ScanRequest{Prefix: f.prefix, After: f.after, Snapshot: f.snapshot}
	req.Limit = rapid.IntRange(0, 4).Draw(t, "limit")
	req.KeysOnly = rapid.Bool().Draw(t, "keys only")
	p, err := m.store.Scan(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	want := f.rest
	if req.Limit > 0 {
		want = want[:min(req.Limit, len(want))]
	}
	match := slices.EqualFunc(p.Entries, want, func(a, b driver.Entry) bool {
		if req.KeysOnly {
			b.Value = nil
		}
		return same(a, b)
	})
	if !match || p.More != (len(want) < len(f.rest)) {
		t.Fatalf("Scan(%+v) = %v, more %v; want %v of %v", req, p.Entries, p.More, want, f.rest)
	}
	if !p.More {
		m.frozen = slices.Delete(m.frozen, i, i+1)
		return
	}
	f.rest = f.rest[len(want):]
	f.after = want[len(want)-1].Key
	f.snapshot = p.Snapshot
}

// same compares all but the difference between a nil and an empty value of an
// entry that exists.
func same(a, b driver.Entry) bool {
	return a.Key == b.Key && a.Version == b.Version && string(a.Value) == string(b.Value)
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &modelTest{store: NewStore().Open(), model: model{}, versions: map[driver.Version]bool{}}
		t.Repeat(map[string]func(*rapid.T){
			"get":      m.get,
			"swap":     m.swap,
			"swap2":    m.swap,
			"scan":     m.startScan,
			"nextPage": m.continueScan,
		})
	})
}
