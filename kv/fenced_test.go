package kv_test

import (
	"errors"
	"testing"

	"github.com/polykv/polykv/kv"
)

// fence returns a client under one guard, and what breaks that.
func fence(t *testing.T) (r *rig, fenced kv.Client, guard kv.Guard, breaks func()) {
	t.Helper()
	r = newRig(t, kv.Options{})
	guard = kv.Guard{Key: "guard", Version: r.version("guard", "g")}
	fenced, err := kv.Fenced(r.client, guard)
	if err != nil {
		t.Fatal(err)
	}
	return r, fenced, guard, func() { r.put(r.other, "guard", "moved") }
}

func TestFencedWritesCarryTheGuard(t *testing.T) {
	r, client, guard, breaks := fence(t)
	views := map[string]func() (kv.Client, error){
		"itself": func() (kv.Client, error) { return client, nil },
		"raw":    func() (kv.Client, error) { return kv.Raw(client) },
		"again":  func() (kv.Client, error) { return kv.Fenced(client, guard) },
		"codec":  func() (kv.Client, error) { return kv.WithCodec(client, stringCodec) },
	}
	for _, want := range []error{nil, kv.ErrFenced} {
		for name, view := range views {
			c, err := view()
			if err != nil {
				t.Fatal(err)
			}
			var value any = "v"
			if name == "raw" {
				value = []byte("v")
			}
			v, err := kv.Versioned(c)
			if err != nil {
				t.Fatal(err)
			}
			_, errSwap := v.SwapVersion(t.Context(), name+" swapped", 0, value)
			for op, err := range map[string]error{
				"CAS":         c.CAS(t.Context(), name, func(any) (any, bool, error) { return value, false, nil }),
				"SwapVersion": errSwap,
				"Delete":      c.Delete(t.Context(), name),
			} {
				if !errors.Is(err, want) {
					t.Errorf("%s of %s = %v, want %v", op, name, err, want)
				}
			}
			if err := r.other.Delete(t.Context(), name+" swapped"); err != nil {
				t.Fatal(err)
			}
		}
		breaks()
	}
}

// What a fence needs is told, and is missing elsewhere.
func TestFenceTakesItsRoom(t *testing.T) {
	r, client, guard, _ := fence(t)
	whole, err := kv.LimitsOf(r.client)
	if err != nil {
		t.Fatal(err)
	}
	left, err := kv.LimitsOf(client)
	if err != nil || left.Guards != whole.Guards-1 || left.Value != whole.GuardedValue {
		t.Errorf("of %+v a fence leaves %+v, %v", whole, left, err)
	}
	guards := make([]kv.Guard, whole.Guards)
	for i := range guards {
		guards[i] = guard
	}
	v, err := kv.Versioned(client)
	if err != nil {
		t.Fatal(err)
	}
	g, err := kv.Guarded(client)
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range map[int]error{len(guards) - 1: nil, len(guards): kv.ErrNotSupported} {
		_, _, errVersion := v.GetVersion(t.Context(), "guard", guards[:n]...)
		_, errGet := g.GetGuarded(t.Context(), "guard", guards[:n]...)
		errCAS := g.CASGuarded(t.Context(), "k", set("v"), guards[:n]...)
		errDelete := g.DeleteGuarded(t.Context(), "k", guards[:n]...)
		for op, err := range map[string]error{"GetVersion": errVersion, "GetGuarded": errGet, "CASGuarded": errCAS, "DeleteGuarded": errDelete} {
			if !errors.Is(err, want) {
				t.Errorf("%s with %d guards = %v, want %v", op, n, err, want)
			}
		}
	}
	full, err := kv.Fenced(r.client, guards...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Guarded(full); !errors.Is(err, kv.ErrNotSupported) {
		t.Errorf("a fence of all guards takes more: %v", err)
	}
	if _, err := kv.Versioned(full); err != nil {
		t.Errorf("a fence of all guards has versions: %v", err)
	}
	if l, err := kv.LimitsOf(full); err != nil || l.Guards != 0 {
		t.Errorf("a fence of all guards leaves %+v, %v", l, err)
	}
}

func TestFencesAreRefused(t *testing.T) {
	r, _, guard, _ := fence(t)
	limits, err := kv.LimitsOf(r.client)
	if err != nil {
		t.Fatal(err)
	}
	tooMany := make([]kv.Guard, limits.Guards+1)
	for i := range tooMany {
		tooMany[i] = guard
	}
	for name, c := range map[string]struct {
		of     kv.Client
		guards []kv.Guard
		want   error
	}{
		"no guards":     {r.client, nil, nil},
		"no guarded":    {plain{r.client}, []kv.Guard{guard}, kv.ErrNotSupported},
		"too many":      {r.client, tooMany, kv.ErrNotSupported},
		"a bad key":     {r.client, []kv.Guard{{Key: "/", Version: 1}}, kv.ErrInvalidKey},
		"an absent one": {r.client, []kv.Guard{{Key: "absent"}}, kv.ErrFenced},
	} {
		if f, err := kv.Fenced(c.of, c.guards...); f != nil || err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: Fenced = %v, %v; want %v", name, f, err, c.want)
		}
	}
}
