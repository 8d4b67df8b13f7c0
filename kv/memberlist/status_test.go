package memberlist

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/polykv/polykv/codec"
)

// hostile is what anybody who may write to the cluster can put on the page.
const hostile = `<script>document.title="owned"</script>/<img src="/steal">"'--><a href="javascript:1">`

// evil is a value whose methods misbehave when they are shown.
type evil struct{ Text string }

func (evil) MarshalJSON() ([]byte, error) { panic("no JSON of me: " + hostile) }

type evilCodec struct{}

func (evilCodec) Encode(v any) ([]byte, error)   { return []byte(v.(evil).Text), nil }
func (evilCodec) Decode(b []byte) (any, error)   { return evil{string(b)}, nil }
func (evilCodec) CodecID() string                { return "evil" }
func statusNode(t *testing.T, count int) []*Node { return startNodesWith(t, count, evilCodec{}) }

func startNodesWith(t *testing.T, count int, more ...codec.Codec) []*Node {
	t.Helper()
	var nodes []*Node
	for i := range count {
		cfg := nodeConfig(fmt.Sprintf("node-%d", i))
		if i > 0 {
			cfg.Join = []string{nodes[0].Address()}
		}
		nodes = append(nodes, startNode(t, cfg, nil, append(testCodecs(t), more...)...))
	}
	for _, n := range nodes {
		awaitPeerCount(t, n, count-1)
	}
	return nodes
}

// fill writes what the page is to show.
func fill(t *testing.T, n *Node) {
	t.Helper()
	texts := clientOf(t, n, codec.String{})
	putValue(t, texts, "text", "a plain text")
	putValue(t, texts, "hostile/"+strings.ReplaceAll(hostile, "/", "_"), hostile)
	putValue(t, texts, "long", strings.Repeat("x", 3000))
	putValue(t, texts, "gone", "to be deleted")
	if err := texts.Delete(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	putValue(t, clientOf(t, n, codec.Bytes{}), "bytes", []byte{0xff, 0xfe})
	putValue(t, clientOf(t, n, evilCodec{}), "evil", evil{"x"})
	err := clientOf(t, n, counts).CAS(t.Context(), "map", func(any) (any, bool, error) {
		m := NewMap[string, int]()
		m.Set("one", 1)
		return m, false, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, h http.Handler, query string) (int, http.Header, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/"+query, nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, w.Header(), string(body)
}

func statusOf(t *testing.T, n *Node, query string) Status {
	t.Helper()
	code, _, body := get(t, n.StatusHandler(), "?format=json&"+query)
	var st Status
	if err := json.Unmarshal([]byte(body), &st); err != nil || code != http.StatusOK {
		t.Fatalf("status %d, %v: %s", code, err, body)
	}
	return st
}

func TestStatusAsJSON(t *testing.T) {
	nodes := statusNode(t, 2)
	fill(t, nodes[0])
	awaitStored(t, clientOf(t, nodes[1], codec.String{}), "text", "a plain text")
	st := statusOf(t, nodes[0], "tombstones=1&key=map")
	if st.Node.Name != "node-0" || st.Node.Address != nodes[0].Address() || st.Node.Label != "test" || st.Node.Encrypted || st.Node.Problem != "" {
		t.Errorf("node %+v", st.Node)
	}
	if len(st.Members) != 2 || !st.Members[0].Self || st.Members[1].State != "alive" || st.Members[1].Address != nodes[1].Address() {
		t.Errorf("members %+v", st.Members)
	}
	if st.Keys.Total != 6 || len(st.Keys.Items) != 6 || st.Keys.Next != "" {
		t.Errorf("keys %+v", st.Keys)
	}
	items := map[string]KeyStatus{}
	for _, k := range st.Keys.Items {
		items[k.Key] = k
		if k.Version == "" || k.Written.IsZero() || k.Bytes == 0 {
			t.Errorf("%+v", k)
		}
	}
	if k := items["text"]; string(k.Value) != `"a plain text"` || k.Codec != (codec.String{}).CodecID() || k.Bytes != 12 || k.Merges {
		t.Errorf("text: %+v", k)
	}
	if k := items["bytes"]; !strings.Contains(string(k.Value), "//4=") {
		t.Errorf("bytes: %s", k.Value)
	}
	if k := items["long"]; k.Value != nil || k.Bytes != 3000 {
		t.Errorf("long: %d bytes, value of %d", k.Bytes, len(k.Value))
	}
	if k := items["evil"]; k.Value != nil || !strings.Contains(k.Problem, "panicked") {
		t.Errorf("evil: %+v", k)
	}
	if st.Key == nil || st.Key.Key != "map" || !st.Key.Merges || !strings.Contains(string(st.Key.Value), `"one"`) || len(st.Key.Content) == 0 {
		t.Errorf("map: %+v", st.Key)
	}
	if len(st.Tombs) != 1 || st.Tombs[0].Key != "gone" || st.Tombs[0].Deleted.IsZero() {
		t.Errorf("tombstones %+v", st.Tombs)
	}
	if len(st.Messages) == 0 || len(st.Counters) == 0 {
		t.Errorf("%d messages, %d counters", len(st.Messages), len(st.Counters))
	}
	if st := statusOf(t, nodes[0], "key=long"); len(st.Key.Value) != 3002 {
		t.Errorf("the long value has %d characters", len(st.Key.Value))
	}
	if st := statusOf(t, nodes[0], "key=absent"); st.Key.Problem == "" {
		t.Error("an absent key is shown without a word")
	}
}

func TestStatusPages(t *testing.T) {
	nodes := statusNode(t, 1)
	client := clientOf(t, nodes[0], codec.String{})
	for i := range 25 {
		putValue(t, client, fmt.Sprintf("a/%02d", i), "x")
		putValue(t, client, fmt.Sprintf("b/%02d", i), "x")
	}
	var got []string
	for after := ""; ; {
		st := statusOf(t, nodes[0], "prefix=b/&limit=10&after="+after)
		for _, k := range st.Keys.Items {
			got = append(got, k.Key)
		}
		if after = st.Keys.Next; after == "" {
			break
		}
	}
	if len(got) != 25 || got[0] != "b/00" || got[24] != "b/24" {
		t.Errorf("pages have %d keys: %v", len(got), got)
	}
	for _, bad := range []string{"?limit=0", "?limit=x", "?limit=1000000"} {
		if code, _, body := get(t, nodes[0].StatusHandler(), bad); code != http.StatusBadRequest || !strings.Contains(body, "limit") {
			t.Errorf("%s: %d %s", bad, code, body)
		}
	}
}

func TestFiguresTellTheState(t *testing.T) {
	nodes := statusNode(t, 2)
	putValue(t, clientOf(t, nodes[0], codec.String{}), "key", "value")
	awaitStored(t, clientOf(t, nodes[1], codec.String{}), "key", "value")
	got := map[string]float64{}
	nodes[0].Figures(func(name, help string, counter bool, value float64, labels ...string) {
		if help == "" || counter != strings.HasSuffix(name, "_total") || len(labels)%2 != 0 {
			t.Errorf("%s: help %q, counter %v, labels %q", name, help, counter, labels)
		}
		key := name + strings.Join(labels, ",")
		if _, twice := got[key]; twice {
			t.Errorf("%s is there twice", key)
		}
		got[key] = value
	})
	for key, want := range map[string]float64{
		"polykv_gossip_membersstate,alive": 2, "polykv_gossip_keys": 1, "polykv_gossip_healthy": 1,
		"polykv_gossip_isolated_seconds": 0, "polykv_gossip_refused_totalcause,label": 0,
	} {
		if v, ok := got[key]; !ok || v != want {
			t.Errorf("%s is %v (there: %v), want %v", key, v, ok, want)
		}
	}
	if got["polykv_gossip_datagrams_totalkind,data,direction,sent"] == 0 {
		t.Error("no datagrams are counted")
	}
}
