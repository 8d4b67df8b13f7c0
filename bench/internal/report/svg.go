package report

import (
	"encoding/xml"
	"fmt"
	"math"
	"strings"

	"github.com/polykv/polykv/bench/internal/plan"
)

// A chart is a hundred lines of SVG here, and the same bytes for the same
// results, which a chart library does not promise.

const (
	svgHead = `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">` + "\n" +
		`<rect width="100%%" height="100%%" fill="#ffffff"/>` + "\n"
	ink  = "#24292f"
	pale = "#d0d7de"
)

// colours are apart in lightness too, for those who don't see them all.
func colour(name string) string {
	switch name {
	case plan.Polykv:
		return "#0550ae"
	case plan.Dskit:
		return "#d4a72c"
	case plan.DskitTuned:
		return "#9a6700"
	case plan.Cortex:
		return "#8250df"
	}
	return "#57606a"
}

type canvas struct{ strings.Builder }

func (c *canvas) start(width, height int) { fmt.Fprintf(c, svgHead, width, height, width, height) }

func (c *canvas) text(x, y float64, anchor, words string) {
	fmt.Fprintf(c, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">`, x, y, anchor, ink)
	_ = xml.EscapeText(c, []byte(words)) // a strings.Builder never fails
	c.WriteString("</text>\n")
}

func (c *canvas) rule(x1, y1, x2, y2 float64, stroke string) {
	fmt.Fprintf(c, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`+"\n", x1, y1, x2, y2, stroke)
}

func (c *canvas) end() string {
	c.WriteString("</svg>\n")
	return c.String()
}

// scale places values between from and to on a logarithmic axis.
type scale struct{ low, high, from, to float64 }

// newScale spans whole powers of ten.
func newScale(values []float64, from, to float64) scale {
	low, high := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		if v > 0 {
			low, high = min(low, math.Floor(math.Log10(v))), max(high, math.Ceil(math.Log10(v)))
		}
	}
	if low >= high {
		high = low + 1
	}
	return scale{low, high, from, to}
}

func (s scale) at(v float64) float64 {
	if v <= 0 {
		return s.from
	}
	return s.from + (math.Log10(v)-s.low)/(s.high-s.low)*(s.to-s.from)
}

func (s scale) ticks() []float64 {
	var all []float64
	for e := s.low; e <= s.high; e++ {
		all = append(all, math.Pow(10, e))
	}
	return all
}

type bar struct {
	title, backend string
	value          float64
}

// barChart shows ratios.
func barChart(title string, bars []bar) string {
	const width, left, right, top, step = 980, 560.0, 920.0, 44.0, 19.0
	var c canvas
	height := int(top+step*float64(len(bars))) + 34
	c.start(width, height)
	c.text(12, 22, "start", title)
	values := []float64{0.9, 10}
	for _, b := range bars {
		values = append(values, b.value)
	}
	s := newScale(values, left, right)
	bottom := top + step*float64(len(bars))
	for _, tick := range s.ticks() {
		c.rule(s.at(tick), top-6, s.at(tick), bottom, pale)
		c.text(s.at(tick), bottom+16, "middle", number(tick))
	}
	for i, b := range bars {
		y := top + step*float64(i)
		from, to := s.at(1), s.at(b.value)
		fill := colour(plan.Polykv)
		if b.value < 1 {
			from, to, fill = to, from, colour(plan.Dskit)
		}
		fmt.Fprintf(&c, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n", from, y, max(to-from, 1), step-5, fill)
		c.text(left-8, y+11, "end", b.title+" · "+b.backend)
		c.text(max(from, to)+4, y+11, "start", number(b.value))
	}
	c.rule(s.at(1), top-6, s.at(1), bottom, ink)
	return c.end()
}

type line struct {
	name, backend string
	points        [][2]float64
}

// dashes tell backends apart, colours contestants.
func dashes(backend string) string {
	return map[string]string{plan.Etcd: "6 3", plan.Consul: "2 3"}[backend]
}

// lineChart shows curves, both axes logarithmic.
func lineChart(row plan.Row, lines []line) string {
	const width, height, left, right, top, bottom = 760, 380, 80.0, 520.0, 44.0, 330.0
	var c canvas
	c.start(width, height)
	c.text(12, 22, "start", row.Title)
	var xs, ys []float64
	for _, l := range lines {
		for _, p := range l.points {
			xs, ys = append(xs, p[0]), append(ys, p[1])
		}
	}
	sx, sy := newScale(xs, left, right), newScale(ys, bottom, top)
	for _, tick := range sx.ticks() {
		c.rule(sx.at(tick), top, sx.at(tick), bottom, pale)
		c.text(sx.at(tick), bottom+16, "middle", number(tick))
	}
	for _, tick := range sy.ticks() {
		c.rule(left, sy.at(tick), right, sy.at(tick), pale)
		c.text(left-6, sy.at(tick)+4, "end", amount(row.Figure, tick))
	}
	c.text((left+right)/2, bottom+38, "middle", row.Axis)
	for i, l := range lines {
		var path []string
		for _, p := range l.points {
			path = append(path, fmt.Sprintf("%.1f,%.1f", sx.at(p[0]), sy.at(p[1])))
		}
		style := fmt.Sprintf(`fill="none" stroke="%s" stroke-width="2" stroke-dasharray="%s"`, colour(l.name), dashes(l.backend))
		fmt.Fprintf(&c, `<polyline points="%s" %s/>`+"\n", strings.Join(path, " "), style)
		y := top + 18*float64(i)
		fmt.Fprintf(&c, `<polyline points="%.1f,%.1f %.1f,%.1f" %s/>`+"\n", right+20, y, right+48, y, style)
		c.text(right+54, y+4, "start", l.name+", "+l.backend)
	}
	return c.end()
}
