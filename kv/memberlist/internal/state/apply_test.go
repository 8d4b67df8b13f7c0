package state

import (
	"strings"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
)

func TestApplyOfPlainValues(t *testing.T) {
	n := newNode(t, 1)
	text := func(e, v time.Duration, value string) Update {
		u := Update{Key: "k", Codec: "string", V: at(v), Value: []byte(value)}
		if e != 0 {
			u.E = at(e)
		}
		return u
	}
	gone := func(e time.Duration) Update { return Update{Key: "k", Codec: "string", E: at(e)} }
	const s = time.Second
	for i, step := range []struct {
		u       Update
		outcome Outcome
		value   string
	}{
		{text(0, 5*s, "b"), Changed, "b"},
		{text(0, 5*s, "b"), Unchanged, "b"},
		{text(0, 4*s, "a"), Older, "b"},
		{text(0, 5*s, "a"), Unchanged, "b"}, // a tie: the larger bytes win
		{text(0, 5*s, "c"), Changed, "c"},
		{text(0, 6*s, "d"), Changed, "d"},
		{gone(3 * s), Older, "d"}, // whoever deletes hasn't seen d, or the writer of d has forgotten that: a comparison tells
		{gone(7 * s), Changed, ""},
		{gone(7 * s), Unchanged, ""},
		{text(0, 9*s, "x"), Older, ""},
		{text(7*s, 11*s, "e"), Changed, "e"},
		{gone(7 * s), Older, "e"},
		{gone(6 * s), Older, "e"},
		{text(6*s, 20*s, "x"), Older, "e"},
		{text(8*s, 9*s, "f"), Older, "e"}, // as above
		{text(8*s, 12*s, "f"), Changed, "f"},
	} {
		n.apply(step.u, step.outcome)
		if got := n.value("k"); got != step.value {
			t.Fatalf("step %d: the value is %q, want %q", i, got, step.value)
		}
	}
	if len(n.sent) > 0 {
		t.Errorf("updates of others went to OnLocal: %v", n.sent)
	}
}

// Whole values and changes of a Mergeable merge.
func TestApplyOfMergeables(t *testing.T) {
	n := newNode(t, 1)
	a, b, c := at(1*time.Second), at(2*time.Second), at(3*time.Second)
	encode := func(s stamps) []byte {
		encoded, err := stampsCodec.Encode(s)
		if err != nil {
			t.Fatal(err)
		}
		return encoded
	}
	n.apply(Update{Key: "k", Codec: "stamps", V: b, Value: encode(stamps{"x": a, "y": b})}, Changed)
	n.apply(Update{Key: "k", Codec: "stamps", V: a, Value: encode(stamps{"x": a}), Partial: true}, Unchanged)
	n.apply(Update{Key: "k", Codec: "stamps", V: c, Value: encode(stamps{"x": a, "z": c})}, Changed)
	n.want("k", `{"x":true,"y":true,"z":true}`)
	if _, v := n.Get("k").Versions(); v != c {
		t.Errorf("the version is %v, want the largest that was merged, %v", v, c)
	}

	// Which came first doesn't matter, and the version isn't compared.
	other := newNode(t, 2)
	other.apply(Update{Key: "k", Codec: "stamps", V: c, Value: encode(stamps{"z": c, "y": b}), Partial: true}, Changed)
	other.apply(Update{Key: "k", Codec: "stamps", V: a, Value: encode(stamps{"x": a}), Partial: true}, Changed)
	if n.root("stamps") != other.root("stamps") {
		t.Errorf("the digests of equal values differ")
	}
	other.apply(Update{Key: "k", Codec: "stamps", E: at(time.Minute)}, Changed)
	other.apply(n.sentAll("k"), Older)
	n.apply(Update{Key: "k", Codec: "stamps", E: at(time.Minute)}, Changed)
	n.want("k", "")
}

// sentAll is the whole state of a key.
func (n *node) sentAll(key string) Update {
	n.t.Helper()
	u, ok := n.Read(n.Get(key).Codec(), KeyDigest{Key: key})
	if !ok || u.Partial {
		n.t.Fatalf("Read of %q for a peer that has nothing: %+v, %v", key, u, ok)
	}
	return u
}

func TestApplyRefuses(t *testing.T) {
	n := newNode(t, 1)
	n.apply(Update{Key: "words", Codec: "words", V: at(1), Value: []byte(`{"a":true}`)}, Changed)
	for name, u := range map[string]Update{
		"an empty key":                 {Codec: "string", V: at(1)},
		"a long key":                   {Key: strings.Repeat("k", 513), Codec: "string", V: at(1)},
		"a key that is no text":        {Key: "\xff", Codec: "string", V: at(1)},
		"neither version":              {Key: "k", Codec: "string", Value: []byte("v")},
		"a deletion with a value":      {Key: "k", Codec: "string", E: at(1), Value: []byte("v")},
		"a partial deletion":           {Key: "k", Codec: "string", E: at(1), Partial: true},
		"a value as old as a deletion": {Key: "k", Codec: "string", E: at(1), V: at(1), Value: []byte("v")},
		"a version of 49 bits":         {Key: "k", Codec: "string", V: Version{Wall: 1 << 48}, Value: []byte("v")},
		"a change of what can't merge": {Key: "k", Codec: "string", V: at(1), Value: []byte("v"), Partial: true},
		"a change that can't be read":  {Key: "k", Codec: "words", V: at(1), Value: []byte("?"), Partial: true},
		"a Mergeable that can't":       {Key: "words", Codec: "words", V: at(2), Value: []byte("?")},
	} {
		a := n.apply(u, Malformed)
		if a.Err == nil {
			t.Errorf("%s: no reason is given", name)
		}
	}
	if a := n.apply(Update{Key: "k", Codec: "elsewhere", V: at(1)}, UnknownCodec); !strings.Contains(a.Err.Error(), `"elsewhere"`) {
		t.Errorf("the error doesn't name the codec: %v", a.Err)
	}
	n.want("k", "")
	n.want("words", `{"a":true}`)
}

// A value whose code panics brings down no node, and leaves no lock behind.
func TestApplySurvivesPanic(t *testing.T) {
	n := newNode(t, 1)
	n.write(wordsCodec, "k", words{"a": true})
	a := n.apply(Update{Key: "k", Codec: "words", V: at(time.Second), Value: []byte(`{"panic":true}`)}, Malformed)
	if a.Err == nil || !strings.Contains(a.Err.Error(), "panicked") || strings.Contains(a.Err.Error(), "foreseen") {
		t.Errorf("the reason is %v", a.Err)
	}
	n.apply(Update{Key: "k", Codec: "words", V: at(time.Second), Value: []byte(`{"b":true}`)}, Changed)
	n.want("k", `{"a":true,"b":true}`)
}

// A value that doesn't merge may be undecodable here: a newer program wrote it.
func TestApplyKeepsUndecodable(t *testing.T) {
	docs := codec.JSON[map[string]int]{ID: "docs"}
	n := newNode(t, 1, func(c *Config) { c.Codecs = append(c.Codecs, docs) })
	n.apply(Update{Key: "k", Codec: "docs", V: at(1), Value: []byte(`"of version 2"`)}, Changed)
	if _, err := n.view(docs).Value(n.Get("k"), false); err == nil {
		t.Error("it was decoded")
	}
	n.want("k", `"of version 2"`)
}

// The larger version wins over values of another codec, on nodes that saw them
// in either order.
func TestCodecsOfOneKey(t *testing.T) {
	text := Update{Key: "k", Codec: "string", V: at(2 * time.Second), Value: []byte("text")}
	older := Update{Key: "k", Codec: "words", V: at(time.Second), Value: []byte(`{"a":true}`)}
	newer := Update{Key: "k", Codec: "words", V: at(3 * time.Second), Value: []byte(`{"b":true}`)}
	for _, order := range [][]Update{{text, older}, {older, text}} {
		n := newNode(t, 1)
		n.Apply(order[0], nil)
		n.Apply(order[1], nil)
		n.want("k", "text")
		if n.root("words") != (Digest{}) || n.root("string") == (Digest{}) {
			t.Error("the key counts for another codec than its own")
		}
		n.apply(newer, Changed)
		n.want("k", `{"b":true}`)
		if n.root("string") != (Digest{}) {
			t.Error("the key still counts for its codec before")
		}
	}
}

func FuzzApply(f *testing.F) {
	f.Add("k", "stamps", uint64(1), uint64(0), []byte(`{"a":{"Wall":1}}`), true)
	f.Add("k", "words", uint64(2), uint64(1), []byte(`{"a":true}`), false)
	f.Add("k", "string", uint64(0), uint64(5), []byte{}, false)
	f.Fuzz(func(t *testing.T, key, id string, v, e uint64, value []byte, partial bool) {
		n := newNode(t, 1)
		n.write(stampsCodec, "k", stamps{"mine": {}})
		n.write(codec.String{}, "l", "mine")
		u := Update{Key: key, Codec: id, V: Version{Wall: v}, E: Version{Wall: e}, Value: value, Partial: partial}
		if a := n.Apply(u, nil); a.Outcome == Changed {
			if again := n.Apply(u, nil); again.Outcome == Changed {
				t.Errorf("%+v changes the state each time", u)
			}
		}
		n.Roots()
		for _, id := range n.Codecs() {
			n.Compare(id, BucketOf(key), []KeyDigest{{Key: key, E: u.E, V: u.V}}, nil)
		}
	})
}
