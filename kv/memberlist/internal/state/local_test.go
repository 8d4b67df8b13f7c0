package state

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv/driver"
)

// What a client writes travels, of a Mergeable the change only, and reaches
// another node's clients.
func TestLocalWritesTravel(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	b.apply(a.write(codec.String{}, "text", "v"), Changed)
	b.want("text", "v")
	b.apply(a.write(stampsCodec, "set", stamps{"x": {}, "y": {}}), Changed)
	a.now = a.now.Add(time.Second)
	u := a.write(stampsCodec, "set", a.clone("set", func(s stamps) { s["z"] = Version{}; delete(s, "x") }))
	if !u.Partial || strings.Contains(string(u.Value), `"y"`) {
		t.Errorf("a change travels as %s, partial %v", u.Value, u.Partial)
	}
	b.apply(u, Changed)
	b.want("set", a.value("set"))
	if _, v := a.Get("set").Versions(); u.V != v || !v.Time().Equal(a.now) || v.Instance != 1 {
		t.Errorf("the change has the version %v, the state %v", u.V, v)
	}
	b.apply(a.remove("set"), Changed)
	b.want("set", "")
	if !slices.Equal(a.Roots(), b.Roots()) {
		t.Errorf("the digests differ")
	}
}

func (n *node) clone(key string, edit func(stamps)) stamps {
	n.t.Helper()
	value, err := n.view(stampsCodec).Value(n.Get(key), true)
	if err != nil {
		n.t.Fatal(err)
	}
	s, _ := value.(stamps)
	edit(s)
	return s
}

// A write made from one state doesn't replace another one, nor the absence
// that a deletion left behind meanwhile.
func TestSwapOnlyOntoItsBase(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	stage := func(prev any) any {
		t.Helper()
		object, err := a.view(stampsCodec).Object("k", prev, stamps{"mine": {}}, 0)
		if err != nil {
			t.Fatal(err)
		}
		return object
	}
	fails := func(version driver.Version, object any) {
		t.Helper()
		if _, ok, err := a.Swap("k", version, object); ok || err != nil {
			t.Fatalf("a swap made from another state: %v, %v", ok, err)
		}
	}
	onAbsent := stage(nil)
	created := b.write(stampsCodec, "k", stamps{"theirs": {}})
	a.apply(created, Changed)
	fails(0, onAbsent)
	fails(a.Get("k").Seq(), onAbsent)
	onCreated := stage(a.Get("k"))
	before := a.Get("k").Seq()
	b.now = b.now.Add(time.Second)
	a.apply(b.remove("k"), Changed)
	fails(before, onCreated)
	fails(0, onCreated)
	fails(0, onAbsent) // absent again, but by a deletion that its writer had not seen
	if _, ok, err := a.Swap("k", 0, stage(nil)); !ok || err != nil {
		t.Fatalf("a swap onto what is there: %v, %v", ok, err)
	}
	a.want("k", `{"mine":true}`)
	if _, _, err := a.Swap("l", 0, a.Get("k")); err == nil {
		t.Error("a record of another key was written")
	}
}

// Several writes staged one upon the other are stored as one, deletions amid
// them included, and travel as one.
func TestGroupOfWrites(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	b.apply(a.write(stampsCodec, "k", stamps{"old": {}}), Changed)
	v := a.view(stampsCodec)
	group := func(steps ...func(prev any) any) Update {
		t.Helper()
		r := a.Get("k")
		var object any = r
		for _, step := range steps {
			value := step(object)
			next, err := v.Object("k", object, value, 0)
			if err != nil {
				t.Fatal(err)
			}
			object = next
		}
		return a.swap("k", r, object)
	}
	with := func(name string) func(any) any {
		return func(prev any) any {
			value, err := v.Value(prev, true)
			if err != nil {
				t.Fatal(err)
			}
			s, _ := value.(stamps)
			s[name] = Version{}
			return s
		}
	}
	b.apply(group(with("x"), with("y"), with("z")), Changed)
	for _, n := range []*node{a, b} {
		n.want("k", `{"old":true,"x":true,"y":true,"z":true}`)
	}
	anew := func(any) any { return stamps{"anew": {}} }
	b.apply(group(with("w"), func(any) any { return nil }, anew), Changed)
	for _, n := range []*node{a, b} {
		n.want("k", `{"anew":true}`)
	}
	if !slices.Equal(a.Roots(), b.Roots()) {
		t.Errorf("the digests differ")
	}
}

// A write that changes nothing makes no new state and doesn't travel.
func TestWriteOfNothing(t *testing.T) {
	n := newNode(t, 1)
	n.write(stampsCodec, "k", stamps{"x": {}})
	r := n.Get("k")
	object, err := n.view(stampsCodec).Object("k", r, n.clone("k", func(stamps) {}), 0)
	if err != nil {
		t.Fatal(err)
	}
	n.swap("k", r, object)
	if n.Get("k") != r || len(n.sent) != 1 {
		t.Errorf("there is a new state, and %d updates travel", len(n.sent))
	}
}

// What a callback keeps of what it returned doesn't reach the store.
func TestWriterKeepsNoHold(t *testing.T) {
	n := newNode(t, 1)
	mine := stamps{"x": {}}
	n.write(stampsCodec, "k", mine)
	mine["spoiled"] = Version{}
	seen, err := n.view(stampsCodec).Value(n.Get("k"), true)
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := seen.(stamps); ok {
		s["spoiled"] = Version{}
	}
	n.want("k", `{"x":true}`)
}

// Merged values may be over the limit; only a write that makes one grow is
// refused then.
func TestLimitOfMergedValues(t *testing.T) {
	n := newNode(t, 1)
	v := n.view(wordsCodec)
	const limit = 100
	long := func(c string) string { return strings.Repeat(c, 40) }
	n.write(wordsCodec, "k", words{long("a"): true})
	for i, c := range []string{"b", "c"} {
		encoded, _ := wordsCodec.Encode(words{long(c): true})
		n.apply(Update{Key: "k", Codec: "words", V: at(time.Duration(i+1) * time.Second), Value: encoded, Partial: true}, Changed)
	}
	if r, _ := n.Get("k").Encoded(); len(r) <= limit {
		t.Fatalf("the merged value is %d bytes only", len(r))
	}
	r := n.Get("k")
	if _, err := v.Object("k", r, words{long("a"): true, long("d"): true}, limit); !errors.Is(err, driver.ErrTooLarge) {
		t.Errorf("a write that makes it grow: %v, want ErrTooLarge", err)
	}
	if _, err := v.Object("k", r, words{long("a"): true}, limit); err != nil {
		t.Errorf("a write that doesn't: %v", err)
	}
	if _, err := v.Object("l", nil, words{long("a"): true, long("b"): true, long("c"): true}, limit); !errors.Is(err, driver.ErrTooLarge) {
		t.Errorf("a new value over the limit: %v, want ErrTooLarge", err)
	}
	// The sum of many small changes says nothing about the size.
	for i := range 20 {
		n.now = n.now.Add(time.Second)
		object, err := n.view(stampsCodec).Object("s", nilIfAbsent(n.Get("s")), stamps{"x": n.clock.next(Version{})}, 200)
		if err != nil {
			t.Fatalf("write %d: %v", i, err)
		}
		n.swap("s", n.Get("s"), object)
	}
}

func nilIfAbsent(r *Record) any {
	if r == nil {
		return nil
	}
	return r
}

// Clients of one codec share decoded values; those of another have their own.
func TestDecodedValuesAreShared(t *testing.T) {
	type doc struct{ Text string }
	docs := codec.JSON[*doc]{ID: "docs"}
	n := newNode(t, 1, func(c *Config) { c.Codecs = append(c.Codecs, docs) })
	n.write(docs, "k", &doc{"v"})
	value := func(c codec.Codec, private bool) any {
		t.Helper()
		got, err := n.view(c).Value(n.Get("k"), private)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if value(docs, false) != value(codec.JSON[*doc]{ID: "docs"}, false) {
		t.Error("a value is decoded at each read")
	}
	if value(docs, false) == value(docs, true) {
		t.Error("a private value is shared")
	}
	if got := value(codec.String{}, false); got != `{"Text":"v"}` {
		t.Errorf("another codec reads %v", got)
	}
	raw, err := n.view(docs).Raw().Value(n.Get("k"), false)
	if b, ok := raw.([]byte); !ok || err != nil || string(b) != `{"Text":"v"}` {
		t.Errorf("the raw view reads %v, %v", raw, err)
	}
	if _, err := n.View(codec.JSON[*doc]{ID: "unknown"}); err == nil || !strings.Contains(err.Error(), `"docs"`) {
		t.Errorf("a codec that is not registered: %v", err)
	}
}

// Bytes written through a raw view merge where the codec's values do.
func TestRawWrites(t *testing.T) {
	n := newNode(t, 1)
	n.write(wordsCodec, "k", words{"a": true})
	raw := n.view(wordsCodec).Raw()
	object, err := raw.Object("k", n.Get("k"), []byte(`{"b":true}`), 0)
	if err != nil {
		t.Fatal(err)
	}
	n.swap("k", n.Get("k"), object)
	n.want("k", `{"a":true,"b":true}`)
	if _, err := raw.Object("k", n.Get("k"), []byte(`?`), 0); err == nil {
		t.Error("bytes that the codec can't read took the place of a value that merges")
	}
	if object, err = raw.Object(".polykv/k", nil, []byte(`?`), 0); err != nil {
		t.Fatalf("a reserved key takes any bytes: %v", err)
	}
	if u := n.swap(".polykv/k", nil, object); u.Codec != "bytes" || string(u.Value) != "?" {
		t.Errorf("it travels as %+v", u)
	}
}

// OnLocal is told of every write, of one key in order, and may read the store.
func TestOnLocalInOrder(t *testing.T) {
	n := newNode(t, 1)
	var mu sync.Mutex
	seen := map[string][]Version{}
	n.OnLocal(func(u Update) {
		n.Have(u.Codec, u.Key)
		mu.Lock()
		defer mu.Unlock()
		seen[u.Key] = append(seen[u.Key], u.V)
	})
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for i := range 200 {
				key := fmt.Sprint("k", i%3)
				for {
					r := n.Get(key)
					object, err := n.view(codec.String{}).Object(key, nilIfAbsent(r), "v", 0)
					if err != nil {
						t.Error(err)
						return
					}
					if _, ok, err := n.Swap(key, r.entry(key).Version, object); ok || err != nil {
						break
					}
				}
			}
		})
	}
	writers.Wait()
	total := 0
	for key, versions := range seen {
		total += len(versions)
		if !slices.IsSortedFunc(versions, Version.Compare) {
			t.Errorf("OnLocal was told of writes of %q out of order", key)
		}
	}
	if total != 8*200 {
		t.Errorf("OnLocal was told of %d writes of %d", total, 8*200)
	}
}
