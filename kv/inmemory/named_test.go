package inmemory

import (
	"strings"
	"testing"

	"github.com/polykv/polykv/kv/driver"
)

func openNamed(t *testing.T, name string, cfg Config) driver.Store {
	t.Helper()
	h, err := OpenNamed(name, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func TestNamedStoreIsShared(t *testing.T) {
	for _, name := range []string{"", "a name"} {
		a := openNamed(t, name, Config{})
		put(t, a, "k", name+"!")
		b := openNamed(t, name, Config{MaxValueSize: DefaultMaxValueSize}) // means the same
		if e := get(t, b, "k"); string(e.Value) != name+"!" {
			t.Fatalf("store %q: the second handle sees %v", name, e)
		}
	}
	if e := get(t, openNamed(t, "another", Config{}), "k"); e.Exists() {
		t.Fatalf("a store of another name has %v", e)
	}
}

func TestNamedStoreGoesWithItsLastHandle(t *testing.T) {
	a, b := openNamed(t, "n", Config{}), openNamed(t, "n", Config{})
	put(t, a, "k", "v")
	a.Close()
	a.Close() // counts once
	if e := get(t, openNamed(t, "n", Config{}), "k"); !e.Exists() {
		t.Fatal("dropped while a handle is open")
	}
	if len(named.stores) != 1 {
		t.Fatalf("%d stores are kept", len(named.stores))
	}
	b.Close()
}

func TestNamedStoreStartsEmptyAgain(t *testing.T) {
	a := openNamed(t, "n", Config{})
	put(t, a, "k", "v")
	a.Close()
	if len(named.stores) != 0 {
		t.Fatal("the store was kept")
	}
	// Nobody has it open, so other settings are fine.
	if e := get(t, openNamed(t, "n", Config{MaxValueSize: 1}), "k"); e.Exists() {
		t.Fatalf("got %v", e)
	}
}

func TestNamedStoreRefusesOtherSettings(t *testing.T) {
	openNamed(t, "n", Config{MaxValueSize: 10})
	_, err := OpenNamed("n", Config{})
	if err == nil || !strings.Contains(err.Error(), `"n"`) || !strings.Contains(err.Error(), "10") {
		t.Fatalf("got %v", err)
	}
}
