package conformance

import (
	"fmt"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
)

func sharingCases() []testCase {
	return []testCase{
		{"X2", "data-stays", "Close leaves the data, for clients that are open and those opened later", 0, dataOutlivesClients},
		{"X2", "others-go-on", "Close of one client disturbs no other's calls and watches", 0, othersGoOn},
		{"X2", "codecs", "clients with different codecs share the bytes", 0, codecsShareBytes},
		{"X2", "prefixes", "clients with different prefixes share the store", 0, prefixesShareStore},
		{"X2", "wrapper-closes", "a wrapper closes what it wraps", 0, wrapperCloses},
		{"X2", "raw-closes", "a raw view and its client are closed together", needRaw, rawCloses},
	}
}

func dataOutlivesClients(t *trial) {
	early := t.open()
	c := t.open()
	t.put(c, "k", "v")
	t.ok(c.Close(), "Close")
	for _, c := range []kv.Client{early, t.open()} {
		t.wantGet(c, "k", "v")
		t.wantList(c, "", "k")
		t.put(c, "k", "v")
	}
}

func othersGoOn(t *trial) {
	a, b := t.open(), t.open()
	w := t.watchPrefix(a, "")
	for i := range 5 {
		c := t.open()
		key := fmt.Sprintf("k%d", i)
		t.put(c, key, "theirs")
		doomed := t.watchKey(c, key)
		doomed.untilIs(key, "theirs")
		w.untilIs(key, "theirs")
		t.ok(c.Close(), "Close")
		t.put(b, key, "mine")
		w.untilIs(key, "mine")
	}
	t.ok(t.cas(b, "k0", func(in any) (any, bool, error) {
		late := t.open()
		t.ok(late.Close(), "Close")
		return "end", false, nil
	}), "CAS while another client is closed")
	w.untilIs("k0", "end")
}

func codecsShareBytes(t *trial) {
	text, bytes, docs := t.openWith(codec.String{}), t.openWith(codec.Bytes{}), t.openWith(docs())
	t.put(text, "k", `{"Text":"written as text","Tags":null}`)
	t.wantDoc(docs, "k", &doc{Text: "written as text"})
	t.put(docs, "k", &doc{Text: "written as a document"})
	t.wantGet(bytes, "k", []byte(`{"Text":"written as a document","Tags":null}`))
	t.put(bytes, "k", []byte("written as bytes"))
	t.wantGet(text, "k", "written as bytes")
	if _, err := docs.Get(t.ctx(), "k"); err == nil {
		t.Fatalf("a codec of documents read what is none")
	}
	w := t.watchKey(docs, "k")
	t.put(text, "k", `{"Text":"fine"}`)
	w.until("a document", func(calls []seen) bool { return len(calls) == 1 })
	if got, ok := w.of("k")[0].(*doc); !ok || got.Text != "fine" {
		t.Fatalf("a watch delivered %s", show(w.of("k")[0]))
	}
}

func prefixesShareStore(t *trial) {
	one := t.open()
	a, err := kv.Prefix(one, "a/")
	t.ok(err, "kv.Prefix")
	b, err := kv.Prefix(one, "b/")
	t.ok(err, "kv.Prefix")
	t.each(8, func(i int) {
		for range 10 {
			t.ok(t.cas([]kv.Client{a, b}[i%2], "k", increment), "CAS")
		}
	})
	t.wantList(t.open(), "", "a/k", "b/k")
	for _, c := range []kv.Client{a, b} {
		t.wantGet(c, "k", "40")
	}
}

func wrapperCloses(t *trial) {
	for name, wrap := range map[string]func(kv.Client) (kv.Client, error){
		"kv.Prefix":      func(c kv.Client) (kv.Client, error) { return kv.Prefix(c, "ns/") },
		"kv.SkipDeletes": func(c kv.Client) (kv.Client, error) { return kv.SkipDeletes(c), nil },
	} {
		inner := t.open()
		c := t.own(wrap(inner))
		t.put(c, "k", "v")
		w := t.watchKey(c, "k")
		w.untilIs("k", "v")
		t.ok(c.Close(), "Close")
		w.ended.wait("a watch returns when its client is closed")
		for _, closed := range []kv.Client{c, inner} {
			_, err := closed.Get(t.ctx(), "k")
			t.wantErr(err, "Get after Close of a "+name, kv.ErrClosed)
		}
	}
}

func rawCloses(t *trial) {
	for i := range 2 {
		c := t.open()
		raw, err := kv.Raw(c)
		t.ok(err, "Raw")
		t.put(raw, "k", []byte("v"))
		t.ok([]kv.Client{c, raw}[i].Close(), "Close")
		for _, closed := range []kv.Client{c, raw} {
			_, err := closed.Get(t.ctx(), "k")
			t.wantErr(err, "Get after Close", kv.ErrClosed)
		}
	}
	t.wantGet(t.open(), "k", "v")
}
