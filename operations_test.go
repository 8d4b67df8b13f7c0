package polykv_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/polykv/polykv/kv/factory"
	"github.com/polykv/polykv/kv/metrics"
)

var update = flag.Bool("update", false, "write the generated parts of docs/operations.md")

const operationsFile = "docs/operations.md"

// TestOperations wants the tables of options and metrics to be what the
// configuration and kv/metrics say.
func TestOperations(t *testing.T) {
	page := read(t, operationsFile)
	want := page
	for name, content := range map[string]string{
		"options of the factory":  options(t, "", "backend", "prefix", "record-check", "require"),
		"options of the client":   options(t, "client."),
		"options of Consul":       options(t, "consul."),
		"options of etcd":         options(t, "etcd."),
		"options of the memory":   options(t, "inmemory."),
		"options of two stores":   ownOptions(t, "multi."),
		"metrics of every client": figures(t, false),
		"metrics of two stores":   figures(t, true),
	} {
		begin, end := "<!-- Generated: "+name+" -->\n\n", "\n<!-- End -->"
		head, rest, ok1 := strings.Cut(want, begin)
		_, tail, ok2 := strings.Cut(rest, end)
		if !ok1 || !ok2 {
			t.Fatalf("%s has no part %q", operationsFile, name)
		}
		want = head + begin + content + end + tail
	}
	if want == page {
		return
	}
	if !*update {
		t.Fatalf("%s is out of date; run: go test . -run TestOperations -update", operationsFile)
	}
	if err := os.WriteFile(operationsFile, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// options makes a table of the flags with a prefix, or of those that are named.
// Their fields in YAML have the same names, with _ for -.
func options(t *testing.T, prefix string, only ...string) string {
	t.Helper()
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	fs.SortFlags = false
	factory.NewConfig().RegisterFlags(fs, "")
	named := map[string]bool{}
	for _, name := range only {
		named[name] = true
	}
	var b strings.Builder
	b.WriteString("| field | flag | default | meaning |\n| --- | --- | --- | --- |\n")
	rows := 0
	fs.VisitAll(func(f *pflag.Flag) {
		if prefix != "" && !strings.HasPrefix(f.Name, prefix) || prefix == "" && !named[f.Name] {
			return
		}
		rows++
		kind, usage := pflag.UnquoteUsage(f)
		value := f.DefValue
		if value == "" || value == "[]" {
			value = "none"
		}
		usage = strings.ReplaceAll(usage, "|", `\|`)
		fmt.Fprintf(&b, "| `%s` | `--%s` %s | %s | %s |\n", strings.ReplaceAll(f.Name, "-", "_"), f.Name, kind, value, usage)
	})
	if rows == 0 {
		t.Fatalf("there are no flags %s", prefix)
	}
	return b.String()
}

var described = regexp.MustCompile(`fqName: "([^"]+)", help: "([^"]+)".*variableLabels: \{([^}]*)\}`)

// ownOptions is options of those flags only that have no further section in
// their names.
func ownOptions(t *testing.T, prefix string) string {
	t.Helper()
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	factory.NewConfig().RegisterFlags(fs, "")
	var names []string
	fs.VisitAll(func(f *pflag.Flag) {
		if rest, found := strings.CutPrefix(f.Name, prefix); found && !strings.Contains(rest, ".") {
			names = append(names, f.Name)
		}
	})
	return options(t, "", names...)
}

// figures makes a table of the metrics: those of clients of two stores, or the
// others.
func figures(t *testing.T, ofTwo bool) string {
	t.Helper()
	m, err := metrics.New(nil, metrics.Options{})
	if err != nil {
		t.Fatal(err)
	}
	descs := make(chan *prometheus.Desc, 1000)
	m.Describe(descs)
	close(descs)
	var b strings.Builder
	b.WriteString("| metric | labels | meaning |\n| --- | --- | --- |\n")
	for d := range descs {
		parts := described.FindStringSubmatch(d.String())
		if parts == nil {
			t.Fatalf("%s is not understood", d)
		}
		if ofTwo != (strings.HasPrefix(parts[1], "polykv_mirror_") || strings.HasPrefix(parts[1], "polykv_primary_") || strings.HasPrefix(parts[1], "polykv_migration_")) {
			continue
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", parts[1], strings.ReplaceAll(parts[3], ",", ", "), parts[2])
	}
	return b.String()
}

// TestOperationsNamesWhatThereIs wants every metric that the page names to exist,
// and every line of a log that it shows to be one that the code writes.
func TestOperationsNamesWhatThereIs(t *testing.T) {
	page := read(t, operationsFile)
	table := figures(t, false) + figures(t, true)
	for _, name := range regexp.MustCompile(`polykv_[a-z_]+`).FindAllString(page, -1) {
		if !strings.Contains(table, "`"+name+"`") {
			t.Errorf("%s names the metric %s, which there is not", operationsFile, name)
		}
	}
	var code strings.Builder
	for _, pattern := range []string{"kv/*.go", "kv/consul/*.go", "kv/etcd/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if !strings.HasSuffix(file, "_test.go") {
				code.WriteString(read(t, file))
			}
		}
	}
	lines := regexp.MustCompile(`msg="([^"]+)"`).FindAllStringSubmatch(page, -1)
	if len(lines) < 4 {
		t.Errorf("%s shows %d lines of a log", operationsFile, len(lines))
	}
	for _, line := range lines {
		if !strings.Contains(code.String(), `"`+line[1]+`"`) {
			t.Errorf("%s shows the message %q, which nothing logs", operationsFile, line[1])
		}
	}
}
