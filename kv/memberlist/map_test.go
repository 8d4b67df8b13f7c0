package memberlist_test

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv/memberlist"
	"github.com/polykv/polykv/kv/memberlist/mergetest"
)

type counts = memberlist.Map[string, int]

var countsCodec = memberlist.MapCodec[string, int]{ID: "counts"}

func sampleKey(t *rapid.T) string {
	return rapid.SampledFrom([]string{"", "a", "ab", "b"}).Draw(t, "key")
}

// randomMap draws a Map that saw some writes of other times and nodes. A
// version stands for one write: its instance is made of what is written.
func randomMap(t *rapid.T) memberlist.Mergeable {
	m := memberlist.NewMap[string, int]()
	for range rapid.IntRange(0, 5).Draw(t, "writes") {
		edited, writes := drawEdit(t, m.Clone())
		if _, err := m.Merge(edited, true); err != nil {
			t.Fatal(err)
		}
		h := fnv.New64a()
		fmt.Fprint(h, writes)
		m.Stamp(memberlist.Version{Wall: rapid.Uint64Range(1, 3).Draw(t, "wall"), Instance: h.Sum64()})
	}
	return m
}

func edit(t *rapid.T, v memberlist.Mergeable) memberlist.Mergeable {
	m, _ := drawEdit(t, v)
	return m
}

// drawEdit changes v, and returns what it wrote too.
func drawEdit(t *rapid.T, v memberlist.Mergeable) (_ memberlist.Mergeable, writes map[string]int) {
	writes = map[string]int{}
	m, ok := v.(*counts)
	if !ok {
		t.Fatalf("a %T", v)
	}
	for range rapid.IntRange(1, 3).Draw(t, "edits") {
		key := sampleKey(t)
		if rapid.Bool().Draw(t, "delete") {
			writes[key] = -1
			m.Delete(key)
		} else {
			writes[key] = rapid.IntRange(0, 3).Draw(t, "value")
			m.Set(key, writes[key])
		}
	}
	return m, writes
}

func TestMapLaws(t *testing.T) {
	mergetest.Run(t, mergetest.Kind{Codec: countsCodec, Values: rapid.Custom(randomMap), Edit: edit})
}

// A Map is a map: it does what Go's map does, and is sorted.
func TestMapIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, model := memberlist.NewMap[string, int](), map[string]int{}
		if rapid.Bool().Draw(t, "zero") {
			m = new(counts)
		}
		for range rapid.IntRange(0, 20).Draw(t, "steps") {
			key := sampleKey(t)
			if rapid.IntRange(0, 2).Draw(t, "step") == 0 {
				m.Delete(key)
				delete(model, key)
			} else {
				m.Set(key, len(model))
				model[key] = len(model)
			}
			if rapid.Bool().Draw(t, "clone") {
				old := m
				m, _ = m.Clone().(*counts)
				old.Set("spoiled", 1)
				old.Delete(key)
			}
		}
		if got := maps.Collect(m.All()); !maps.Equal(got, model) || m.Len() != len(model) {
			t.Fatalf("the map is %v, of %d entries; want %v", got, m.Len(), model)
		}
		var keys []string
		for key, value := range m.All() {
			keys = append(keys, key)
			if got, ok := m.Get(key); !ok || got != value {
				t.Fatalf("Get of %q is %d, %v; All says %d", key, got, ok, value)
			}
		}
		if !slices.IsSorted(keys) {
			t.Fatalf("the keys come as %q", keys)
		}
		if _, ok := m.Get("none"); ok {
			t.Fatal("Get finds what isn't there")
		}
		text, err := json.Marshal(m)
		want, _ := json.Marshal(model)
		if err != nil || string(text) != string(want) {
			t.Fatalf("as JSON it is %s, %v; want %s", text, err, want)
		}
	})
}

// What a CAS wrote has the time of that CAS, and nothing that it left alone.
func TestMapUpdated(t *testing.T) {
	m := memberlist.NewMap[string, int]()
	m.Set("a", 1)
	m.Set("b", 1)
	if _, ok := m.Updated("a"); ok {
		t.Error("an entry that was never stored has a time")
	}
	write := func(wall uint64, f func(*counts)) {
		t.Helper()
		out, _ := m.Clone().(*counts)
		f(out)
		if _, err := m.Merge(out, true); err != nil {
			t.Fatal(err)
		}
		m.Stamp(memberlist.Version{Wall: wall, Instance: 1})
	}
	write(1000, func(*counts) {})
	write(2000, func(out *counts) { out.Set("b", 2) })
	write(3000, func(out *counts) { out.Set("c", 3); out.Delete("c"); out.Delete("none") })
	for key, want := range map[string]time.Time{"a": time.UnixMilli(1000), "b": time.UnixMilli(2000)} {
		if got, ok := m.Updated(key); !ok || !got.Equal(want) {
			t.Errorf("%q was updated at %v, %v; want %v", key, got, ok, want)
		}
	}
	if _, ok := m.Updated("c"); ok {
		t.Error("an entry that isn't there has a time")
	}
	if total, _ := m.RemoveTombstones(time.UnixMilli(0)); total != 0 {
		t.Errorf("there are %d tombstones of entries that never existed", total)
	}
}

// A CAS may return a map of its own making: what it lacks was removed.
func TestMapFromScratch(t *testing.T) {
	m := memberlist.NewMap[string, int]()
	for i := range 5 {
		m.Set(fmt.Sprint(i), i)
	}
	m.Stamp(memberlist.Version{Wall: 1, Instance: 1})
	old := m.Clone()
	scratch := memberlist.NewMap[string, int]()
	scratch.Set("1", 10)
	scratch.Set("new", 11)
	change, err := m.Merge(scratch, true)
	if err != nil {
		t.Fatal(err)
	}
	m.Stamp(memberlist.Version{Wall: 2, Instance: 1})
	if s, ok := change.(memberlist.Stamped); ok {
		s.Stamp(memberlist.Version{Wall: 2, Instance: 1})
	}
	for name, v := range map[string]memberlist.Mergeable{"the map": m, "a replica": old} {
		if name == "a replica" {
			if _, err := v.Merge(change, false); err != nil {
				t.Fatal(err)
			}
		}
		if got, ok := v.(*counts); !ok || !maps.Equal(maps.Collect(got.All()), map[string]int{"1": 10, "new": 11}) {
			t.Errorf("%s holds %v", name, maps.Collect(got.All()))
		}
	}
	if total, _ := m.RemoveTombstones(time.UnixMilli(0)); total != 4 {
		t.Errorf("there are %d tombstones, want 4", total)
	}
}

// stored is a Map as a store has it, with entries written at a time.
func stored(wall uint64, entries map[string]int) *counts {
	m := memberlist.NewMap[string, int]()
	for key, value := range entries {
		m.Set(key, value)
	}
	m.Stamp(memberlist.Version{Wall: wall, Instance: 1})
	return m
}

// write carries out a CAS that leaves out.
func write(t *testing.T, m *counts, wall uint64, out memberlist.Mergeable) (changed bool) {
	t.Helper()
	change, err := m.Merge(out, true)
	if err != nil {
		t.Fatal(err)
	}
	m.Stamp(memberlist.Version{Wall: wall, Instance: 1})
	return change != nil
}

func wantEntries(t *testing.T, m *counts, want map[string]int) {
	t.Helper()
	if got := maps.Collect(m.All()); !maps.Equal(got, want) {
		t.Errorf("the map holds %v, want %v", got, want)
	}
}

// A callback may return a map that it kept from another time: it stands for
// itself, whatever was changed in it since it was cloned.
func TestMapReturnsKeptMap(t *testing.T) {
	m := stored(1, map[string]int{"a": 1, "b": 1})
	kept, _ := m.Clone().(*counts)
	kept.Set("a", 2)
	write(t, m, 2, stored(2, map[string]int{"a": 1, "b": 1, "c": 1}))
	write(t, m, 3, kept)
	wantEntries(t, m, map[string]int{"a": 2, "b": 1})

	// What it is written to in the end doesn't show in it.
	other := stored(1, nil)
	write(t, other, 4, kept)
	if when, ok := m.Updated("a"); !ok || when.UnixMilli() != 3 {
		t.Errorf("in the first map it was updated at %v", when)
	}
	if when, ok := other.Updated("a"); !ok || when.UnixMilli() != 4 {
		t.Errorf("in the second map it was updated at %v", when)
	}
}

// Writing back what is there, or what is gone, is no change.
func TestMapWritesBackUnchanged(t *testing.T) {
	m := stored(1, map[string]int{"a": 1, "b": 1})
	without := stored(2, map[string]int{"a": 1})
	if !write(t, m, 2, without) {
		t.Fatal("a removal is no change")
	}
	encoded, err := countsCodec.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	same, err := countsCodec.Decode(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if copied, ok := same.(*counts); !ok || write(t, m, 3, copied) {
		t.Error("the same entries are a change")
	}
	again := memberlist.NewMap[string, int]()
	if write(t, m, 3, again); write(t, m, 4, again) {
		t.Error("the removal of what is gone is a change")
	}
}

// A callback may merge another replica into what it returns. That counts, with
// the versions it has.
func TestMapMergedInCallback(t *testing.T) {
	encoded, err := countsCodec.Encode(stored(1, map[string]int{"a": 1}))
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := countsCodec.Decode(encoded)
	if err != nil {
		t.Fatal(err)
	}
	m, _ := decoded.(*counts)
	out, _ := m.Clone().(*counts)
	out.Set("b", 1)
	if _, err := out.Merge(stored(5, map[string]int{"c": 1}), false); err != nil {
		t.Fatal(err)
	}
	out.Set("d", 1)
	write(t, m, 7, out)
	wantEntries(t, m, map[string]int{"a": 1, "b": 1, "c": 1, "d": 1})
	for key, want := range map[string]int64{"a": 1, "b": 7, "c": 5, "d": 7} {
		if when, _ := m.Updated(key); when.UnixMilli() != want {
			t.Errorf("%q was updated at %v, want %d", key, when.UnixMilli(), want)
		}
	}
	// An older state that is set again is new.
	write(t, m, 8, stored(4, map[string]int{"c": 9}))
	if when, _ := m.Updated("c"); when.UnixMilli() != 8 {
		t.Errorf("it was updated at %v", when.UnixMilli())
	}
	wantEntries(t, m, map[string]int{"c": 9})
}

// A decoded Map keeps nothing of the bytes that it was decoded from.
func TestMapKeepsNoBytes(t *testing.T) {
	want, err := countsCodec.Encode(stored(1, map[string]int{"a": 1, "b": 22}))
	if err != nil {
		t.Fatal(err)
	}
	data := slices.Clone(want)
	m, err := countsCodec.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	clear(data)
	if got, err := countsCodec.Encode(m); err != nil || !slices.Equal(got, want) {
		t.Errorf("it is encoded as %x, %v; want %x", got, err, want)
	}
}

func TestMapRefusesOthers(t *testing.T) {
	m := memberlist.NewMap[string, int]()
	if _, err := m.Merge(memberlist.NewMap[string, string](), false); err == nil {
		t.Error("a map of other values was merged")
	}
	if _, err := m.Merge((*counts)(nil), true); err == nil {
		t.Error("a nil map was merged")
	}
}

func TestMapCodecRefuses(t *testing.T) {
	good, err := countsCodec.Encode(func() *counts {
		m := memberlist.NewMap[string, int]()
		m.Set("a", 1)
		m.Set("b", 2)
		return m
	}())
	if err != nil {
		t.Fatal(err)
	}
	swapped := slices.Clone(good)
	swapped[3], swapped[3+1+16+1+2+1] = 'b', 'a'
	for name, data := range map[string][]byte{
		"nothing":            {},
		"another format":     append([]byte{2}, good[1:]...),
		"a part":             good[:len(good)-1],
		"more":               append(slices.Clone(good), 0),
		"too many entries":   append([]byte{1, 3}, good[2:]...),
		"far too many":       {1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"keys out of order":  swapped,
		"a value that isn't": append(slices.Clone(good[:len(good)-1]), '?'),
		"a key that isn't":   append([]byte{1, 1, 1, 0xff}, good[4:]...),
	} {
		if v, err := countsCodec.Decode(data); err == nil {
			t.Errorf("%s: decoded to %v", name, v)
		}
	}
	for name, v := range map[string]any{"another type": 1, "nil": nil, "a nil map": (*counts)(nil)} {
		if _, err := countsCodec.Encode(v); err == nil || !strings.Contains(err.Error(), "counts") {
			t.Errorf("%s was encoded: %v", name, err)
		}
	}
	unencodable := memberlist.NewMap[string, func()]()
	unencodable.Set("a", func() {})
	if _, err := (memberlist.MapCodec[string, func()]{}).Encode(unencodable); err == nil {
		t.Error("a value that its codec refuses was encoded")
	}
	wrong := memberlist.MapCodec[string, int]{Value: codec.String{}}
	if _, err := wrong.Decode(good); err == nil {
		t.Error("a value of another type was decoded")
	}
}

func TestMapCodecID(t *testing.T) {
	for want, c := range map[string]codec.Codec{
		"map/json/int": memberlist.MapCodec[string, int]{},
		"map/string":   memberlist.MapCodec[string, string]{Value: codec.String{}},
		"own":          memberlist.MapCodec[string, int]{ID: "own"},
	} {
		if got := c.CodecID(); got != want {
			t.Errorf("the id is %q, want %q", got, want)
		}
	}
}

func FuzzMapCodec(f *testing.F) {
	for i := range 5 {
		m, _ := rapid.Custom(randomMap).Example(i).(*counts)
		encoded, err := countsCodec.Encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(encoded)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := countsCodec.Decode(data)
		if err != nil {
			return
		}
		again, err := countsCodec.Encode(v)
		if err != nil {
			t.Fatalf("what was decoded can't be encoded: %v", err)
		}
		w, err := countsCodec.Decode(again)
		if err != nil {
			t.Fatalf("what was encoded can't be decoded: %v", err)
		}
		a, _ := v.(*counts)
		b, _ := w.(*counts)
		if a.Digest() != b.Digest() || !maps.Equal(maps.Collect(a.All()), maps.Collect(b.All())) {
			t.Fatalf("%v became %v", a, b)
		}
		if change, err := a.Merge(b, false); err != nil || change != nil {
			t.Fatalf("the same merged again changes %v, %v", change, err)
		}
	})
}

func ExampleMap() {
	m := memberlist.NewMap[string, string]()
	m.Set("node-1", "healthy")
	m.Set("node-2", "leaving")
	m.Delete("node-2")
	for id, state := range m.All() {
		fmt.Println(id, state)
	}
	// Output: node-1 healthy
}
