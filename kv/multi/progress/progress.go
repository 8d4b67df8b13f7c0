// Package progress shows what a multi-client is doing as a web page: its
// phase, both records, what was mirrored and what failed, the backlog over
// time, and what the last comparison found. It is a package of its own so that
// a program that shows no page links no web server.
package progress

import (
	_ "embed"
	"net/http"
	"time"

	"github.com/polykv/polykv/internal/webpage"
	"github.com/polykv/polykv/kv/multi"
)

//go:embed progress.gohtml
var text string

var page = webpage.MustParse("progress", text)

// refresh is how often the page loads itself again.
const refresh = 5 * time.Second

// Source is what the page shows; *multi.Client is one.
type Source interface {
	Status() multi.Status
}

// Handler serves the status of s as a page for people, and as JSON (that of
// [multi.Status]) for requests that have "format=json" in their query or
// prefer JSON by their Accept header. It answers GET and HEAD, contacts no
// store, and shows keys but never values.
//
// Keys, names of stores and error messages are there for whoever can reach
// it: serve it where operators look, not in public.
func Handler(s Source) http.Handler {
	return webpage.Handler(webpage.Options{Title: "polykv: mirroring and migration", Refresh: refresh}, page,
		func(*http.Request) (any, error) { return view{Status: s.Status()}, nil })
}

// view is a Status and what only the page shows of it. As JSON it is the
// Status.
type view struct{ multi.Status }

// patience is how long no store may be primary before that is shown as a
// problem: a cutover that is undone has ended by then.
const patience = 15 * time.Second

// Alarming reports whether the problem needs somebody: during a cutover that
// goes as it should, no store is primary for a moment.
func (v view) Alarming() bool { return v.Phase != multi.PhaseCutover || v.NoPrimaryFor > patience }

// Chart is the backlog over time.
func (v view) Chart() webpage.Series {
	s := webpage.Series{Label: "Keys waiting to be mirrored", Points: make([]webpage.Point, 0, len(v.Samples))}
	for _, sample := range v.Samples {
		s.Points = append(s.Points, webpage.Point{At: sample.At, Value: float64(sample.Backlog)})
	}
	return s
}

// explanations say what each phase means for writes.
var explanations = map[multi.Phase]string{
	multi.PhasePlain:     "Not coordinated: this process alone decides which store is the primary.",
	multi.PhaseSwitching: "The primary of this process is being switched; writes wait until that is done.",
	multi.PhaseUnknown:   "No record of either store is known yet; writes wait.",
	multi.PhaseMirroring: "One store is primary, and what is written to it is mirrored into the other one.",
	multi.PhaseCutover:   "The old primary is sealed and the new one is being completed; writes wait.",
	multi.PhaseMoved:     "The new store is primary; the old one is sealed, and nothing is mirrored back yet.",
	multi.PhaseFinished:  "One store is primary and the other one is out of use.",
	multi.PhaseFenced:    "No store is primary; writes wait until a record says so.",
}

// Explain says in a sentence what the phase means for writes.
func (v view) Explain() string { return explanations[v.Phase] }
