package report

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	humanize "github.com/dustin/go-humanize"

	"github.com/polykv/polykv/bench/internal/plan"
)

// number writes x with three digits.
func number(x float64) string {
	switch {
	case x == 0:
		return "0"
	case x >= 999.5:
		return humanize.Comma(int64(scaled(x)))
	case x >= 99.95:
		return strconv.FormatFloat(x, 'f', 0, 64)
	case x >= 9.995:
		return strconv.FormatFloat(x, 'f', 1, 64)
	default:
		return strconv.FormatFloat(x, 'f', 2, 64)
	}
}

// scaled keeps three digits of x, which is at least 1,000.
func scaled(x float64) float64 {
	unit := 1.0
	for x/unit >= 999.5 {
		unit *= 10
	}
	return float64(int64(x/unit+0.5)) * unit
}

// amount writes a figure with its unit.
func amount(f plan.Figure, x float64) string {
	switch f {
	case plan.Rate:
		return number(x) + "/s"
	case plan.Bytes:
		return number(x) + " B"
	case plan.Count:
		return number(x)
	case plan.Idle:
		return number(100*x) + " %"
	}
	return seconds(x)
}

func seconds(x float64) string {
	switch {
	case x >= 1:
		return number(x) + " s"
	case x >= 1e-3:
		return number(x*1e3) + " ms"
	case x >= 1e-6:
		return number(x*1e6) + " µs"
	}
	return number(x*1e9) + " ns"
}

// Text is m for a terminal.
func (m Measured) Text() string {
	row := rowOf(m.Row)
	var b strings.Builder
	title := fmt.Sprintf("%s on %s", row.Title, m.Backend)
	if len(row.Curve) > 0 {
		title += fmt.Sprintf(", %s %s", number(m.X), row.Axis)
	}
	fmt.Fprintln(&b, title)
	for _, name := range m.names() {
		s := m.Contestants[name]
		fmt.Fprintf(&b, "  %-12s %12s  %s", name, amount(row.Figure, median(s.Samples)), s.spread(row.Figure))
		if ratio, ok := ratioOf(row.Figure, m.Contestants[plan.Polykv], s); ok && name != plan.Polykv {
			fmt.Fprintf(&b, "  polykv is %sx (%s to %s)", number(ratio.Median), number(ratio.Lowest), number(ratio.Highest))
		}
		fmt.Fprintf(&b, "  cpu %s/call, %s allocs", seconds(median(s.CPU)), number(median(s.Allocs)))
		for _, extra := range slices.Sorted(maps.Keys(s.Values)) {
			fmt.Fprintf(&b, ", %s %.4g", extra, median(s.Values[extra]))
		}
		fmt.Fprintln(&b, s.trouble())
	}
	return b.String()
}

// spread is the lowest and the highest sample.
func (s *Series) spread(f plan.Figure) string {
	if len(s.Samples) < 2 {
		return ""
	}
	return amount(f, slices.Min(s.Samples)) + " to " + amount(f, slices.Max(s.Samples))
}

// trouble tells what went wrong, if anything did.
func (s *Series) trouble() string {
	var text string
	if failed := median(s.Failed); failed > 0 {
		text += fmt.Sprintf("; %s %% of the calls failed", number(100*failed))
	}
	if s.Lost > 0 {
		text += fmt.Sprintf("; %d acknowledged writes lost", s.Lost)
	}
	if s.Error != "" {
		text += "; could not go on: " + s.Error
	}
	return text
}

func rowOf(id string) plan.Row {
	for _, row := range plan.Rows() {
		if row.ID == id {
			return row
		}
	}
	return plan.Row{ID: id, Title: id}
}
