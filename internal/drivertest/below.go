package drivertest

import (
	"errors"
	"log/slog"
	"slices"
	"testing"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/internal/testlog"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// RunBelow runs the suite on clients that may use the keys below a prefix only:
// one case for each rule, or all of it in a soak. The cases that look at the
// driver itself use keys of their own, and are left out.
func RunBelow(t *testing.T, h conformance.Harness, prefix, declared string) {
	t.Helper()
	h = withoutDriver(h.Declared(declared))
	h.Brief = !Soak()
	conformance.Run(t, h.Wrapped(conformance.Wrapper{
		Name: "Prefix", Prefix: prefix,
		Wrap: func(c kv.Client) (kv.Client, error) { return kv.Prefix(c, prefix) },
	}))
}

// withoutDriver is h without the cases that open handles of the driver and no
// clients.
func withoutDriver(h conformance.Harness) conformance.Harness {
	inner := h.New
	h.New = func(t conformance.T) conformance.Store {
		s := inner(t)
		s.OpenDriver = nil
		return s
	}
	h.Hooks = slices.DeleteFunc(slices.Clone(h.Hooks), func(hook conformance.Hook) bool { return hook == conformance.HookOpenDriver })
	return h
}

// Client returns a client of the keys below a prefix, which ends with the test.
// log may be nil.
func Client(t testing.TB, prefix, backend string, log *testlog.Log, open func(kv.Options) (driver.Store, error)) kv.Client {
	t.Helper()
	o := kv.Options{Backend: backend, Logger: slog.New(slog.DiscardHandler)}
	if log != nil {
		o.Logger = log.Logger()
	}
	s, err := open(o)
	if err != nil {
		t.Fatal(err)
	}
	c, err := kv.Prefix(kv.New(s, codec.String{}, &o), prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// ReadOnly reads and watches as somebody who may do no more.
func ReadOnly(t *testing.T, reader, writer kv.Client) {
	t.Helper()
	write := func(c kv.Client, key string) error {
		return c.CAS(t.Context(), key, func(any) (any, bool, error) { return "v", false, nil })
	}
	if err := write(writer, "p/k"); err != nil {
		t.Fatal(err)
	}
	if v, err := reader.Get(t.Context(), "p/k"); err != nil || v != "v" {
		t.Errorf("Get: %v, %v", v, err)
	}
	if keys, err := reader.List(t.Context(), ""); err != nil || len(keys) != 1 {
		t.Errorf("List: %q, %v", keys, err)
	}
	if err := kv.Ping(t.Context(), reader); err != nil {
		t.Errorf("Ping: %v", err)
	}
	told := 0
	reader.WatchPrefix(WithTimeout(t, patience), "p/", func(string, any) bool { told++; return false })
	if told != 1 {
		t.Errorf("a watch told of %d keys", told)
	}
	for name, err := range map[string]error{"CAS": write(reader, "p/new"), "Delete": reader.Delete(t.Context(), "p/k")} {
		if !errors.Is(err, kv.ErrPermission) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
