package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/polykv/polykv/bench/internal/plan"
	"github.com/polykv/polykv/bench/internal/report"
	"github.com/polykv/polykv/bench/internal/run"
	"github.com/polykv/polykv/bench/workload"
)

// TestMain lets this program be its own contestant, as the benchmark is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "-contestant" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// TestTurns measures a row in which one contestant can't take part.
func TestTurns(t *testing.T) {
	row := plan.Row{
		ID: "cas", Title: "a few", Figure: plan.Rate, Spec: workload.Spec{Work: "cas"},
		On: map[string]plan.Entry{plan.Memory: {Contestants: []string{plan.Polykv, plan.Raw}}},
	}
	var log bytes.Buffer
	runner := run.New(run.Options{Rounds: 3, Seconds: 0.02, Dir: ".", Log: &log})
	var got []report.Measured
	err := runner.Backend(t.Context(), plan.Memory, []plan.Row{row}, func(m report.Measured) error {
		got = append(got, m)
		return nil
	})
	if err != nil || len(got) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	ours, raw := got[0].Contestants[plan.Polykv], got[0].Contestants[plan.Raw]
	if len(ours.Samples) != 3 || ours.Error != "" || ours.Samples[0] <= 0 {
		t.Errorf("polykv: %+v", ours)
	}
	if len(raw.Samples) != 0 || !strings.Contains(raw.Error, "no raw client") {
		t.Errorf("raw: %+v", raw)
	}
	if text := got[0].Text(); !strings.Contains(text, "could not go on: there is no raw client") {
		t.Error(text)
	}
}

func TestSelection(t *testing.T) {
	o := options{rows: "cas,get", backend: "memory"}
	rows, backends, err := o.selected()
	if err != nil || len(rows) != 2 || rows[0].ID != "cas" || len(backends) != 1 {
		t.Errorf("%v, %v, %v", rows, backends, err)
	}
	o = options{}
	if rows, backends, err := o.selected(); err != nil || len(rows) != len(plan.Rows()) || len(backends) != len(plan.Backends()) {
		t.Errorf("%d rows, %v, %v", len(rows), backends, err)
	}
	for _, o := range []options{{rows: "cas,nothing"}, {backend: "paper"}} {
		if _, _, err := o.selected(); err == nil || !strings.Contains(err.Error(), "there are") {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if err := (&options{contestant: "nobody"}).run(context.Background()); err == nil {
		t.Error("a contestant that isn't in this program is no error")
	}
}

// TestPlan: every row can be measured and says what it is about.
func TestPlan(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range plan.Rows() {
		if seen[row.ID] || row.Title == "" || row.Figure == "" || len(row.On) == 0 {
			t.Errorf("row %q: %+v", row.ID, row)
		}
		seen[row.ID] = true
		if len(row.Curve) == 0 && row.Meaning == "" || len(row.Curve) > 0 && (row.Shape == "" || row.Axis == "") {
			t.Errorf("row %q doesn't explain itself", row.ID)
		}
		for backend, entry := range row.On {
			if plan.BackendTitle(backend) == "" || entry.Contestants[0] != plan.Polykv {
				t.Errorf("row %q on %q: %+v", row.ID, backend, entry)
			}
			for _, target := range entry.Must {
				if !strings.Contains(strings.Join(entry.Contestants, "|"), target.Against) {
					t.Errorf("row %q on %s has a target against %s, who takes no part", row.ID, backend, target.Against)
				}
			}
		}
	}
}
