// The bench command measures polykv beside other libraries, on the same
// servers in the same run, and writes what it found down.
//
//	go -C bench run .                        everything, about 25 minutes
//	go -C bench run . -quick                 everything, roughly, in 5 minutes
//	go -C bench run . -rows cas,get -backend etcd,memory
//	go -C bench run . -write                 only write the document again
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"

	"github.com/polykv/polykv/bench/internal/contestant"
	"github.com/polykv/polykv/bench/internal/plan"
	"github.com/polykv/polykv/bench/internal/report"
	"github.com/polykv/polykv/bench/internal/run"
	"github.com/polykv/polykv/bench/workload"
	"github.com/polykv/polykv/internal/testserver"
)

type options struct {
	contestant    string
	rows, backend string
	quick, write  bool
	rounds        int
	seconds       float64
	dir           string
}

func main() {
	var o options
	flag.StringVar(&o.contestant, "contestant", "", "be this contestant (the benchmark starts itself with it)")
	flag.StringVar(&o.rows, "rows", "", "ids of the rows to measure, with commas; default: all")
	flag.StringVar(&o.backend, "backend", "", "backends to measure on, with commas; default: all")
	flag.BoolVar(&o.quick, "quick", false, "fewer and shorter samples, and of each curve two points")
	flag.BoolVar(&o.write, "write", false, "measure nothing, write the document of the stored results")
	flag.IntVar(&o.rounds, "rounds", 0, "samples of each contestant; default 5, quick 2")
	flag.Float64Var(&o.seconds, "seconds", 0, "length of a sample; default 0.6, quick 0.25")
	flag.StringVar(&o.dir, "dir", ".", "the folder of the bench module")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := o.run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (o *options) run(ctx context.Context) error {
	if o.contestant != "" {
		open := map[string]workload.Opener{"polykv": contestant.Polykv, "raw": contestant.Raw, "bare": contestant.Bare}[o.contestant]
		if open == nil {
			return fmt.Errorf("no contestant %q in this program; there are polykv, raw and bare", o.contestant)
		}
		return workload.Serve(os.Stdin, os.Stdout, open)
	}
	files := report.Files(o.dir)
	results, err := report.Load(files.Results)
	if err != nil {
		return err
	}
	if !o.write {
		if err := o.measure(ctx, files, results); err != nil {
			return err
		}
	}
	return results.Write(files)
}

func (o *options) measure(ctx context.Context, files report.FileNames, results *report.Results) error {
	rows, backends, err := o.selected()
	if err != nil {
		return err
	}
	rounds, seconds := 5, 0.6
	if o.quick {
		rounds, seconds = 2, 0.25
	}
	rounds, seconds = cmp.Or(max(o.rounds, 0), rounds), cmp.Or(max(o.seconds, 0), seconds)
	if err := results.Describe(ctx, o.dir); err != nil {
		return err
	}
	runner := run.New(run.Options{Rounds: rounds, Seconds: seconds, Rough: o.quick, Dir: o.dir, Log: os.Stderr})
	for _, backend := range backends {
		there := slices.DeleteFunc(slices.Clone(rows), func(row plan.Row) bool { return row.On[backend].Contestants == nil })
		if len(there) == 0 {
			continue
		}
		err := runner.Backend(ctx, backend, there, func(m report.Measured) error {
			fmt.Print(m.Text())
			results.Put(m)
			return results.Save(files.Results)
		})
		if errors.Is(err, testserver.ErrNoPostgres) {
			fmt.Fprintf(os.Stderr, "NOTE: nothing was measured on %s: %v\n", backend, err)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// selected returns the rows and backends that were asked for.
func (o *options) selected() (rows []plan.Row, backends []string, err error) {
	var ids []string
	for _, row := range plan.Rows() {
		ids = append(ids, row.ID)
	}
	wanted, err := choose("row", o.rows, ids)
	if err != nil {
		return nil, nil, err
	}
	rows = slices.DeleteFunc(plan.Rows(), func(row plan.Row) bool { return !slices.Contains(wanted, row.ID) })
	backends, err = choose("backend", o.backend, plan.Backends())
	return rows, backends, err
}

func choose(kind, list string, known []string) ([]string, error) {
	if list == "" {
		return known, nil
	}
	chosen := strings.Split(list, ",")
	for _, name := range chosen {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("no %s %q; there are %s", kind, name, strings.Join(known, ", "))
		}
	}
	return chosen, nil
}
