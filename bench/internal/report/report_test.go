package report

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/polykv/polykv/bench/internal/plan"
	"github.com/polykv/polykv/bench/workload"
)

// TestDocumentIsThatOfTheResults holds docs/benchmarks.md to what was measured.
func TestDocumentIsThatOfTheResults(t *testing.T) {
	_ = os.Getenv("POLYKV_TREE") // set by make test, so that no result from before a change of other modules' files is taken
	files := Files("../..")
	r, err := Load(files.Results)
	if err != nil || len(r.Measured) == 0 {
		t.Fatalf("%d results, %v", len(r.Measured), err)
	}
	if got, err := os.ReadFile(files.Document); err != nil || string(got) != r.document() {
		t.Errorf("%s is not what the stored results say (%v); write it with: go -C bench run . -write", files.Document, err)
	}
	for _, m := range r.Measured {
		row := rowOf(m.Row)
		if len(row.On[m.Backend].Contestants) == 0 {
			t.Errorf("there are results of %s on %s, which is not in the plan", m.Row, m.Backend)
		}
	}
}

// sampled is a row and a curve with round figures.
func sampled() *Results {
	r := &Results{Machine: Machine{OS: "linux", Arch: "amd64", Cores: 2}}
	add := func(row, backend string, x float64, by map[string][]float64) {
		m := Measured{Row: row, Backend: backend, X: x, Contestants: map[string]*Series{}}
		for name, figures := range by {
			s := &Series{}
			for _, f := range figures {
				figure := rowOf(row).Figure
				sample := workload.Sample{Calls: int64(f), Seconds: 1, CPUSeconds: 2, Allocs: 10 * f, Values: map[string]float64{string(figure): f}}
				s.Add(figure, sample)
			}
			m.Contestants[name] = s
		}
		r.Put(m)
	}
	add("list", plan.Memory, 0, map[string][]float64{plan.Polykv: {2, 4, 2}, plan.Dskit: {1, 8, 8}})
	add("cas", plan.Memory, 0, map[string][]float64{plan.Polykv: {1000, 3000, 1100}, plan.Dskit: {100, 300, 55}})
	add("contenders", plan.Etcd, 64, map[string][]float64{plan.Polykv: {6400}, plan.Dskit: {10}})
	add("contenders", plan.Etcd, 1, map[string][]float64{plan.Polykv: {100}, plan.Dskit: {100}})
	return r
}

func TestRatiosAreByRound(t *testing.T) {
	r := sampled()
	for _, test := range []struct {
		row  string
		want Ratio
	}{
		{"cas", Ratio{10, 10, 20}},
		{"list", Ratio{2, 0.5, 4}}, // less is better
	} {
		m := r.of(test.row, plan.Memory)[0]
		got, ok := ratioOf(rowOf(test.row).Figure, m.Contestants[plan.Polykv], m.Contestants[plan.Dskit])
		if !ok || got != test.want {
			t.Errorf("%s: %+v, want %+v", test.row, got, test.want)
		}
	}
	if _, ok := ratioOf(plan.Rate, &Series{}, &Series{Samples: []float64{1}}); ok {
		t.Error("a ratio of nothing")
	}
}

func TestPutReplacesAndSorts(t *testing.T) {
	r := sampled()
	if len(r.Measured) != 4 || r.Measured[0].Row != "cas" || r.Measured[1].Row != "list" || r.Measured[2].X != 1 {
		t.Fatalf("%+v", r.Measured)
	}
	r.Put(Measured{Row: "cas", Backend: plan.Memory})
	if len(r.Measured) != 4 || r.Measured[0].Contestants != nil {
		t.Errorf("%+v", r.Measured)
	}
	r.Put(Measured{Row: "cas", Backend: plan.Etcd})
	if len(r.Measured) != 5 {
		t.Errorf("%+v", r.Measured)
	}
}

func TestSaveAndLoad(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a", "results.json")
	if r, err := Load(file); err != nil || len(r.Measured) != 0 {
		t.Errorf("no file: %+v, %v", r, err)
	}
	want := sampled()
	if err := want.Save(file); err != nil {
		t.Fatal(err)
	}
	got, err := Load(file)
	if err != nil || got.document() != want.document() {
		t.Errorf("what is loaded reads otherwise than what was saved: %v", err)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(file); err == nil || !strings.Contains(err.Error(), "results.json") {
		t.Errorf("a broken file: %v", err)
	}
}

func TestDocument(t *testing.T) {
	r := sampled()
	r.Measured[0].Contestants[plan.Dskit].Failed = []float64{0.5}
	r.Measured[0].Contestants[plan.Dskit].Lost = 3
	text := r.document()
	for _, want := range []string{
		"| memory | polykv | 1,100/s | 1,000/s to 3,000/s |  | 1.82 ms |  |",
		"|  | dskit | 100/s | 55.0/s to 300/s | **10.0** (10.0 to 20.0) | 20.0 ms | 10.0 |",
		"memory, dskit: 50.0 % of the calls failed; 3 acknowledged writes lost.",
		"List of 2,000 keys, memory: 2.00 of dskit, where 3.00 is wanted",
		"| 64.0 | 6,400/s | 10.0/s |",
		"### CAS on one key as more goroutines want it",
		"| CAS one after another, one key | memory | 10.0 | 10.0 |  |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the document lacks %q", want)
		}
	}
	if strings.Contains(text, "CAS one after another, one key, memory: ") {
		t.Error("a target that was reached is listed as missed")
	}
}

func TestNumber(t *testing.T) {
	for _, test := range []struct {
		x    float64
		want string
	}{
		{0, "0"},
		{0.123, "0.12"},
		{9.994, "9.99"},
		{9.996, "10.0"},
		{99.96, "100"},
		{999.4, "999"},
		{999.6, "1,000"},
		{12_345, "12,300"},
		{1_234_567, "1,230,000"},
	} {
		if got := number(test.x); got != test.want {
			t.Errorf("%v is written %s, want %s", test.x, got, test.want)
		}
	}
	for _, test := range []struct {
		x    float64
		want string
	}{{2, "2.00 s"}, {0.0125, "12.5 ms"}, {3.5e-6, "3.50 µs"}, {1.2e-8, "12.0 ns"}} {
		if got := seconds(test.x); got != test.want {
			t.Errorf("%v s is written %s, want %s", test.x, got, test.want)
		}
	}
	if got := round(123456.7); got != 123500 || round(math.NaN()) != 0 {
		t.Errorf("rounded to %v", got)
	}
}
