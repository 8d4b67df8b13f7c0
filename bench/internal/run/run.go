package run

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/polykv/polykv/bench/internal/plan"
	"github.com/polykv/polykv/bench/internal/report"
	"github.com/polykv/polykv/bench/workload"
)

// Options say how thorough to be.
type Options struct {
	Rounds  int     // samples of each contestant
	Seconds float64 // of each sample
	Rough   bool    // of a curve two points, and no long samples
	Dir     string  // the folder of the bench module
	Log     io.Writer
}

// Runner measures.
type Runner struct {
	options Options
	built   map[string]string // programs of contestants, by folder
}

// New returns a Runner.
func New(o Options) *Runner { return &Runner{options: o, built: map[string]string{}} }

// command returns the command line of a contestant.
func (r *Runner) command(ctx context.Context, contestant string) ([]string, error) {
	switch contestant {
	case plan.Polykv:
		return executable("-contestant", "polykv")
	case plan.Raw:
		return executable("-contestant", "raw")
	case plan.Bare:
		return executable("-contestant", "bare")
	case plan.Dskit, plan.DskitTuned:
		return r.build(ctx, "dskit")
	case plan.Cortex:
		return r.build(ctx, "cortex")
	}
	return nil, fmt.Errorf("no contestant %q", contestant)
}

// build compiles a contestant that is a module of its own.
func (r *Runner) build(ctx context.Context, name string) ([]string, error) {
	if r.built[name] == "" {
		program, err := filepath.Abs(filepath.Join(r.options.Dir, "bin", name))
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(r.options.Log, "building the contestant %s\n", name)
		cmd := exec.CommandContext(ctx, "go", "build", "-o", program, ".")
		cmd.Dir = filepath.Join(r.options.Dir, "contestants", name)
		cmd.Env = append(os.Environ(), "GOWORK=off") // its versions are its own, not the workspace's
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("building the contestant %s: %w\n%s", name, err, out)
		}
		r.built[name] = program
	}
	return []string{r.built[name]}, nil
}

// Backend measures rows on one backend and hands each result to done.
func (r *Runner) Backend(ctx context.Context, backend string, rows []plan.Row, done func(report.Measured) error) (err error) {
	target, closeServers, err := Start(ctx, backend, r.options.Log)
	if err != nil {
		return err
	}
	defer func() {
		if closing := closeServers(); err == nil {
			err = closing
		}
	}()
	for _, row := range rows {
		for _, point := range r.points(row) {
			m, err := r.measure(ctx, backend, target, row, point)
			if err != nil {
				return fmt.Errorf("%s on %s: %w", row.ID, backend, err)
			}
			if err := done(m); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Runner) points(row plan.Row) []plan.Point {
	switch last := len(row.Curve) - 1; {
	case last < 0:
		return []plan.Point{{Spec: row.Spec}}
	case r.options.Rough:
		return []plan.Point{row.Curve[0], row.Curve[max(0, last-1)]} // the last takes long
	}
	return row.Curve
}

// contest is one contestant in one measurement.
type contest struct {
	name string
	*process
	err error // it is out
}

// measure lets the contestants of a row take turns.
func (r *Runner) measure(ctx context.Context, backend string, target workload.Target, row plan.Row, point plan.Point) (report.Measured, error) {
	m := report.Measured{Row: row.ID, Backend: backend, X: point.X, Contestants: map[string]*report.Series{}}
	spec := point.Spec
	if spec.Seconds = r.options.Seconds; row.Seconds > 0 {
		spec.Seconds = row.Seconds
		if r.options.Rough {
			spec.Seconds /= 3
		}
	}
	rounds := r.options.Rounds
	if row.Rounds > 0 {
		rounds = min(rounds, row.Rounds)
	}
	if r.options.Rough && len(row.Curve) > 0 {
		rounds = 1
	}
	var all []*contest
	defer func() {
		for _, c := range all {
			c.stop()
		}
	}()
	for _, name := range row.On[backend].Contestants {
		command, err := r.command(ctx, name)
		if err != nil {
			return m, err
		}
		p, err := start(ctx, command)
		if err != nil {
			return m, err
		}
		c := &contest{name: name, process: p}
		all = append(all, c)
		m.Contestants[name] = &report.Series{}
		spec.Prefix = strings.ReplaceAll(fmt.Sprintf("bench/%s-%g/%s", row.ID, point.X, name), " ", "-")
		target.Tuned = name == plan.DskitTuned
		if _, c.err = c.ask(workload.Request{Do: "prepare", Target: &target, Spec: &spec}); c.err == nil && !row.Cold {
			_, c.err = c.ask(workload.Request{Do: "sample"}) // to warm up
		}
	}
	if row.Cold {
		rounds = 1
	}
	for round := range rounds {
		for i := range all {
			c := all[(i+round)%len(all)] // nobody is always first
			if c.err != nil || ctx.Err() != nil {
				continue
			}
			var s *workload.Sample
			if s, c.err = c.ask(workload.Request{Do: "sample"}); c.err == nil {
				m.Contestants[c.name].Add(row.Figure, *s)
			}
		}
	}
	for _, c := range all {
		if c.err != nil {
			m.Contestants[c.name].Error = c.err.Error()
		}
	}
	return m, ctx.Err()
}
