package bolt

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/polykv/polykv/kv/driver"
)

// countIn names the file in which the test binary counts until it is killed,
// instead of running tests.
const countIn = "POLYKV_BOLT_COUNT_IN"

func TestMain(m *testing.M) {
	if path := os.Getenv(countIn); path != "" {
		fmt.Println(count(path))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// fileOf returns the settings of a file of the test's own.
func fileOf(t *testing.T) Config {
	t.Helper()
	cfg := *NewConfig()
	cfg.Path = filepath.Join(t.TempDir(), "data.db")
	return cfg
}

// open returns a handle that the test may close itself.
func open(t *testing.T, files *Files, cfg Config) *handle {
	t.Helper()
	store, err := files.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, store) })
	return store.(*handle)
}

func closeStore(t *testing.T, store driver.Store) {
	t.Helper()
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}

func get(t *testing.T, store driver.Store, key string) driver.Entry {
	t.Helper()
	e, err := store.Get(t.Context(), driver.GetRequest{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// put writes a key that nobody else writes to.
func put(t *testing.T, store driver.Store, key, value string) driver.Entry {
	t.Helper()
	return swap(t, store, driver.Swap{Key: key, Prev: get(t, store, key), Value: []byte(value), ID: 1})
}

// swap makes a swap that must be applied.
func swap(t *testing.T, store driver.Store, s driver.Swap) driver.Entry {
	t.Helper()
	r, err := store.Swap(t.Context(), s)
	if err != nil || r.Outcome != driver.Applied || !r.Known {
		t.Fatalf("Swap of %q: %v, %v", s.Key, r.Outcome, err)
	}
	return r.Entry
}
