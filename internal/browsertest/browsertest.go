// Package browsertest opens pages in a headless Chromium and tells tests what a reader would meet there: text, layout,
// requests to elsewhere, scripts that the page's policy stopped.
package browsertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// Variable names the browser to use instead of the one on the PATH.
const Variable = "POLYKV_CHROMIUM"

// timeout bounds everything that a page is asked for, the browser's start
// included.
const timeout = 60 * time.Second

// Screen is how a page is shown.
type Screen struct {
	Width, Height int64 // CSS pixels
	Mobile        bool
	Dark          bool // the reader prefers dark colours
}

// The screens that every page should be readable on.
var (
	Desktop   = Screen{Width: 1280, Height: 900}
	Phone     = Screen{Width: 360, Height: 740, Mobile: true}
	PhoneDark = Screen{Width: 360, Height: 740, Mobile: true, Dark: true}
)

// Page is one browser tab. Its methods fail the test when the browser does.
type Page struct {
	t   testing.TB
	ctx context.Context

	mu       sync.Mutex
	requests []string // addresses asked for
	problems []string // what the console reports
}

// Open starts a browser with one empty tab, which ends with the test.
//
// Without a browser the test is skipped, and says so: a page can be worked on
// without one. Where the variable CI is set it fails instead.
func Open(t testing.TB) *Page {
	t.Helper()
	path, err := find()
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatal(err)
	default:
		t.Skip(err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-quic", true),
		chromedp.DisableGPU,
	)
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium refuses to run as root otherwise
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, _ := chromedp.NewContext(allocator, chromedp.WithErrorf(func(string, ...any) {}))
	p := &Page{t: t, ctx: ctx}
	t.Cleanup(func() {
		// Cancel waits for the browser to end, so that its folder can be removed.
		if err := chromedp.Cancel(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("ending the browser: %v", err)
		}
		stop()
	})
	// The first call starts the browser; it must not carry a deadline, which would end the browser with it.
	if err := chromedp.Listen(ctx, p.listen); err != nil {
		t.Fatalf("starting %s: %v", path, err)
	}
	send(p, network.Enable, network.EnableParams{})
	send(p, log.Enable, cdp.Empty{})
	send(p, runtime.Enable, cdp.Empty{})
	return p
}

func find() (string, error) {
	if path := os.Getenv(Variable); path != "" {
		return path, nil
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("no Chromium on the PATH nor in %s: pages are not tested in a browser", Variable)
}

func (p *Page) listen(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		p.requests = append(p.requests, e.Request.URL)
	case *runtime.EventExceptionThrown:
		p.problems = append(p.problems, e.ExceptionDetails.Text)
	case *log.EventEntryAdded:
		p.problems = append(p.problems, fmt.Sprintf("%s: %s", e.Entry.Source, e.Entry.Text))
	}
}

func run[T any](p *Page, action chromedp.Action[T]) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, timeout)
	defer cancel()
	result, err := chromedp.Run(ctx, action)
	if err != nil {
		p.t.Fatal(err)
	}
	return result
}

// send sends one command of the browser's protocol.
func send[P, R any](p *Page, command cdp.Command[P, R], params P) {
	p.t.Helper()
	run(p, func(ctx context.Context, t *chromedp.Target) (R, error) { return cdp.Call(ctx, t, command, params) })
}

// Load shows the page at url on s, and forgets the requests and problems of
// the page before.
func (p *Page) Load(url string, s Screen) {
	p.t.Helper()
	p.mu.Lock()
	p.requests, p.problems = nil, nil
	p.mu.Unlock()
	scheme := "light"
	if s.Dark {
		scheme = "dark"
	}
	send(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: s.Width, Height: s.Height, DeviceScaleFactor: 1, Mobile: s.Mobile,
	})
	send(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
	run(p, chromedp.Navigate(url))
}

// Text is what a reader sees of the first element that the CSS selector finds.
func (p *Page) Text(selector string) string {
	p.t.Helper()
	return run(p, chromedp.Text(chromedp.CSS(selector)))
}

// Evaluate is what the JavaScript expression gives on the page.
func Evaluate[T any](p *Page, expression string) T {
	p.t.Helper()
	return run(p, chromedp.Evaluate[T](expression))
}

// Overflow is by how many CSS pixels the page is wider than its screen: what a
// reader would have to scroll sideways.
func (p *Page) Overflow() int {
	p.t.Helper()
	return Evaluate[int](p, `document.documentElement.scrollWidth - document.documentElement.clientWidth`)
}

// Style is the computed value of one CSS property of the first element that
// the selector finds.
func (p *Page) Style(selector, property string) string {
	p.t.Helper()
	return Evaluate[string](p, fmt.Sprintf(`getComputedStyle(document.querySelector(%q)).getPropertyValue(%q)`, selector, property))
}

// Requests are the addresses that the page has asked for so far, its own
// first.
func (p *Page) Requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.requests...)
}

// Problems are what the page has written to the browser's log and console so
// far: failed requests, exceptions, violations of its policy.
func (p *Page) Problems() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.problems...)
}

// Screenshot is the whole page as a PNG image.
func (p *Page) Screenshot() []byte {
	p.t.Helper()
	return run(p, chromedp.FullScreenshot(100))
}
