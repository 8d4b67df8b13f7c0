package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/polykv/polykv/bench/internal/plan"
)

// line is a curve of one contestant.
type line struct {
	name, backend string
	points        [][2]float64
}

// curve writes a row whose figure depends on the size of something.
func (r *Results) curve(b *strings.Builder, row plan.Row) {
	lines := r.lines(row)
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "\n### %s\n\n%s\n\n", row.Title, row.Shape)
	fmt.Fprintf(b, "| %s |", row.Axis)
	for _, l := range lines {
		fmt.Fprintf(b, " %s, %s |", l.name, l.backend)
	}
	b.WriteString("\n|--:|" + strings.Repeat("--:|", len(lines)) + "\n")
	for _, x := range xs(lines) {
		fmt.Fprintf(b, "| %s |", number(x))
		for _, l := range lines {
			text := ""
			for _, p := range l.points {
				if p[0] == x {
					text = amount(row.Figure, p[1])
				}
			}
			fmt.Fprintf(b, " %s |", text)
		}
		b.WriteString("\n")
	}
	r.extras(b, row)
}

// lines are the curves of a row, one for each contestant and backend.
func (r *Results) lines(row plan.Row) []line {
	var all []line
	for _, backend := range plan.Backends() {
		for _, name := range row.On[backend].Contestants {
			l := line{name: name, backend: backend}
			for _, m := range r.of(row.ID, backend) {
				if s := m.Contestants[name]; s != nil && len(s.Samples) > 0 {
					l.points = append(l.points, [2]float64{m.X, median(s.Samples)})
				}
			}
			if len(l.points) > 0 {
				all = append(all, l)
			}
		}
	}
	return all
}

func xs(lines []line) []float64 {
	all := map[float64]bool{}
	for _, l := range lines {
		for _, p := range l.points {
			all[p[0]] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// extras writes, of the largest point, what the work measured besides, and
// what went wrong.
func (r *Results) extras(b *strings.Builder, row plan.Row) {
	var notes []string
	for _, backend := range plan.Backends() {
		all := r.of(row.ID, backend)
		for i, m := range all {
			for _, name := range m.names() {
				s := m.Contestants[name]
				at := fmt.Sprintf("- %s, %s, at %s: ", plan.BackendTitle(backend), name, number(m.X))
				if trouble := strings.TrimPrefix(s.trouble(), "; "); trouble != "" {
					notes = append(notes, at+trouble+".\n")
				}
				var values []string
				for _, value := range []string{"goroutines", "streams"} {
					if xs := s.Values[value]; len(xs) > 0 && i == len(all)-1 {
						unit := map[string]string{"goroutines": "goroutines by watch", "streams": "streams to the server"}[value]
						values = append(values, number(median(xs))+" "+unit)
					}
				}
				if len(values) > 0 {
					notes = append(notes, at+strings.Join(values, ", ")+".\n")
				}
			}
		}
	}
	if len(notes) > 0 {
		b.WriteString("\n" + strings.Join(notes, ""))
	}
}
