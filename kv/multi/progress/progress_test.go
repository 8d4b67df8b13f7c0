package progress_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polykv/polykv/kv/multi"
	"github.com/polykv/polykv/kv/multi/internal/side"
	"github.com/polykv/polykv/kv/multi/progress"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type fixed multi.Status

func (f fixed) Status() multi.Status { return multi.Status(f) }

var at = time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)

// hostile is what anybody who may write to a store can put on the page.
const hostile = `<script>document.title="owned"</script>/<img src="/steal">"'--><a href="javascript:1">`

func full() fixed {
	samples := make([]multi.Sample, 0, 100)
	for i := range 100 {
		samples = append(samples, multi.Sample{At: at.Add(time.Duration(i) * 2 * time.Second), Backlog: i * (100 - i)})
	}
	return fixed{
		At: at, Phase: multi.PhaseMirroring, Coordinated: true, Primary: "old", Mirror: "new", Owner: hostile, Owns: true,
		Records: []multi.Record{
			{Store: "old", State: "primary", Epoch: 3, Migration: hostile, Version: 17, Known: true},
			{Store: "new", State: "standby", Epoch: 2, Migration: hostile, Version: 21, Known: true, Error: "permission denied"},
		},
		Mirrors: []multi.MirrorStatus{
			{Store: "old"},
			{Store: "new", Open: true, Mirrored: 12345, Failed: 7, Late: 3, Backlog: 42, Oldest: 90 * time.Second, Error: "connection refused"},
		},
		Samples: samples,
		Verify: &multi.Comparison{
			Kind: "verify", From: "old", To: "new", Started: at, Ended: at.Add(time.Second),
			Totals: multi.Totals{Keys: 10000, Bytes: 5 << 20, Different: 150},
			Differences: []multi.Difference{
				{Key: hostile, Reason: "missing", From: &side.Sum{Size: 2048, SHA256: "0123456789ab"}},
				{Key: strings.Repeat("k", 512), Reason: "unreadable", Error: hostile},
			},
		},
		Problem: "no store is primary: " + hostile,
	}
}

func get(t *testing.T, s fixed, target string) string {
	t.Helper()
	w := httptest.NewRecorder()
	progress.Handler(s).ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestEveryPhaseIsExplained(t *testing.T) {
	for _, phase := range []multi.Phase{
		multi.PhasePlain, multi.PhaseSwitching, multi.PhaseUnknown, multi.PhaseMirroring,
		multi.PhaseCutover, multi.PhaseMoved, multi.PhaseFinished, multi.PhaseFenced,
	} {
		if got := get(t, fixed{Phase: phase}, "/"); strings.Contains(got, "</strong> </dd>") {
			t.Errorf("phase %s has no explanation", phase)
		}
	}
}

// During a cutover that goes as it should, nothing is red.
func TestCutoverIsNoAlarm(t *testing.T) {
	for lasted, red := range map[time.Duration]bool{15 * time.Second: false, 15*time.Second + 1: true} {
		got := get(t, fixed{Phase: multi.PhaseCutover, Coordinated: true, Problem: "a cutover is under way", NoPrimaryFor: lasted}, "/")
		if strings.Contains(got, `id="problem" class="bad"`) != red || !strings.Contains(got, "a cutover is under way") {
			t.Errorf("after %v: %s", lasted, got)
		}
	}
}

// Outside of a cutover a problem is red at once.
func TestProblemIsAnAlarm(t *testing.T) {
	if got := get(t, fixed{Phase: multi.PhaseFenced, Coordinated: true, Problem: "no store is primary"}, "/"); !strings.Contains(got, `id="problem" class="bad"`) {
		t.Error(got)
	}
}

func TestChartShowsTheBacklog(t *testing.T) {
	if got, want := get(t, full(), "/"), "Keys waiting to be mirrored: now 99, at most 2500 in the last 3m18s"; !strings.Contains(got, want) {
		t.Errorf("no %q in %s", want, got)
	}
}

func TestPageWithoutAnything(t *testing.T) {
	got := get(t, fixed{At: at, Phase: multi.PhaseUnknown, Coordinated: true, Records: []multi.Record{{Store: "a"}, {Store: "b", Known: true}}}, "/")
	for _, want := range []string{"not read yet", "no record", "were not compared", "not enough values for a chart"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
}

func TestJSONIsTheStatus(t *testing.T) {
	var back multi.Status
	if err := json.Unmarshal([]byte(get(t, full(), "/?format=json")), &back); err != nil {
		t.Fatal(err)
	}
	if back.Phase != multi.PhaseMirroring || back.Mirrors[1].Backlog != 42 || back.Verify.Differences[0].Key != hostile || len(back.Samples) != 100 {
		t.Errorf("%+v", back)
	}
}
