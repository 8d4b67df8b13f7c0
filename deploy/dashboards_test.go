package deploy

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
)

// theDatasource is the variable by which a panel leaves the choice to whoever
// imports it.
const theDatasource = "${datasource}"

// The dashboards have the form that Grafana imports, as its own library has it,
// without a field that it doesn't know; each panel has an id and a place of its
// own, no data source by name, and says what it shows in which unit; and they show
// metrics that exist.
func TestDashboards(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	files, err := filepath.Glob("grafana/*.json")
	if err != nil || len(files) != 3 {
		t.Fatalf("%v, %v", files, err)
	}
	shown, uids := "", map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		shown += string(text)
		var d dashboard.Dashboard
		if err := refused(d.UnmarshalJSONStrict(text)); err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if err := d.Validate(); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		switch {
		case d.Uid == nil || *d.Uid == "" || len(*d.Uid) > 40 || uids[*d.Uid] != "":
			t.Errorf("%s: the uid %v", file, d.Uid)
		case d.Title == nil || *d.Title == "" || d.Id != nil:
			t.Errorf("%s: title %v, id %v", file, d.Title, d.Id)
		default:
			uids[*d.Uid] = file
		}
		checkVariables(t, file, d.Templating.List)
		checkPanels(t, file, text)
	}
	all, err := exported()
	if err != nil {
		t.Fatal(err)
	}
	for name := range all {
		base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
		if strings.HasPrefix(name, "polykv_mirror") || strings.HasPrefix(name, "polykv_migration") {
			if !strings.Contains(shown, base) {
				t.Errorf("no dashboard shows %s", base)
			}
		}
	}
}

func checkVariables(t *testing.T, file string, all []dashboard.VariableModel) {
	t.Helper()
	if len(all) != 2 || all[0].Name != "datasource" || all[0].Type != dashboard.VariableTypeDatasource || all[1].Name != "job" || all[1].Type != dashboard.VariableTypeQuery {
		t.Fatalf("%s: the variables are %+v", file, all)
	}
	if query := all[0].Query; query == nil || query.String == nil || *query.String != "prometheus" {
		t.Errorf("%s: the variable datasource is none of Prometheus: %+v", file, query)
	}
	if s := all[1].Datasource; s == nil || s.Uid == nil || *s.Uid != theDatasource {
		t.Errorf("%s: the variable job has a data source of its own", file)
	}
	var query struct{ Query string }
	text, err := json.Marshal(all[1].Query)
	if err == nil {
		err = json.Unmarshal(text, &query)
	}
	metric, label, found := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(query.Query, "label_values("), ")"), ", ")
	if err != nil || !found || label != "job" {
		t.Fatalf("%s: the variable job asks for %s (%v)", file, text, err)
	}
	checkExpression(t, file+": the variable job", metric)
}

// refused is an error of Grafana's library, which also returns lists of none.
func refused(err error) error {
	var all cog.BuildErrors
	if errors.As(err, &all) && len(all) == 0 {
		return nil
	}
	return err
}

func checkPanels(t *testing.T, file string, text []byte) {
	t.Helper()
	var d struct{ Panels []json.RawMessage }
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if len(d.Panels) < 10 {
		t.Errorf("%s has %d panels", file, len(d.Panels))
	}
	ids := map[uint32]bool{}
	var places []dashboard.GridPos
	for i, raw := range d.Panels {
		var p dashboard.Panel
		if err := refused(p.UnmarshalJSONStrict(raw)); err != nil || p.Title == nil || p.Id == nil || p.GridPos == nil || len(p.Targets) == 0 {
			t.Errorf("%s: panel %d: %v; it has title %v, id %v, place %v and %d targets", file, i, err, p.Title, p.Id, p.GridPos, len(p.Targets))
			continue
		}
		where := file + ": " + *p.Title
		at := *p.GridPos
		if ids[*p.Id] || at.X+at.W > 24 || slices.ContainsFunc(places, func(o dashboard.GridPos) bool {
			return at.X < o.X+o.W && o.X < at.X+at.W && at.Y < o.Y+o.H && o.Y < at.Y+at.H
		}) {
			t.Errorf("%s: its id %d or its place %+v is another's too", where, *p.Id, at)
		}
		ids[*p.Id], places = true, append(places, at)
		if p.Description == nil || *p.Description == "" || p.FieldConfig == nil || p.FieldConfig.Defaults.Unit == nil {
			t.Errorf("%s doesn't say what it shows, or in which unit", where)
		}
		if p.Datasource == nil || p.Datasource.Uid == nil || *p.Datasource.Uid != theDatasource {
			t.Errorf("%s has a data source of its own", where)
		}
		checkTargets(t, where, raw)
	}
}

func checkTargets(t *testing.T, where string, panel []byte) {
	t.Helper()
	var p struct{ Targets []json.RawMessage }
	if err := json.Unmarshal(panel, &p); err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	refs := map[string]bool{}
	for _, raw := range p.Targets {
		var q prometheus.Dataquery
		if err := refused(q.UnmarshalJSONStrict(raw)); err != nil || q.RefId == nil || refs[*q.RefId] || q.Datasource != nil {
			t.Errorf("%s: the target %s: %v", where, raw, err)
			continue
		}
		refs[*q.RefId] = true
		checkExpression(t, where, q.Expr)
		// A legend of every node of a hundred can't be read.
		if q.LegendFormat != nil && perProcess.MatchString(*q.LegendFormat) && !strings.HasSuffix(q.Expr, " > 0") {
			t.Errorf("%s has a line for each process, and not only for those in trouble", where)
		}
	}
}

var perProcess = regexp.MustCompile(`\{\{(node|instance)\}\}`)
