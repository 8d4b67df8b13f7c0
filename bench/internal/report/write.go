package report

import (
	"os"
	"path/filepath"

	"github.com/polykv/polykv/bench/internal/plan"
)

// FileNames are the files of the benchmark.
type FileNames struct {
	Results string // what was measured
	Docs    string // the folder that the document and its charts go to
}

// Files returns them, for a bench module in dir.
func Files(dir string) FileNames {
	return FileNames{
		Results: filepath.Join(dir, "results", "results.json"),
		Docs:    filepath.Join(dir, "..", "docs"),
	}
}

// Write writes the document and its charts.
func (r *Results) Write(files FileNames) error {
	for name, text := range r.Render() {
		file := filepath.Join(files.Docs, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

const charts = "benchmarks" // folder of the charts, below docs

// Render returns the document and its charts by name.
func (r *Results) Render() map[string]string {
	all := map[string]string{"benchmarks.md": r.document()}
	if bars := r.bars(); len(bars) > 0 {
		all[charts+"/overview.svg"] = barChart("polykv compared to dskit at its defaults (1 is equal, right is better)", bars)
	}
	for _, row := range plan.Rows() {
		if len(row.Curve) > 0 {
			if lines := r.lines(row); len(lines) > 0 {
				all[charts+"/"+row.ID+".svg"] = lineChart(row, lines)
			}
		}
	}
	return all
}

// bars are the ratios to dskit of every row.
func (r *Results) bars() []bar {
	var all []bar
	for _, m := range r.Measured {
		row := rowOf(m.Row)
		ratio, ok := ratioOf(row.Figure, m.Contestants[plan.Polykv], m.Contestants[plan.Dskit])
		if ok && len(row.Curve) == 0 {
			all = append(all, bar{row.Title, plan.BackendTitle(m.Backend), ratio.Median})
		}
	}
	return all
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

// of returns what was measured of a row on a backend: several for a curve.
func (r *Results) of(row, backend string) []Measured {
	var all []Measured
	for _, m := range r.Measured {
		if m.Row == row && m.Backend == backend {
			all = append(all, m)
		}
	}
	return all
}
