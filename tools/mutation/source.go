package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// The environment variables of a test binary: the number of the mutant, from 1, and
// the file in which those are noted that tests come to.
const (
	chosen = "POLYKV_MUTANT"
	noted  = "POLYKV_MUTANTS_REACHED"
)

// helpers are added to the package.
//
//go:embed helpers.txt
var helpers string

// mutant is one mistake.
type mutant struct {
	file   string
	line   int
	change string
	tests  []string // that come to it
	fate   string
}

// source is a package whose mutants are made by putting text in front of its nodes
// and behind them.
type source struct {
	name          string // of the package
	fset          *token.FileSet
	texts         map[*token.File][]byte
	info          types.Info
	mutants       []mutant
	before, after map[token.Pos]string // text to put there
	gone          map[token.Pos]bool   // bytes to leave out
}

// load parses and checks the package in dir, and finds the mutants of those files
// that match.
func load(dir string, match *regexp.Regexp) (*source, error) {
	out, err := output(dir, "go", "list", "-export", "-deps", "-json=Dir,Name,GoFiles,ImportPath,Export", ".")
	if err != nil {
		return nil, err
	}
	type listed struct {
		Dir, Name, ImportPath, Export string
		GoFiles                       []string
	}
	var pkg listed
	exports := map[string]string{}
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); exports[pkg.ImportPath] = pkg.Export { // the last one is the package
		pkg = listed{}
		if err := d.Decode(&pkg); err != nil {
			return nil, err
		}
	}
	s := &source{
		name: pkg.Name, fset: token.NewFileSet(), texts: map[*token.File][]byte{},
		info:   types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Defs: map[*ast.Ident]types.Object{}},
		before: map[token.Pos]string{}, after: map[token.Pos]string{}, gone: map[token.Pos]bool{},
	}
	files := make([]*ast.File, len(pkg.GoFiles))
	for i, name := range pkg.GoFiles {
		path := filepath.Join(pkg.Dir, name)
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if files[i], err = parser.ParseFile(s.fset, path, text, parser.ParseComments|parser.SkipObjectResolution); err != nil {
			return nil, err
		}
		s.texts[s.fset.File(files[i].FileStart)] = text
	}
	cfg := types.Config{Importer: importer.ForCompiler(s.fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })}
	if _, err := cfg.Check(pkg.ImportPath, s.fset, files, &s.info); err != nil {
		return nil, err
	}
	for i, f := range files {
		if match.MatchString(pkg.GoFiles[i]) {
			ast.Walk(walker{source: s}, f)
		}
	}
	return s, nil
}

// write writes the files with all mutants to dir, and returns the path of the overlay
// that has the go command read them.
func (s *source) write(dir string) (overlay string, err error) {
	texts := map[string][]byte{}
	for file, text := range s.texts {
		var b bytes.Buffer
		for i := 0; i <= len(text); i++ {
			p := file.Pos(i)
			if b.WriteString(s.after[p] + s.before[p]); i < len(text) && !s.gone[p] {
				b.WriteByte(text[i])
			}
		}
		texts[file.Name()] = b.Bytes()
		texts[filepath.Join(filepath.Dir(file.Name()), "mutants_helpers.go")] = []byte("package " + s.name + "\n\n" + helpers)
	}
	replace := map[string]string{}
	for path, text := range texts {
		replace[path] = filepath.Join(dir, filepath.Base(path))
		if err := os.WriteFile(replace[path], text, 0o600); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, text, 0o600)
}

// in returns the text of a node.
func (s *source) in(n ast.Node) string {
	file := s.fset.File(n.Pos())
	return string(s.texts[file][file.Offset(n.Pos()):file.Offset(n.End())])
}

// add adds a mutant by texts around n, in which # stands for its number.
func (s *source) add(n ast.Node, before, after, change string) {
	if change = strings.Join(strings.Fields(change), " "); len(change) > 120 {
		change = change[:120] + "..."
	}
	at := s.fset.Position(n.Pos())
	s.mutants = append(s.mutants, mutant{file: filepath.Base(at.Filename), line: at.Line, change: change})
	s.around(n, before, after)
}

// around puts texts around n, within those that are there.
func (s *source) around(n ast.Node, before, after string) {
	id := strconv.Itoa(len(s.mutants))
	s.before[n.Pos()] += strings.ReplaceAll(before, "#", id)
	s.after[n.End()] = strings.ReplaceAll(after, "#", id) + s.after[n.End()]
}
