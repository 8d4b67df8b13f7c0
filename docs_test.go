package polykv_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

// documentedPackages are what the code in the documents uses, by the names that it has there.
var documentedPackages = map[string]string{
	"context": "context", "testing": "testing", "time": "time",
	"conformance": module + "conformance", "coordination": module + "kv/coordination", "driver": module + "kv/driver",
	"factory": module + "kv/factory", "kv": module + "kv", "kvotel": module + "kv/otel", "memberlist": module + "kv/memberlist",
	"multi": module + "kv/multi", "pflag": "github.com/spf13/pflag", "prometheus": "github.com/prometheus/client_golang/prometheus",
	"codec": module + "codec",
}

// assumed is what documents take for granted in the programs that they show parts of.
const assumed = `
var (
	cfg      *factory.Config
	client   kv.Client
	ctx      context.Context
	registry *prometheus.Registry
	self     struct { ID, Address string; Heartbeat time.Time }
	me       any
	mydriver struct { Open func(address string) (driver.Store, error) }
)
func startEmptyServer(conformance.T) (server struct { Addr string }) { return }
func write(any) (decide func(any) (any, bool, error)) { return }
`

// TestDocumentedCode: the code in the documents compiles. What quotes a file is
// for the tests beside that file.
func TestDocumentedCode(t *testing.T) {
	files, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	imported := exports(t)
	checked := 0
	for _, file := range append(files, "README.md") {
		if file == "docs/adoption.md" || file == "docs/writing-a-driver.md" {
			continue // the one takes the modules of the hosts, the other quotes what is in drivers/bolt
		}
		for _, block := range regexp.MustCompile("(?ms)^```go\n(.*?)^```").FindAllStringSubmatch(read(t, file), -1) {
			checked++
			for _, problem := range typecheck(t, imported, block[1]) {
				t.Errorf("%s: %v, in\n%s", file, problem, block[1])
			}
		}
	}
	if checked < 6 {
		t.Errorf("only %d pieces of code were found", checked)
	}
}

// typecheck returns what is wrong with code that is left out of a program, but
// for names that it doesn't use.
func typecheck(t *testing.T, imported types.Importer, code string) (problems []error) {
	t.Helper()
	code = strings.ReplaceAll(code, "...\n", "\n")
	code = strings.ReplaceAll(code, "{ ... }", "{}")
	if !strings.HasPrefix(code, "func ") {
		code = "func _() (err error) {\nctx, client := ctx, client\n" + code + "\npanic(err)\n}"
	}
	code = assumed + code
	var source strings.Builder
	source.WriteString("package documented\n")
	for name, path := range documentedPackages {
		if regexp.MustCompile(`\b` + name + `\.[A-Z]`).MatchString(code) {
			fmt.Fprintf(&source, "import %s %q\n", name, path)
		}
	}
	if !strings.Contains(source.String(), `"`+documentedPackages["codec"]+`"`) { // a codec of the program's
		source.WriteString("import codecs \"" + documentedPackages["codec"] + "\"\nvar codec codecs.Codec\n")
	}
	positions := token.NewFileSet()
	parsed, err := parser.ParseFile(positions, "documented.go", source.String()+code, 0)
	if err != nil {
		return []error{err}
	}
	config := types.Config{Importer: imported, Error: func(err error) {
		var e types.Error
		if !errors.As(err, &e) || !e.Soft {
			problems = append(problems, err)
		}
	}}
	_, _ = config.Check("documented", positions, []*ast.File{parsed}, nil) // its error is the first of them
	return problems
}

// exports reads packages as the compiler left them.
func exports(t *testing.T) types.Importer {
	t.Helper()
	_ = os.Getenv("POLYKV_TREE") // see listPackages
	args := []string{"list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}"}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race") // as everything is compiled
	}
	for _, path := range documentedPackages {
		args = append(args, path)
	}
	out, err := exec.CommandContext(t.Context(), "go", args...).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	compiled := map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		compiled[path] = file
	}
	return importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) { return os.Open(compiled[path]) })
}
