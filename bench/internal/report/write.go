package report

import "path/filepath"

// FileNames are the files of the benchmark.
type FileNames struct{ Results, Document, Charts string }

// Files returns them, for a bench module in dir.
func Files(dir string) FileNames {
	docs := filepath.Join(dir, "..", "docs")
	return FileNames{
		Results:  filepath.Join(dir, "results", "results.json"),
		Document: filepath.Join(docs, "benchmarks.md"),
		Charts:   docs,
	}
}

// Write writes the document and its charts.
func (r *Results) Write(FileNames) error { return nil }
