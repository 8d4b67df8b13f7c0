package deploy

import (
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
)

// evaluated is how often Prometheus evaluates rules here, and scrapes.
const evaluated = 15 * time.Second

// rules are the alerts by name, as promtool reads them.
func rules(t *testing.T) map[string]rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.ParseFile("prometheus/polykv.rules.yaml", false, model.LegacyValidation, promQL, slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}
	if t.Failed() {
		t.FailNow()
	}
	all := map[string]rulefmt.Rule{}
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			if _, twice := all[r.Alert]; twice || r.Alert == "" {
				t.Errorf("the alert %q is there twice, or has no name", r.Alert)
			}
			all[r.Alert] = r
		}
	}
	return all
}

// The file of alerts is valid as promtool has it; each says how bad it is and
// what to do, and watches metrics that exist.
func TestRules(t *testing.T) {
	for name, r := range rules(t) {
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" || r.Labels["severity"] != "critical" && r.Labels["severity"] != "warning" {
			t.Errorf("the alert %s: %+v", name, r)
		}
		checkExpression(t, name, r.Expr)
	}
}

// firing are the alerts that fire at some moment after the first scrape.
func firing(t *testing.T, series string, at time.Duration) map[string]bool {
	t.Helper()
	ask, end := prometheusOf(t, series)
	defer end()
	all := map[string]bool{}
	for name, r := range rules(t) {
		last := time.Unix(0, 0).Add(at)
		if holds(ask(name, r.Expr, last.Add(-time.Duration(r.For)), last), int(time.Duration(r.For)/evaluated)+1) {
			all[name] = true
		}
	}
	return all
}

// prometheusOf returns what evaluates an expression on series, at each evaluation from
// first to last, until end is called. The name is for errors.
func prometheusOf(t *testing.T, series string) (ask func(name, expr string, first, last time.Time) promql.Matrix, end func()) {
	t.Helper()
	engine := promqltest.NewTestEngine(t, false, 0, 1_000_000)
	storage := promqltest.LoadedStorage(t, "load "+evaluated.String()+"\n"+series)
	ask = func(name, expr string, first, last time.Time) promql.Matrix {
		t.Helper()
		query, err := engine.NewRangeQuery(t.Context(), storage, nil, expr, first, last, evaluated)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer query.Close()
		matrix, err := query.Exec(t.Context()).Matrix()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return matrix
	}
	return ask, func() { _ = storage.Close() }
}

// holds reports whether a series was there at every one of the evaluations.
func holds(matrix promql.Matrix, evaluations int) bool {
	for _, s := range matrix {
		if len(s.Floats) == evaluations {
			return true
		}
	}
	return false
}

// Each alert fires on what it is for, after its time and not before it, and no
// other one does.
func TestAlertsFire(t *testing.T) {
	for name, c := range map[string]struct {
		series string
		early  time.Duration // it doesn't fire yet
		late   time.Duration // it does
	}{
		"PolykvStoreUnavailable":       {`  polykv_operation_errors_total{job="web",instance="a",backend="etcd",operation="cas",reason="unavailable"} 0+1x40`, 90 * time.Second, 4 * time.Minute},
		"PolykvPermissionDenied":       {`  polykv_operation_errors_total{job="web",instance="a",backend="etcd",operation="get",reason="permission"} 0+1x40`, 90 * time.Second, 4 * time.Minute},
		"PolykvWritesOfUnknownOutcome": {`  polykv_operation_errors_total{job="web",instance="a",backend="etcd",operation="cas",reason="indeterminate"} 0x4 1x40`, time.Minute, 2 * time.Minute},
		"PolykvWritersContend":         {`  polykv_operation_errors_total{job="web",instance="a",backend="etcd",operation="cas",reason="conflict"} 0+1x60`, 4 * time.Minute, 8 * time.Minute},
		"PolykvSlowCalls": {`  polykv_operation_duration_seconds_bucket{job="web",instance="a",backend="etcd",operation="cas",le="1"} 0+90x80
  polykv_operation_duration_seconds_bucket{job="web",instance="a",backend="etcd",operation="cas",le="4"} 0+100x80
  polykv_operation_duration_seconds_bucket{job="web",instance="a",backend="etcd",operation="cas",le="+Inf"} 0+100x80`, 9 * time.Minute, 15 * time.Minute},
		"PolykvWatchesLoseTheStore": {`  polykv_watch_resyncs_total{job="web",instance="a",backend="etcd",reason="other"} 0+10x100`, 9 * time.Minute, 15 * time.Minute},
		"PolykvGossipNodeUnhealthy": {`  polykv_gossip_healthy{job="web",instance="a",node="a"} 1x4 0x40`, 90 * time.Second, 3 * time.Minute},
		"PolykvGossipIsolated":      {`  polykv_gossip_isolated_seconds{job="web",instance="a",node="a"} 0x4 0+15x40`, time.Minute, 4 * time.Minute},
		"PolykvGossipNodesDisagree": {`  polykv_gossip_members{job="web",instance="a",node="a",state="alive"} 5x80
  polykv_gossip_members{job="web",instance="b",node="b",state="alive"} 5x4 4x80`, 9 * time.Minute, 15 * time.Minute},
		"PolykvGossipRefuses": {`  polykv_gossip_refused_total{job="web",instance="a",node="a",cause="label"} 0+5x100`, 9 * time.Minute, 15 * time.Minute},
		"PolykvGossipByTCP":   {`  polykv_gossip_members_by_tcp{job="web",instance="a",node="a"} 0x4 2x80`, 9 * time.Minute, 15 * time.Minute},
		"PolykvWritesWait": {`  polykv_migration_waiting_calls{job="web",instance="a"} 0x4 7x40
  polykv_migration_phase{job="web",instance="a",phase="mirroring"} 1x4 _x40
  polykv_migration_phase{job="web",instance="a",phase="cutover"} _x4 1x40`, time.Minute, 100 * time.Second},
		"PolykvNoPrimary": {`  polykv_migration_phase{job="web",instance="a",phase="fenced"} 1x40`, 45 * time.Second, 2 * time.Minute},
		"PolykvClientsDisagree": {`  polykv_migration_primary{job="web",instance="a",backend="etcd"} 1x40
  polykv_migration_primary{job="web",instance="b",backend="consul"} 1x40`, 45 * time.Second, 2 * time.Minute},
		"PolykvMirrorLags":  {`  polykv_mirror_backlog_keys{job="web",instance="a",backend="etcd"} 2000x80`, 4 * time.Minute, 6 * time.Minute},
		"PolykvMirrorFails": {`  polykv_mirror_errors_total{job="web",instance="a",backend="etcd",reason="permission"} 0+1x80`, 4 * time.Minute, 8 * time.Minute},
		"PolykvStrayKeys":   {`  polykv_mirror_stray_keys{job="web",instance="a",backend="etcd"} 0x4 3x40`, time.Minute, 2 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			if early := firing(t, c.series, c.early); len(early) > 0 {
				t.Errorf("after %v these fire: %v", c.early, early)
			}
			late := firing(t, c.series, c.late)
			if !late[name] {
				t.Errorf("it does not fire after %v", c.late)
			}
			delete(late, name)
			if len(late) > 0 {
				t.Errorf("these fire too: %v", late)
			}
		})
	}
	if n := len(rules(t)); n != 17 {
		t.Errorf("there are %d alerts; each needs a case", n)
	}
}

// What the last comparison found in a store is no news once nothing is mirrored into
// it any more.
func TestStrayKeysOfTheFormerTarget(t *testing.T) {
	for name, series := range map[string]string{
		"it became primary": `  polykv_mirror_stray_keys{job="web",instance="a",backend="etcd"} 3x80
  polykv_migration_primary{job="web",instance="a",backend="consul"} 1x10 stale
  polykv_migration_primary{job="web",instance="a",backend="etcd"} _x11 1x69`,
		"it is out of use": `  polykv_mirror_stray_keys{job="web",instance="a",backend="consul"} 3x80
  polykv_migration_primary{job="web",instance="a",backend="etcd"} 1x80
  polykv_migration_phase{job="web",instance="a",phase="mirroring"} 1x10 stale
  polykv_migration_phase{job="web",instance="a",phase="finished"} _x11 1x69`,
	} {
		t.Run(name, func(t *testing.T) {
			if f := firing(t, series, 2*time.Minute); !f["PolykvStrayKeys"] || len(f) != 1 {
				t.Errorf("while it is mirrored into these fire: %v", f)
			}
			if f := firing(t, series, 4*time.Minute); len(f) > 0 {
				t.Errorf("afterwards these fire: %v", f)
			}
		})
	}
}
