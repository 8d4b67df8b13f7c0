package polykv_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// The longest file and function that a reader shall meet, in lines, and how long
// all of them together may be, without tests. Whoever needs more room makes some
// first, or says here why not: 515 of the lines are tools/mutation, in place of a
// program of others that took hours, and 314 are the benchmark's clients of bbolt, NATS
// and PostgreSQL.
const (
	longestFile     = 450
	longestFunction = 80
	allFiles        = 76_686
)

// TestSizes keeps the house small.
func TestSizes(t *testing.T) {
	total := 0
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != "." && strings.HasPrefix(entry.Name(), "."):
			return filepath.SkipDir
		case entry.IsDir(), !strings.HasSuffix(path, ".go"), strings.HasSuffix(path, "_test.go"):
			return nil
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		lines := files.File(file.FileStart).LineCount()
		if total += lines; lines > longestFile {
			t.Errorf("%s has %d lines; at most %d are allowed", path, lines, longestFile)
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if lines := files.Position(f.End()).Line - files.Position(f.Pos()).Line; lines > longestFunction {
				t.Errorf("%s: %s has %d lines; at most %d are allowed", path, f.Name.Name, lines, longestFunction)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if total > allFiles || total < allFiles/2 {
		t.Errorf("all files have %d lines without tests; at most %d are allowed, and half of that was seen", total, allFiles)
	}
}
