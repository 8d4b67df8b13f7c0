package browsertest_test

import (
	"os"
	"strings"
	"testing"

	"github.com/polykv/polykv/internal/browsertest"
)

// page is what a page is to show.
type page struct {
	title string            // which a script of somebody else's would change
	texts map[string]string // by selector
}

// checkPage wants the page that is loaded to show what it should, to fit the
// screen, to be light or dark as that is, and to ask for nothing but itself.
func checkPage(t *testing.T, p *browsertest.Page, screen browsertest.Screen, want page) {
	t.Helper()
	for selector, text := range want.texts {
		if got := strings.TrimSpace(p.Text(selector)); got != text {
			t.Errorf("on %+v %s shows %q, want %q", screen, selector, got, text)
		}
	}
	if n := p.Overflow(); n > 0 {
		t.Errorf("on %+v the page is %d pixels too wide", screen, n)
	}
	if got := p.Requests(); len(got) != 1 {
		t.Errorf("the page asks for more than itself: %q", got)
	}
	if got := p.Problems(); len(got) != 0 {
		t.Errorf("the browser reports %q", got)
	}
	if title := browsertest.Evaluate[string](p, "document.title"); title != want.title {
		t.Errorf("the title is %q, want %q", title, want.title)
	}
	if dark := p.Style("body", "background-color") != "rgb(255, 255, 255)"; dark != screen.Dark {
		t.Errorf("on %+v the page is dark: %v", screen, dark)
	}
}

// screenshot writes a picture of the page, if POLYKV_SCREENSHOTS names a folder.
func screenshot(t *testing.T, p *browsertest.Page, name string) {
	t.Helper()
	if dir := os.Getenv("POLYKV_SCREENSHOTS"); dir != "" {
		if err := os.WriteFile(dir+"/"+name, p.Screenshot(), 0o600); err != nil {
			t.Error(err)
		}
	}
}
