// Package report keeps what was measured and writes it down for people.
package report

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/polykv/polykv/bench/internal/plan"
	"github.com/polykv/polykv/bench/workload"
)

// Results is everything that was measured.
type Results struct {
	Machine  Machine
	Versions []Version
	Measured []Measured
}

// Machine is where it was measured.
type Machine struct {
	OS, Arch, Processor, Go string
	Cores                   int
	MemoryGiB               int
}

// Version is the release of a contestant or server.
type Version struct{ Name, Version string }

// Measured is one row on one backend, or one point of a curve.
type Measured struct {
	Row, Backend string
	X            float64 `json:",omitempty"`
	Contestants  map[string]*Series
}

// names returns who took part, in the order of the document.
func (m Measured) names() []string {
	return slices.DeleteFunc(plan.Contestants(), func(name string) bool { return m.Contestants[name] == nil })
}

// Series is what one contestant achieved.
type Series struct {
	Error   string    `json:",omitempty"` // it could not go on
	Samples []float64 // the figure of the row, round by round

	// Medians over the rounds.
	CPU    []float64            `json:",omitempty"` // seconds of processor time, by call
	Allocs []float64            `json:",omitempty"` // allocations, by call
	Failed []float64            `json:",omitempty"` // share of the calls
	Lost   int64                `json:",omitempty"` // acknowledged writes, of all rounds
	Values map[string][]float64 `json:",omitempty"` // what else the work measured
}

// Add takes in a sample.
func (s *Series) Add(figure plan.Figure, from workload.Sample) {
	calls := float64(max(from.Calls, 1))
	s.Samples = append(s.Samples, figureOf(figure, from))
	s.CPU = append(s.CPU, round(from.CPUSeconds/calls))
	s.Allocs = append(s.Allocs, round(from.Allocs/calls))
	s.Failed = append(s.Failed, round(float64(from.Failed)/float64(max(from.Calls+from.Failed, 1))))
	s.Lost += from.Lost
	for name, value := range from.Values {
		if name == string(figure) {
			continue
		}
		if s.Values == nil {
			s.Values = map[string][]float64{}
		}
		s.Values[name] = append(s.Values[name], round(value))
	}
}

func figureOf(figure plan.Figure, from workload.Sample) float64 {
	switch figure {
	case plan.Rate:
		return round(float64(from.Calls) / from.Seconds)
	case plan.CPU:
		return round(from.CPUSeconds / float64(max(from.Calls, 1)))
	case plan.Idle:
		return round(from.CPUSeconds / from.Seconds)
	}
	return round(from.Values[string(figure)])
}

// Load reads stored results; none are stored yet if there is no file.
func Load(file string) (*Results, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return &Results{}, nil
	}
	if err != nil {
		return nil, err
	}
	r := &Results{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}

// Put adds m, in place of what was measured of the same before.
func (r *Results) Put(m Measured) {
	r.Measured = slices.DeleteFunc(r.Measured, func(old Measured) bool {
		return old.Row == m.Row && old.Backend == m.Backend && old.X == m.X
	})
	r.Measured = append(r.Measured, m)
	slices.SortFunc(r.Measured, func(a, b Measured) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.X, b.X))
	})
}

// rank is the place of m in the plan.
func rank(m Measured) int {
	row := slices.IndexFunc(plan.Rows(), func(r plan.Row) bool { return r.ID == m.Row })
	return row*len(plan.Backends()) + slices.Index(plan.Backends(), m.Backend)
}

// Save writes r to file.
func (r *Results) Save(file string) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}
