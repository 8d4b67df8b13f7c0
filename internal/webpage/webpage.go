// Package webpage serves a snapshot of something as a page for people and as JSON for programs. Its pages are plain
// semantic HTML that needs no script and nothing from elsewhere, and what they show is untrusted: html/template escapes
// it, and a content security policy stops whatever would get through.
package webpage

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"reflect"
	"strings"
	"time"

	humanize "github.com/dustin/go-humanize"
)

//go:embed webpage.css
var style string

// policy allows the one style sheet and nothing else: no script, no request, no form, no frame around the page.
var policy = fmt.Sprintf("default-src 'none'; style-src 'sha256-%s'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	hash(style))

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.StdEncoding.EncodeToString(sum[:])
}

var layout = template.Must(template.New("layout").Parse(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
{{- if .Refresh}}
<meta http-equiv="refresh" content="{{.Refresh}}">
{{- end}}
<link rel="icon" href="data:,">
<title>{{.Title}}</title>
<style>{{.Style}}</style>
</head>
<body>
<main>
{{.Body}}
</main>
<footer><p><a href="?format=json">The same as JSON</a></p></footer>
</body>
</html>
`))

// Options are what is not in the snapshot.
type Options struct {
	Title   string
	Refresh time.Duration // the page loads itself again so often, in whole seconds; 0: never
}

// MustParse parses the template of a page's main part, and panics if it is
// wrong. Besides html/template's own functions it may use:
//
//	bytes N    a number of bytes, as in 1.2 MiB
//	count N    an integer, its thousands separated
//	moment T   a time.Time, in UTC
//	span D     a time.Duration, rounded for reading
//	chart S    a [Series] as a small chart
func MustParse(name, text string) *template.Template {
	return template.Must(template.New(name).Funcs(template.FuncMap{
		"bytes":  sizeOf,
		"count":  countOf,
		"moment": momentOf,
		"span":   spanOf,
		"chart":  chartOf,
	}).Parse(text))
}

// Handler serves what snapshot returns, through the template body as HTML, or
// as JSON for a request with "format=json" in its query or with an Accept
// header that prefers JSON. It answers GET and HEAD.
//
// snapshot is called once for each request, concurrently.
func Handler(o Options, body *template.Template, snapshot func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", policy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cache-Control", "no-store")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			header.Set("Allow", "GET, HEAD")
			http.Error(w, "this page can only be read", http.StatusMethodNotAllowed)
			return
		}
		data, err := snapshot(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		contentType, text, err := render(o, body, data, wantsJSON(r))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		header.Set("Content-Type", contentType)
		header.Set("Vary", "Accept")
		_, _ = w.Write(text) // a reader who left is nobody's error
	})
}

func render(o Options, body *template.Template, data any, asJSON bool) (contentType string, text []byte, err error) {
	if asJSON {
		text, err = json.MarshalIndent(data, "", "  ")
		return "application/json", append(text, '\n'), err
	}
	// Rendered to the end before anything is sent, so that a failure is an error and not half a page.
	var inner, page bytes.Buffer
	if err := body.Execute(&inner, data); err != nil {
		return "", nil, err
	}
	err = layout.Execute(&page, struct {
		Title   string
		Refresh int
		Style   template.CSS
		Body    template.HTML
	}{o.Title, int(o.Refresh.Seconds()), template.CSS(style), template.HTML(inner.String())}) //nolint:gosec // ours, and what the template above has escaped
	return "text/html; charset=utf-8", page.Bytes(), err
}

// wantsJSON decides by the query, else by which of the two types the Accept
// header names first: a browser names HTML, and whoever names neither gets it
// too.
func wantsJSON(r *http.Request) bool {
	if format := r.URL.Query().Get("format"); format != "" {
		return format == "json"
	}
	accept := r.Header.Get("Accept")
	asJSON, asHTML := strings.Index(accept, "application/json"), strings.Index(accept, "text/html")
	return asJSON >= 0 && (asHTML < 0 || asJSON < asHTML)
}

func sizeOf(n any) (string, error) {
	i, err := integer(n)
	if err != nil || i < 0 {
		return "", fmt.Errorf("bytes: %v is no size", n)
	}
	return humanize.IBytes(uint64(i)), nil
}

func countOf(n any) (string, error) {
	i, err := integer(n)
	return humanize.Comma(i), err
}

func integer(n any) (int64, error) {
	switch v := reflect.ValueOf(n); {
	case v.CanInt():
		return v.Int(), nil
	case v.CanUint():
		return int64(v.Uint()), nil //nolint:gosec // counters of this process, far below
	}
	return 0, fmt.Errorf("count: %T is no integer", n)
}

// momentOf is a moment in both forms that a reader may want.
func momentOf(t time.Time) template.HTML {
	if t.IsZero() {
		return "never"
	}
	utc := t.UTC()
	return template.HTML(fmt.Sprintf(`<time datetime="%s">%s</time>`, utc.Format(time.RFC3339Nano), utc.Format("2006-01-02 15:04:05"))) //nolint:gosec // digits and punctuation
}

// spanOf rounds to three digits or so.
func spanOf(d time.Duration) string {
	for _, unit := range []time.Duration{time.Minute, time.Second, time.Millisecond, time.Microsecond} {
		if d >= 10*unit || d <= -10*unit {
			return d.Round(unit / 10).String()
		}
	}
	return d.String()
}
