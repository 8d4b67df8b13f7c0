package conformance

import (
	"fmt"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
)

func viewCases() []testCase {
	return []testCase{
		{"WithCodec", "same-keys", "a view of another codec reads and writes the same keys, prefix and wrappers included", needViews, viewSharesKeys},
		{"WithCodec", "watch", "a view's watches tell what is written by any view, as values of its own codec", needViews | needWatch, viewWatches},
		{"WithCodec", "contended", "writers of one key through different views lose no update", needViews, viewsContend},
		{"WithCodec", "whole-client", "a view obeys the rules of keys and values, and can be viewed again", needViews, viewIsWholeClient},
		{"WithCodec", "no-codec", "a view without a codec is refused", needViews, viewWithoutCodec},
		{"WithCodec", "reserved", "a view of a raw view has no reserved keys", needViews | needRaw, viewOfRaw},
		{"X2", "view-closes", "views of one client and the client are closed together", needViews, viewCloses},
		{"Linearizable", "told", "Linearizable tells whether the clients see one store, of views and wrappers too", 0, linearizableTold},
	}
}

// view returns c's view of a codec.
func (t *trial) view(c kv.Client, cdc codec.Codec) kv.Client {
	t.Helper()
	v, err := kv.WithCodec(c, cdc)
	t.ok(err, "WithCodec")
	return v
}

func viewSharesKeys(t *trial) {
	c, other := t.open(), t.open()
	asDocs := t.view(c, docs())
	d := &doc{Text: "by a view", Tags: []string{"a"}}
	t.put(asDocs, "p/k", d)
	t.wantDoc(asDocs, "p/k", d)
	t.wantDoc(t.openWith(docs()), "p/k", d)
	want, err := docs().Encode(d)
	t.ok(err, "Encode")
	for _, by := range []kv.Client{c, other} {
		t.wantGet(by, "p/k", string(want))
		t.wantList(by, "p/", "p/k")
	}
	t.put(other, "p/k", `{"Text":"by another client","Tags":null}`)
	t.wantDoc(asDocs, "p/k", &doc{Text: "by another client"})
	t.wantList(asDocs, "p/", "p/k")
	for entry, err := range kv.Entries(t.ctx(), asDocs, "p/") {
		t.ok(err, "Entries")
		if got, ok := entry.Value.(*doc); entry.Key != "p/k" || !ok || got.Text != "by another client" {
			t.Fatalf("Entries of a view yields %s for %q", show(entry.Value), entry.Key)
		}
	}
	t.put(c, "p/k", "nothing that a document could be made of")
	if value, err := asDocs.Get(t.ctx(), "p/k"); err == nil {
		t.Fatalf("a view of documents read %s from what is none", show(value))
	}
	t.delete(asDocs, "p/k")
	t.wantGet(other, "p/k", nil)
}

func viewWatches(t *trial) {
	c, other := t.open(), t.open()
	asDocs := t.view(c, docs())
	t.put(c, "k", `{"Text":"first"}`)
	w, texts := t.watchPrefix(asDocs, ""), t.watchKey(c, "k")
	for _, text := range []string{"first", "second", "third"} {
		by := map[string]kv.Client{"first": nil, "second": asDocs, "third": other}[text]
		switch by {
		case nil:
		case asDocs:
			t.put(by, "k", &doc{Text: text})
		default:
			t.put(by, "k", `{"Text":"`+text+`"}`)
		}
		w.until("the view is told of the "+text, func(calls []seen) bool {
			if len(calls) == 0 {
				return false
			}
			got, ok := calls[len(calls)-1].value.(*doc)
			return ok && got.Text == text
		})
	}
	texts.untilIs("k", `{"Text":"third"}`)
}

func viewsContend(t *trial) {
	c := t.open()
	asBytes := t.view(c, codec.Bytes{})
	views := []kv.Client{c, asBytes, t.view(asBytes, codec.String{}), t.open()}
	const each = 15
	t.each(2*len(views), func(i int) {
		by := views[i%len(views)]
		for range each {
			t.ok(t.cas(by, "n", func(in any) (any, bool, error) {
				if by != asBytes {
					return increment(in)
				}
				if b, ok := in.([]byte); ok {
					in = string(b)
				}
				out, retry, err := increment(in)
				return fmt.Append(nil, out), retry, err
			}), "CAS")
		}
	})
	if got := number(t.get(c, "n")); got != 2*len(views)*each {
		t.Fatalf("the counter is %d after %d increments", got, 2*len(views)*each)
	}
}

func viewIsWholeClient(t *trial) {
	c := t.open()
	asDocs := t.view(c, docs())
	for _, key := range invalidKeys() {
		refused(t, asDocs, key)
	}
	refused(t, asDocs, kv.ReservedSegment+"/x")
	wantRefused(t, asDocs, "k", "a string", codec.ErrType)
	if cdc, err := kv.CodecOf(asDocs); err != nil || cdc.CodecID() != docs().CodecID() {
		t.Fatalf("CodecOf a view returned %v, %v", cdc, err)
	}
	t.put(t.view(asDocs, codec.String{}), "k", `{"Text":"by a view of a view"}`)
	t.wantDoc(asDocs, "k", &doc{Text: "by a view of a view"})
	if t.has(Limits) {
		of, err := kv.LimitsOf(c)
		t.ok(err, "LimitsOf")
		if got, err := kv.LimitsOf(asDocs); err != nil || got != of {
			t.Fatalf("LimitsOf a view returned %+v, %v, of its client %+v", got, err, of)
		}
	}
	if t.has(Raw) {
		t.wantGet(t.raw(asDocs), "k", []byte(`{"Text":"by a view of a view"}`))
	}
}

func viewWithoutCodec(t *trial) {
	if v, err := kv.WithCodec(t.open(), nil); err == nil {
		t.Fatalf("WithCodec of no codec returned %T", v)
	}
}

func viewOfRaw(t *trial) {
	c := t.open()
	texts := t.view(t.raw(c), codec.String{})
	refused(t, texts, kv.ReservedSegment+"/x")
	t.put(texts, "k", "v")
	t.wantGet(c, "k", "v")
}

func viewCloses(t *trial) {
	for i := range 3 {
		c := t.open()
		views := []kv.Client{c, t.view(c, codec.String{}), t.view(c, docs())}
		t.put(views[1], "k", `{"Text":"v"}`)
		w := t.watchKey(views[(i+1)%3], "k")
		w.until("the watch tells the value", func(calls []seen) bool { return len(calls) > 0 })
		t.ok(views[i].Close(), "Close")
		w.ended.wait("a watch returns when a view of its client is closed")
		for _, closed := range views {
			_, err := closed.Get(t.ctx(), "k")
			t.wantErr(err, "Get after Close", kv.ErrClosed)
			t.ok(closed.Close(), "Close again")
		}
	}
	t.wantGet(t.open(), "k", `{"Text":"v"}`)
}

func linearizableTold(t *trial) {
	c := t.open()
	clients := map[string]kv.Client{"a client": c, "a client that hides deletions": kv.SkipDeletes(c)}
	var err error
	clients["a client with a prefix"], err = kv.Prefix(c, "ns/")
	t.ok(err, "kv.Prefix")
	if t.has(Raw) {
		clients["a raw view"] = t.raw(c)
	}
	if t.has(Views) {
		clients["a view"] = t.view(c, docs())
	}
	for what, c := range clients {
		if got, want := kv.Linearizable(c), !t.features.PerNode; got != want {
			t.Errorf("Linearizable of %s is %v, want %v", what, got, want)
		}
	}
}
