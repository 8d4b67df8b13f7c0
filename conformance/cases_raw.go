package conformance

import (
	"slices"
	"strings"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
)

func rawCases() []testCase {
	return []testCase{
		{"Raw", "exact-bytes", "stored bytes are exactly the codec's, in both directions", needRaw, rawBytes},
		{"Raw", "reserved", "a raw view reads and writes reserved keys, and lists them only when asked for", needRaw, rawReserved},
		{"Raw", "whole-client", "a raw view obeys the rules of CAS, keys and watches", needRaw, rawIsWholeClient},
	}
}

func limitsCases() []testCase {
	return []testCase{
		{"LimitsOf", "sizes", "LimitsOf tells the longest key, prefixes taken off, and the largest value", needLimits, limitsTold},
		{"LimitsOf", "offline", "LimitsOf contacts nobody", needLimits | needLine, limitsOffline},
	}
}

// raw returns the raw view of c.
func (t *trial) raw(c kv.Client) kv.Client {
	t.Helper()
	raw, err := kv.Raw(c)
	t.ok(err, "Raw")
	return raw
}

func rawBytes(t *trial) {
	compressed, err := compressedDocs()
	t.ok(err, "codec.Compress")
	for _, cdc := range []codec.Codec{docs(), compressed} {
		c := t.openWith(cdc)
		raw := t.raw(c)
		d := &doc{Text: strings.Repeat("text ", 50), Tags: []string{"a"}}
		t.put(c, "k", d)
		want, err := cdc.Encode(d)
		t.ok(err, "Encode")
		t.wantGet(raw, "k", want)
		t.put(raw, "l", want)
		t.wantDoc(c, "l", d)
		t.put(raw, "k", []byte("not for this codec"))
		if _, err := c.Get(t.ctx(), "k"); err == nil {
			t.Fatalf("Get of bytes that the codec did not write succeeded")
		}
		t.delete(raw, "k")
		t.wantGet(c, "k", nil)
	}
}

func rawReserved(t *trial) {
	c, other := t.open(), t.open()
	raw := t.raw(c)
	for _, key := range []string{".polykv/x", "a/.polykv/y", "a/.polykv"} {
		t.put(raw, key, []byte(key))
		t.wantGet(t.raw(other), key, []byte(key))
	}
	t.put(c, "a/b", "mine")
	t.wantList(raw, "", "a/b")
	t.wantList(raw, "a/", "a/b")
	t.wantList(raw, ".polykv/x", ".polykv/x") // a client may keep keys of its own beside it
	t.wantList(raw, "a/.polykv", "a/.polykv", "a/.polykv/y")
	if t.has(Entries) {
		var got []string
		for entry, err := range kv.Entries(t.ctx(), raw, "a/.polykv/") {
			t.ok(err, "Entries")
			got = append(got, entry.Key)
		}
		if !slices.Equal(got, []string{"a/.polykv/y"}) {
			t.Fatalf("Entries of a raw view yields %q", got)
		}
	}
	everything, reserved := t.watchPrefix(raw, ""), t.watchKey(raw, ".polykv/x")
	reserved.untilIs(".polykv/x", []byte(".polykv/x"))
	t.put(raw, ".polykv/x", []byte("changed"))
	reserved.untilIs(".polykv/x", []byte("changed"))
	t.put(c, "zz", "marker")
	everything.untilIs("zz", []byte("marker"))
	everything.wantExactly(".polykv/x")
	t.delete(raw, ".polykv/x")
	reserved.untilGone(".polykv/x")
}

func rawIsWholeClient(t *trial) {
	c, other := t.open(), t.open()
	raw := t.raw(c)
	for _, key := range invalidKeys() {
		refused(t, raw, key)
	}
	t.put(other, "k", "old")
	last, calls := t.interfered(raw, "k", []byte("new"), func() {
		t.delete(other, "k")
		t.put(other, "k", "old")
	})
	if got, ok := last.([]byte); calls < 2 || !ok || string(got) != "old" {
		t.Fatalf("after %d calls a CAS of a raw view rests on %s", calls, show(last))
	}
	t.wantGet(other, "k", "new")
	wantRefused(t, raw, "k", "a string", codec.ErrType)
	t.ok(t.cas(raw, "k", takeAway), "CAS with kv.Remove")
	t.wantGet(other, "k", nil)
	t.each(8, func(i int) {
		by, err := []kv.Client{c, raw}[i%2], error(nil)
		for range 10 {
			err = t.cas(by, "n", func(in any) (any, bool, error) {
				if i%2 == 0 {
					return increment(in)
				}
				b, _ := in.([]byte)
				out, _, _ := increment(string(b))
				if in == nil {
					out = "1"
				}
				s, _ := out.(string)
				return []byte(s), false, nil
			})
			t.ok(err, "CAS")
		}
	})
	t.wantGet(other, "n", "80")
}

func limitsTold(t *trial) {
	c := t.open()
	limits, err := kv.LimitsOf(c)
	t.ok(err, "LimitsOf")
	if want := kv.MaxKeyLen - len(t.store.Prefix); limits.Key != want {
		t.Fatalf("LimitsOf tells a key length of %d, want %d", limits.Key, want)
	}
	if limits.Value < 0 || limits.GuardedValue < 0 || limits.Value > 0 && limits.GuardedValue > limits.Value {
		t.Fatalf("LimitsOf tells %+v", limits)
	}
	key := strings.Repeat("k", limits.Key)
	t.put(c, key, "v")
	refused(t, c, key+"k")
	nested := t.own(kv.Prefix(c, "ns/"))
	inside, err := kv.LimitsOf(nested)
	t.ok(err, "LimitsOf")
	if inside.Key != limits.Key-len("ns/") || inside.Value != limits.Value {
		t.Fatalf("LimitsOf tells %+v, and %+v of a Prefix of 3 bytes over it", limits, inside)
	}
}

func limitsOffline(t *trial) {
	c, line := t.openLine()
	line.Cut()
	_, err := kv.LimitsOf(c)
	t.ok(err, "LimitsOf")
	if n := line.Attempts(); n > 0 {
		t.Fatalf("LimitsOf made %d requests", n)
	}
}
