package memberlist

import (
	"bytes"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv/memberlist/internal/network"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

type doc struct {
	Text string
	Tags []string
}

// A node tells what it lacks, whether it meets the keys or they are written later.
func TestMissingCodecs(t *testing.T) {
	fabric := network.NewFabric(1)
	docs := codec.JSON[doc]{ID: "docs"}
	writer := startNode(t, nodeConfig("writer"), fabric, docs, counts)
	putValue(t, clientOf(t, writer, docs), "doc", doc{Text: "x"})
	cfg := nodeConfig("visitor")
	cfg.Join = []string{writer.Address()}
	visitor := startNode(t, cfg, fabric, codec.String{})
	if err := visitor.WaitReady(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if got := visitor.MissingCodecs(); !slices.Equal(got, []string{"docs"}) {
		t.Errorf("met: %q", got)
	}
	if err := set(t.Context(), clientOf(t, writer, counts), "map", "a", 1); err != nil {
		t.Fatal(err)
	}
	want := []string{counts.CodecID(), "docs"}
	slices.Sort(want)
	soon(t, "what is written later is told", func() bool { return slices.Equal(visitor.MissingCodecs(), want) })
	if got := writer.MissingCodecs(); len(got) > 0 {
		t.Errorf("the writer lacks %q", got)
	}
}

// TestANodeKeepsValuesOfCodecsItDoesNotHave has everything go through a node
// whose program has none of the codecs: it is all that is left when the writer
// has gone and a reader comes.
func TestANodeKeepsValuesOfCodecsItDoesNotHave(t *testing.T) {
	fabric := network.NewFabric(1)
	docs := codec.JSON[doc]{ID: "docs"}
	cfg := nodeConfig("keeper")
	cfg.KeepValues, cfg.KeepMaps = []string{docs.CodecID()}, []string{counts.CodecID()}
	keeper := startNode(t, cfg, fabric, codec.String{})
	join := func(name string) *Node {
		cfg := nodeConfig(name)
		cfg.Join = []string{keeper.Address()}
		n := startNode(t, cfg, fabric, docs, counts)
		awaitPeerCount(t, n, 1)
		return n
	}
	roots := func(n *Node) map[string]state.Digest {
		all := map[string]state.Digest{}
		for _, r := range n.store.Roots() {
			if !r.Root.IsZero() {
				all[r.Codec] = r.Root
			}
		}
		return all
	}
	equal := func(a, b *Node) func() bool {
		return func() bool { return len(roots(a)) == 2 && maps.Equal(roots(a), roots(b)) }
	}

	writer := join("writer")
	values, tables := clientOf(t, writer, docs), clientOf(t, writer, counts)
	putValue(t, values, "doc", doc{Text: "first"})
	putValue(t, values, "doc", doc{Text: "newest", Tags: []string{"a"}})
	putValue(t, values, "large", doc{Text: strings.Repeat("x", 100<<10)})
	for i, entry := range []string{"a", "b", "c"} {
		if err := set(t.Context(), tables, "map", entry, i); err != nil {
			t.Fatal(err)
		}
	}
	err := tables.CAS(t.Context(), "map", func(in any) (any, bool, error) {
		in.(*Map[string, int]).Delete("b") //nolint:forcetypeassert // as written above
		return in, false, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	soon(t, "the keeper holds what the writer does", equal(keeper, writer))
	awaitStored(t, clientOf(t, keeper, codec.String{}), "doc", `{"Text":"newest","Tags":["a"]}`)
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	awaitPeerCount(t, keeper, 0)

	reader := join("reader")
	soon(t, "the reader holds what the keeper does", equal(reader, keeper))
	v, err := clientOf(t, reader, docs).Get(t.Context(), "doc")
	if d, ok := v.(doc); !ok || d.Text != "newest" || err != nil {
		t.Errorf("doc is %v, error %v", v, err)
	}
	v, err = clientOf(t, reader, counts).Get(t.Context(), "map")
	m, ok := v.(*Map[string, int])
	if !ok || err != nil || m.Len() != 2 {
		t.Fatalf("map is %v, error %v", v, err)
	}
	if n, _ := m.Get("c"); n != 2 {
		t.Errorf("entry c is %d", n)
	}
	// What both write goes on merging, and they see nothing to repair.
	if err := set(t.Context(), clientOf(t, reader, counts), "map", "d", 3); err != nil {
		t.Fatal(err)
	}
	soon(t, "the keeper has the new entry", equal(reader, keeper))
	if bad := keeper.spread.Stats().Outcomes["unknown_codec"] + keeper.spread.Stats().Outcomes["malformed"]; bad != 0 {
		t.Errorf("the keeper refused %d changes", bad)
	}
	for key, want := range map[string]string{"doc": `{"Text":"newest","Tags":["a"]}`, "map": `{"a":0,"c":2,"d":3}`} {
		st := keeper.keyStatus(key)
		if string(st.Value) != want {
			t.Errorf("the status page shows %s as %s", key, st.Value)
		}
	}
}

// TestANodeTellsOfCodecsThatItLacks names the codec in its log, so that it can be
// given it.
func TestANodeTellsOfCodecsThatItLacks(t *testing.T) {
	fabric := network.NewFabric(1)
	writer := startNode(t, nodeConfig("writer"), fabric, counts)
	cfg := nodeConfig("other")
	cfg.Join = []string{writer.Address()}
	var log lockedBuffer
	other, err := StartWith(t.Context(), cfg, Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), fabric: fabric}, codec.String{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	awaitPeerCount(t, writer, 1)
	if err := set(t.Context(), clientOf(t, writer, counts), "map", "a", 1); err != nil {
		t.Fatal(err)
	}
	soon(t, "the log names the codec", func() bool { return strings.Contains(log.String(), counts.CodecID()) })
}

// lockedBuffer is what several goroutines write to.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// TestAKeptCodecIsTheProgramsOwn has a program name a codec that it has.
func TestAKeptCodecIsTheProgramsOwn(t *testing.T) {
	cfg := nodeConfig("node")
	cfg.KeepValues, cfg.KeepMaps = []string{"string", "bytes"}, []string{counts.CodecID(), counts.CodecID()}
	n := startNode(t, cfg, nil, counts)
	putValue(t, clientOf(t, n, codec.String{}), "key", "text")
	if err := set(t.Context(), clientOf(t, n, counts), "map", "a", 1); err != nil {
		t.Error(err)
	}
	if v, err := clientOf(t, n, codec.Bytes{}).Get(t.Context(), "key"); string(v.([]byte)) != "text" || err != nil { //nolint:forcetypeassert // as bytes are
		t.Error(v, err)
	}
}
