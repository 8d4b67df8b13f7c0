package browsertest_test

import (
	"bytes"
	"fmt"
	"image/png"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/polykv/polykv/internal/browsertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serve(t *testing.T, policy, body string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Security-Policy", policy)
		_, _ = fmt.Fprintf(w, `<!DOCTYPE html><meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">%s`, body)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/"
}

func TestPageTellsWhatAReaderMeets(t *testing.T) {
	p := browsertest.Open(t)
	url := serve(t, "", `<style>body{margin:0;color:rgb(1,2,3)} @media (prefers-color-scheme: dark){body{color:rgb(4,5,6)}}</style>
		<p id=a>seen<span hidden>unseen</span></p><div style="width:400px">wide</div>`)

	p.Load(url, browsertest.Desktop)
	if got := p.Text("#a"); got != "seen" {
		t.Errorf("text %q", got)
	}
	if got := p.Overflow(); got != 0 {
		t.Errorf("a desktop overflows by %d", got)
	}
	if got := p.Requests(); len(got) != 1 || got[0] != url {
		t.Errorf("requests %v", got)
	}
	if got := p.Problems(); len(got) != 0 {
		t.Errorf("problems %v", got)
	}
	if got := p.Style("body", "color"); got != "rgb(1, 2, 3)" {
		t.Errorf("colour %q", got)
	}

	p.Load(url, browsertest.PhoneDark)
	if got := p.Overflow(); got < 40 || got > 45 { // a phone zooms out, and rounds
		t.Errorf("400 pixels on a phone of 360 overflow by %d", got)
	}
	if got := p.Style("body", "color"); got != "rgb(4, 5, 6)" {
		t.Errorf("colour in the dark %q", got)
	}
	if image, err := png.Decode(bytes.NewReader(p.Screenshot())); err != nil || image.Bounds().Dx() < 360 {
		t.Errorf("screenshot: %v", err)
	}
}

func TestProblemsTellWhatThePolicyStopped(t *testing.T) {
	p := browsertest.Open(t)
	p.Load(serve(t, "default-src 'none'; img-src data:", `<script>document.title = "ran"</script>`), browsertest.Phone)
	if browsertest.Evaluate[string](p, `document.title`) == "ran" {
		t.Error("the script ran")
	}
	if got := strings.Join(p.Problems(), "\n"); !strings.Contains(got, "Content Security Policy") {
		t.Errorf("problems %q", got)
	}

	p.Load(serve(t, "", `<img src="/missing.png">`), browsertest.Phone)
	if got := p.Requests(); len(got) != 2 || !strings.HasSuffix(got[1], "/missing.png") {
		t.Errorf("requests %v", got)
	}
	if got := strings.Join(p.Problems(), "\n"); !strings.Contains(got, "404") {
		t.Errorf("problems %q", got)
	}
}
