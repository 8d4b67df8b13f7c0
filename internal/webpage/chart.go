package webpage

import (
	"fmt"
	"html/template"
	"strings"
	"time"
)

// Point is one value at one moment.
type Point struct {
	At    time.Time
	Value float64
}

// Series is what the template function chart draws.
type Series struct {
	Label  string // what is counted, for those who can't see the chart and for those who can
	Points []Point
}

// The chart's size in its own units; the page scales it.
const (
	chartWidth  = 600
	chartHeight = 120
)

// chartOf draws s as an SVG line over time, from 0 to the largest value, with
// its range in words.
func chartOf(s Series) template.HTML {
	if len(s.Points) < 2 {
		return template.HTML(fmt.Sprintf("<p>%s: not enough values for a chart yet.</p>", template.HTMLEscapeString(s.Label))) //nolint:gosec // escaped
	}
	first, last := s.Points[0], s.Points[len(s.Points)-1]
	highest := first.Value
	for _, p := range s.Points {
		highest = max(highest, p.Value)
	}
	span := last.At.Sub(first.At)
	var path strings.Builder
	for i, p := range s.Points {
		x, y := 0.0, float64(chartHeight)
		if span > 0 {
			x = float64(chartWidth) * float64(p.At.Sub(first.At)) / float64(span)
		}
		if highest > 0 {
			y -= chartHeight * p.Value / highest
		}
		command := 'L'
		if i == 0 {
			command = 'M'
		}
		fmt.Fprintf(&path, "%c%.1f %.1f", command, x, y)
	}
	label := template.HTMLEscapeString(s.Label)
	text := fmt.Sprintf("%s: now %s, at most %s in the last %s", label, number(last.Value), number(highest), spanOf(span.Round(time.Second)))
	return template.HTML(fmt.Sprintf( //nolint:gosec // numbers, and a label that was escaped
		`<figure><svg viewBox="0 -4 %d %d" preserveAspectRatio="none" role="img" aria-label="%s"><path d="%s"/></svg><figcaption>%s</figcaption></figure>`,
		chartWidth, chartHeight+8, text, path.String(), text))
}

func number(v float64) string { return fmt.Sprintf("%.4g", v) }
