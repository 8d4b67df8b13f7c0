package bolt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/polykv/polykv/kv/driver"
)

func TestReopen(t *testing.T) {
	var files Files
	cfg := fileOf(t)
	first := open(t, &files, cfg)
	kept := put(t, first, "kept", "value")
	removed := put(t, first, "removed", "value")
	swap(t, first, driver.Swap{Key: "removed", Prev: removed, Remove: true, ID: 1})
	closeStore(t, first)
	if _, err := first.Get(t.Context(), driver.GetRequest{Key: "kept"}); !errors.Is(err, driver.ErrClosed) {
		t.Errorf("Get on a closed handle: %v", err)
	}

	second := open(t, &files, cfg)
	if e := get(t, second, "kept"); string(e.Value) != "value" || e.Version != kept.Version {
		t.Errorf("reopened, the entry is %+v, was %+v", e, kept)
	}
	if e := get(t, second, "removed"); e.Exists() {
		t.Errorf("reopened, what was removed is there: %+v", e)
	}
	if e := put(t, second, "removed", "again"); e.Version <= removed.Version+1 {
		t.Errorf("created again at version %d, the last write before was %d", e.Version, removed.Version+1)
	}
}

// TestKilled kills a process that counts; what it was told to be written is
// there afterwards.
func TestKilled(t *testing.T) {
	cfg := fileOf(t)
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), countIn+"="+cfg.Path)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	told := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		n, err := strconv.Atoi(lines.Text())
		if err != nil {
			t.Fatalf("the child says %q", lines.Text())
		}
		if told = n; n == 50 {
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = child.Wait() // it was killed
	if told < 50 {
		t.Fatalf("the child ended at %d", told)
	}
	var files Files
	e := get(t, open(t, &files, cfg), "n")
	if n, _ := strconv.Atoi(string(e.Value)); n != told && n != told+1 {
		t.Errorf("the child was told that %d is written; the file has %q", told, e.Value)
	}
}

// count counts in a file until the process is killed, and prints each number
// once it is written.
func count(path string) error {
	cfg := *NewConfig()
	cfg.Path = path
	var files Files
	store, err := files.Open(cfg)
	if err != nil {
		return err
	}
	prev := driver.Entry{Key: "n"}
	for n := 1; ; n++ {
		s := driver.Swap{Key: "n", Prev: prev, Value: []byte(strconv.Itoa(n)), ID: 1}
		r, err := store.Swap(context.Background(), s)
		if err != nil || r.Outcome != driver.Applied {
			return fmt.Errorf("swap %d: %v: %w", n, r.Outcome, err)
		}
		prev = r.Entry
		fmt.Println(n)
	}
}
