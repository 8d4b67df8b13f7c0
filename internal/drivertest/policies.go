package drivertest

import (
	"os"
	"strings"
	"testing"
)

// Block returns the fenced block of docs/operations.md that follows the comment
// <!-- name -->, so that what operators copy is what tests run. root is the
// way to the repository's root.
func Block(t testing.TB, root, name string) string {
	t.Helper()
	page, err := os.ReadFile(root + "/docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(page), "<!-- "+name+" -->\n\n```")
	_, rest, fenced := strings.Cut(rest, "\n")
	block, _, closed := strings.Cut(rest, "\n```")
	if !found || !fenced || !closed {
		t.Fatalf("docs/operations.md has no block %q", name)
	}
	return block
}
