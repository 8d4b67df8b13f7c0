package webpage_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polykv/polykv/internal/webpage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type content struct {
	Name   string         `json:"name"`
	Size   int64          `json:"size"`
	Count  uint64         `json:"count"`
	At     time.Time      `json:"at"`
	Took   time.Duration  `json:"took"`
	Series webpage.Series `json:"-"`
}

const text = `<h1>{{.Name}}</h1>
<p id=facts>{{bytes .Size}} | {{count .Count}} | {{moment .At}} | {{span .Took}}</p>
{{chart .Series}}`

var at = time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)

func handler(data any, err error) http.Handler {
	return webpage.Handler(webpage.Options{Title: "A <title>", Refresh: time.Minute}, webpage.MustParse("test", text),
		func(*http.Request) (any, error) { return data, err })
}

func sample(name string) content {
	return content{
		Name: name, Size: 1 << 20, Count: 1234567, At: at, Took: 12345 * time.Microsecond,
		Series: webpage.Series{Label: "<backlog>", Points: []webpage.Point{{at, 0}, {at.Add(time.Minute), 8}, {at.Add(2 * time.Minute), 4}}},
	}
}

func request(h http.Handler, method, target, accept string) *httptest.ResponseRecorder {
	r, w := httptest.NewRequest(method, target, nil), httptest.NewRecorder()
	r.Header.Set("Accept", accept)
	h.ServeHTTP(w, r)
	return w
}

func TestHandlerAnswersInTheFormAskedFor(t *testing.T) {
	h := handler(sample("x"), nil)
	for _, c := range []struct{ query, accept, want string }{
		{"", "text/html,application/xhtml+xml", "text/html; charset=utf-8"},
		{"", "", "text/html; charset=utf-8"},
		{"", "application/json", "application/json"},
		{"", "application/json, text/html", "application/json"},
		{"", "text/html, application/json;q=0.9", "text/html; charset=utf-8"},
		{"?format=json", "text/html", "application/json"},
		{"?format=html", "application/json", "text/html; charset=utf-8"},
	} {
		w := request(h, http.MethodGet, "/"+c.query, c.accept)
		if got := w.Header().Get("Content-Type"); got != c.want || w.Code != http.StatusOK {
			t.Errorf("query %q, Accept %q: %d, %s", c.query, c.accept, w.Code, got)
		}
		for header, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"} {
			if got := w.Header().Get(header); got != want {
				t.Errorf("%s: %q", header, got)
			}
		}
		if c.want == "application/json" {
			var back content
			if err := json.Unmarshal(w.Body.Bytes(), &back); err != nil || back.Name != "x" || back.Count != 1234567 {
				t.Errorf("JSON %s: %v", w.Body, err)
			}
		}
	}
	if w := request(h, http.MethodHead, "/", ""); w.Code != http.StatusOK {
		t.Errorf("HEAD: %d", w.Code)
	}
	if w := request(h, http.MethodPost, "/", ""); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d", w.Code)
	}
}

func TestHandlerFailsWhole(t *testing.T) {
	w := request(handler(nil, errors.New("nothing to see")), http.MethodGet, "/", "")
	if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "nothing to see") {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	w = request(handler(struct{ Name string }{"half"}, nil), http.MethodGet, "/", "")
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "<h1>") {
		t.Errorf("a template that fails in the middle: %d %q", w.Code, w.Body)
	}
}
