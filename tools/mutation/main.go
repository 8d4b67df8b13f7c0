// Mutation makes small mistakes in the code of a package, one at a time, and runs
// the package's tests on each. It prints the mistakes that no test noticed, and
// those that no test came to:
//
//	go run ./tools/mutation [-run regexp] [-files regexp] [-p 2] ./kv/driver/kit
//
// All mistakes are compiled into one test binary, and an environment variable
// chooses the one that is made. First each test is run without, to learn which
// mistakes it comes to; a mistake is tried by those tests alone.
package main

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

func main() {
	var tests, files regexp.Regexp
	flag.TextVar(&tests, "run", regexp.MustCompile("."), "the tests to run")
	flag.TextVar(&files, "files", regexp.MustCompile("."), "the files to make mistakes in")
	workers := flag.Int("p", 2, "how many mistakes are tried at the same time")
	flag.Parse()
	for _, dir := range flag.Args() {
		mutants, err := try(dir, &tests, &files, *workers)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		count := map[string]int{}
		for _, m := range mutants {
			if count[m.fate]++; m.fate != killed {
				fmt.Printf("%s/%s:%d: %s: %s\n", dir, m.file, m.line, m.fate, m.change)
			}
		}
		fmt.Printf("%s: %d mutants, %v\n", dir, len(mutants), count)
	}
}

// What becomes of a mutant.
const (
	killed     = "killed"
	timedOut   = "killed by time" // its tests didn't end
	survived   = "survived"
	notReached = "not reached"
)

// try tries all mutants of the package in dir.
func try(dir string, tests, files *regexp.Regexp, workers int) ([]mutant, error) {
	work, err := os.MkdirTemp("", "mutation")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(work) }()
	src, err := load(dir, files)
	if err != nil {
		return nil, err
	}
	overlay, err := src.write(work)
	if err != nil {
		return nil, err
	}
	b := binary{dir: dir, path: filepath.Join(work, "mutants.test"), notes: filepath.Join(work, "reached"), times: map[string]time.Duration{}}
	if _, err := output(dir, "go", "test", "-c", "-vet=off", "-o", b.path, "-overlay", overlay, "."); err != nil {
		return nil, err
	}
	if err := b.explore(tests, src.mutants); err != nil {
		return nil, err
	}
	var all sync.WaitGroup
	free := make(chan struct{}, workers)
	for i := range src.mutants {
		free <- struct{}{}
		all.Go(func() {
			b.try(i+1, &src.mutants[i])
			<-free
		})
	}
	all.Wait()
	return src.mutants, nil
}

// binary is a test binary with all mutants of the package in dir.
type binary struct {
	dir, path, notes string
	times            map[string]time.Duration // what the tests take
}

// explore runs each test without a mutant and notes which ones it comes to.
func (b binary) explore(tests *regexp.Regexp, mutants []mutant) error {
	list, err := output(b.dir, b.path, "-test.list=.")
	for _, test := range strings.Fields(string(list)) {
		if !tests.MatchString(test) || strings.HasPrefix(test, "Benchmark") {
			continue
		}
		start := time.Now()
		if out, err := b.run(0, []string{test}); err != nil {
			fmt.Fprintf(os.Stderr, "%s is left out, since it fails without a mutant: %v\n%s", test, err, out)
			continue
		}
		b.times[test] = time.Since(start)
		reached, _ := os.ReadFile(b.notes) // there is none if it came to nothing
		for _, id := range strings.Fields(string(reached)) {
			n, _ := strconv.Atoi(id)
			if m := &mutants[n-1]; !slices.Contains(m.tests, test) { // child processes note, too
				m.tests = append(m.tests, test)
			}
		}
		_ = os.Remove(b.notes)
	}
	return err
}

// try tries one mutant: by the quick tests first, since to start the binary takes
// longer than most of them.
func (b binary) try(id int, m *mutant) {
	slices.SortFunc(m.tests, func(x, y string) int { return cmp.Compare(b.times[x], b.times[y]) })
	slow := slices.IndexFunc(append(m.tests, ""), func(t string) bool { return t == "" || b.times[t] > time.Second })
	m.fate = notReached
	for _, batch := range [][]string{m.tests[:slow], m.tests[slow:]} {
		if len(batch) == 0 {
			continue
		}
		limit := 5 * time.Second
		for _, test := range batch {
			limit += 4 * b.times[test]
		}
		out, err := b.run(id, batch, "-test.failfast", "-test.timeout="+limit.String())
		if m.fate = survived; bytes.Contains(out, []byte("panic: test timed out")) {
			m.fate = timedOut
		} else if err != nil {
			m.fate = killed
		}
		if m.fate != survived {
			return
		}
	}
}

// run runs tests with a mutant, or without if id is 0.
func (b binary) run(id int, tests []string, args ...string) ([]byte, error) {
	cmd := exec.Command(b.path, append(args, "-test.run=^("+strings.Join(tests, "|")+")$")...)
	cmd.Dir = b.dir
	cmd.WaitDelay = time.Second // for what its children hold open
	if cmd.Env = append(os.Environ(), chosen+"="+strconv.Itoa(id)); id == 0 {
		cmd.Env = append(cmd.Env, noted+"="+b.notes)
	}
	return cmd.CombinedOutput()
}

// output returns what a command prints, or an error with what it says.
func output(dir, name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	var said bytes.Buffer
	cmd.Dir, cmd.Stderr = dir, &said
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%v: %w\n%s%s", cmd, err, said.Bytes(), out)
	}
	return out, err
}
