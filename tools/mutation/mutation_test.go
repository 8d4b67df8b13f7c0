package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const code = `// Package small has mutants of every kind.
package small

import "errors"

var errNegative = errors.New("negative")

// Sum returns the sum of the values up to the first 0.
func Sum(values []int) (int, error) {
	sum := 0
	for _, v := range values {
		switch {
		case v < 0:
			return 0, errNegative
		case v == 0:
			return sum, nil
		}
		sum += v
	}
	return sum, nil
}

// Both is tested of one argument alone.
func Both(a, b bool) bool { return a && b }

// Endless ends, unless a mutant has it not.
func Endless(n int) int {
	for n > 0 {
		n--
	}
	return n
}

// Apart is not tested.
func Apart(s string, n int) (string, int) { return s + "x", n >> 1 + 2 }
`

const codeTest = `package small

import "testing"

func TestSum(t *testing.T) {
	for want, values := range map[int][]int{3: {1, 2}, 1: {1, 0, 2}} {
		if got, err := Sum(values); got != want || err != nil {
			t.Error(got, err)
		}
	}
	if _, err := Sum([]int{-1}); err == nil {
		t.Error("a negative value")
	}
}

func TestBoth(t *testing.T) {
	if !Both(true, true) || Both(false, true) {
		t.Error("wrong")
	}
}

func TestEndless(t *testing.T) {
	if Endless(1) != 0 {
		t.Error("wrong")
	}
}
`

func TestMutants(t *testing.T) {
	dir, every := t.TempDir(), regexp.MustCompile(".")
	for name, text := range map[string]string{"go.mod": "module small\n\ngo 1.26\n", "small.go": code, "small_test.go": codeTest} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("GOWORK", "off")
	mutants, err := try(dir, every, every, 2)
	if err != nil {
		t.Fatal(err)
	}
	fates := map[string][]string{}
	for _, m := range mutants {
		fates[m.fate] = append(fates[m.fate], fmt.Sprintf("%s:%d %s", m.file, m.line, m.change))
	}
	for fate, want := range map[string][]string{
		killed: {
			"small.go:10 0 -> 1",
			"small.go:13 0 -> 1",
			"small.go:13 not (v < 0)",
			"small.go:13 v < 0 with <=",
			"small.go:14 a zero value for errNegative in return 0, errNegative",
			"small.go:15 0 -> 1",
			"small.go:15 not (v == 0)",
			"small.go:16 a zero value for sum in return sum, nil",
			"small.go:18 sum += v -> sum-=v",
			"small.go:18 without sum += v",
			"small.go:20 a zero value for sum in return sum, nil",
			"small.go:24 the other of && and || in a && b",
			"small.go:28 0 -> 1",
			"small.go:28 n > 0 with >=",
			"small.go:28 not (n > 0)",
		},
		timedOut:   {"small.go:29 n-- -> n++", "small.go:29 without n--"},
		survived:   {"small.go:14 0 -> 1", "small.go:31 a zero value for n in return n"},
		notReached: {"small.go:35 1 -> 0", "small.go:35 n >> 1 + 2 with the other of + and -"},
	} {
		got := fates[fate]
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s:\n%s\nwant:\n%s", fate, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	none := regexp.MustCompile("none")
	if mutants, err := try(dir, every, none, 2); err != nil || len(mutants) > 0 {
		t.Errorf("in no file: %v, %v", mutants, err)
	}
}

func TestFailureIsTold(t *testing.T) {
	if _, err := try(t.TempDir(), regexp.MustCompile("."), regexp.MustCompile("."), 2); err == nil {
		t.Error("a folder without a package passes")
	}
}
