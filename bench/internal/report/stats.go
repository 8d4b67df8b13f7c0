package report

import (
	"math"
	"slices"

	"github.com/polykv/polykv/bench/internal/plan"
)

// round keeps four digits, which is more than any of these figures is good for.
func round(x float64) float64 {
	if x == 0 || math.IsInf(x, 0) || math.IsNaN(x) {
		return 0
	}
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(x))))
	return math.Round(x*scale) / scale
}

func median(xs []float64) float64 {
	if len(xs) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(xs))
	mid := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[mid]
	}
	return (sorted[mid-1] + sorted[mid]) / 2
}

// Ratio says how many times as good a was as b.
type Ratio struct{ Median, Lowest, Highest float64 }

// ratioOf compares round by round, since what disturbs one round on a busy
// machine disturbs both.
func ratioOf(figure plan.Figure, a, b *Series) (Ratio, bool) {
	if a == nil || b == nil {
		return Ratio{}, false
	}
	var all []float64
	for i := range min(len(a.Samples), len(b.Samples)) {
		x, y := a.Samples[i], b.Samples[i]
		if !figure.Better() {
			x, y = y, x
		}
		if y > 0 {
			all = append(all, x/y)
		}
	}
	if len(all) == 0 {
		return Ratio{}, false
	}
	return Ratio{median(all), slices.Min(all), slices.Max(all)}, true
}

// ratioOfTimes returns how many times as long b takes as a, round by round.
func ratioOfTimes(a, b []float64) float64 {
	ratio, _ := ratioOf(plan.CPU, &Series{Samples: a}, &Series{Samples: b})
	return ratio.Median
}
