package report

import (
	"os"
	"path/filepath"
)

// FileNames are the files of the benchmark.
type FileNames struct {
	Results  string // what was measured
	Document string // what is written of it
}

// Files returns them, for a bench module in dir.
func Files(dir string) FileNames {
	return FileNames{
		Results:  filepath.Join(dir, "results", "results.json"),
		Document: filepath.Join(dir, "..", "docs", "benchmarks.md"),
	}
}

// Write writes the document.
func (r *Results) Write(files FileNames) error {
	return os.WriteFile(files.Document, []byte(r.document()), 0o644)
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
