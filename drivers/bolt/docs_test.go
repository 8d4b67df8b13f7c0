package bolt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What docs/writing-a-driver.md quotes, under the name of a file, is in that
// file.
func TestQuotesAreTrue(t *testing.T) {
	_ = os.Getenv("POLYKV_TREE") // set by make test, so that no result from before a change of other modules' files is taken
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "writing-a-driver.md"))
	if err != nil {
		t.Fatal(err)
	}
	quotes := 0
	for i, block := range strings.Split(string(page), "\n```") {
		name, quote, found := strings.Cut(strings.TrimPrefix(block, "go\n// "), "\n")
		if !strings.HasPrefix(block, "go\n// ") || !found || !strings.HasSuffix(name, ".go") {
			continue
		}
		quotes++
		if strings.Contains(name, "/") {
			name = "../../" + name
		}
		code, err := os.ReadFile(filepath.FromSlash(name))
		if err != nil {
			t.Error(err)
		} else if !strings.Contains(string(code), quote+"\n") {
			t.Errorf("block %d is not in %s:\n%s", i, name, quote)
		}
	}
	if quotes < 10 {
		t.Errorf("only %d quotes were found", quotes)
	}
}
