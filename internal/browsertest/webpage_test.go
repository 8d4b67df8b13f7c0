package browsertest_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/polykv/polykv/internal/browsertest"
	"github.com/polykv/polykv/internal/webpage"
)

func TestWebpage(t *testing.T) {
	p := browsertest.Open(t)
	hostile := `<script>document.title="owned"</script><img src="/steal">` + strings.Repeat("long", 200)
	start := time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)
	content := struct {
		Name   string
		Size   int64
		Count  uint64
		At     time.Time
		Took   time.Duration
		Series webpage.Series
	}{
		hostile, 1 << 20, 1234567, start, 12345 * time.Microsecond,
		webpage.Series{Label: "<backlog>", Points: []webpage.Point{
			{At: start}, {At: start.Add(time.Minute), Value: 8}, {At: start.Add(2 * time.Minute), Value: 4},
		}},
	}
	page := webpage.MustParse("test", `<h1>{{.Name}}</h1>
<p id=facts>{{bytes .Size}} | {{count .Count}} | {{moment .At}} | {{span .Took}}</p>
{{chart .Series}}`)
	server := httptest.NewServer(webpage.Handler(webpage.Options{Title: "A <title>", Refresh: time.Minute}, page,
		func(*http.Request) (any, error) { return content, nil }))
	t.Cleanup(server.Close)
	for _, screen := range []browsertest.Screen{browsertest.Desktop, browsertest.Phone, browsertest.PhoneDark} {
		p.Load(server.URL+"/", screen)
		if got := p.Text("h1"); got != hostile {
			t.Errorf("a hostile name shows as %q", got)
		}
		if got, want := p.Text("#facts"), "1.0 MiB | 1,234,567 | 2031-02-03 04:05:06 | 12.3ms"; got != want {
			t.Errorf("facts %q, want %q", got, want)
		}
		if got, want := p.Text("figcaption"), "<backlog>: now 4, at most 8 in the last 2m0s"; got != want {
			t.Errorf("the chart says %q, want %q", got, want)
		}
		if got := browsertest.Evaluate[string](p, `document.title`); got != "A <title>" {
			t.Errorf("title %q", got)
		}
		if got := p.Overflow(); got != 0 {
			t.Errorf("on %+v the page is %d pixels too wide", screen, got)
		}
		if got := p.Problems(); len(got) != 0 {
			t.Errorf("problems: %v", got)
		}
		if got := p.Requests(); len(got) != 1 {
			t.Errorf("requests: %v", got)
		}
		back := p.Style("body", "background-color")
		if dark := back == "rgb(16, 21, 28)"; dark != screen.Dark {
			t.Errorf("on %+v the background is %s", screen, back)
		}
	}
}
