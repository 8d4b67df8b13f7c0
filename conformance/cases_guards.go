package conformance

import (
	"fmt"
	"slices"

	"github.com/polykv/polykv/kv"
)

// mostGuards returns how many guards c takes.
func (t *trial) mostGuards(c kv.Client) int {
	t.Helper()
	limits, err := kv.LimitsOf(c)
	t.ok(err, "LimitsOf")
	if limits.Guards < 1 {
		t.Fatalf("LimitsOf tells %d guards of a client that offers guarded operations", limits.Guards)
	}
	return limits.Guards
}

// guardNames are the keys of at most three guards that c takes at once.
func (t *trial) guardNames(c kv.Client) []string {
	t.Helper()
	return []string{"guard/a", "guard/b", "guard/c"}[:min(3, t.mostGuards(c))]
}

// guardsOn returns guards that hold until one of keys is written.
func (t *trial) guardsOn(c kv.Client, keys []string) (guards []kv.Guard) {
	t.Helper()
	for _, key := range keys {
		guards = append(guards, t.guardOn(c, key))
	}
	return guards
}

// orders returns every order of guards.
func orders(guards []kv.Guard) [][]kv.Guard {
	if len(guards) <= 1 {
		return [][]kv.Guard{guards}
	}
	var all [][]kv.Guard
	for i := range guards {
		rest := slices.Delete(slices.Clone(guards), i, i+1)
		for _, order := range orders(rest) {
			all = append(all, append([]kv.Guard{guards[i]}, order...))
		}
	}
	return all
}

func guardsSeveral(t *trial) {
	a, b := t.open(), t.open()
	g := t.guarded(b)
	names := t.guardNames(b)
	for _, name := range names {
		t.put(a, name, "on")
	}
	t.put(a, "k", "v")
	for i, order := range orders(t.guardsOn(b, names)) {
		value := fmt.Sprint(i)
		t.ok(g.CASGuarded(t.ctx(), "k", write(value), order...), "CASGuarded under %d guards that hold", len(order))
		got, err := g.GetGuarded(t.ctx(), "k", order...)
		if t.ok(err, "GetGuarded under %d guards that hold", len(order)); got != value {
			t.Fatalf("GetGuarded returned %s, want %s", show(got), show(value))
		}
		_, err = t.versions(b).SwapVersion(t.ctx(), "k", 0, "over", order...)
		t.wantErr(err, "SwapVersion of what must be absent, and isn't", kv.ErrConflict)
		t.ok(g.CASGuarded(t.ctx(), "new", write(value), order...), "CASGuarded of an absent key under %d guards that hold", len(order))
		t.ok(g.DeleteGuarded(t.ctx(), "new", order...), "DeleteGuarded under %d guards that hold", len(order))
	}
	for broken, name := range names {
		guards := t.guardsOn(b, names)
		t.put(a, name, "off")
		for _, order := range orders(guards) {
			at := slices.Index(order, guards[broken])
			t.wantFenced(b, fmt.Sprintf("%d guards, of which number %d was changed", len(order), at+1), order...)
			t.versionsFenced(b, order)
		}
	}
	if same := t.guardOn(b, names[0]); len(names) > 1 {
		t.ok(g.CASGuarded(t.ctx(), "k", write("twice"), same, same), "CASGuarded under the same guard twice")
		t.wantFenced(b, "two guards on one key at different versions", same, kv.Guard{Key: same.Key, Version: same.Version + 1000})
	}
}

// versionsFenced wants the versioned operations to fail under guards.
func (t *trial) versionsFenced(c kv.Client, guards []kv.Guard) {
	t.Helper()
	v := t.versions(c)
	_, version, err := v.GetVersion(t.ctx(), "k")
	t.ok(err, "GetVersion")
	_, _, err = v.GetVersion(t.ctx(), "k", guards...)
	t.wantErr(err, "GetVersion under a broken guard", kv.ErrFenced)
	_, err = v.SwapVersion(t.ctx(), "k", version, "fenced", guards...)
	t.wantErr(err, "SwapVersion under a broken guard", kv.ErrFenced)
	_, err = v.SwapVersion(t.ctx(), "k", version, kv.Remove, guards...)
	t.wantErr(err, "SwapVersion with kv.Remove under a broken guard", kv.ErrFenced)
}

func guardsBrokenMeanwhile(t *trial) {
	a, b := t.open(), t.open()
	names := t.guardNames(b)
	for _, out := range []any{"new", kv.Remove} {
		for _, name := range names {
			for _, name := range names {
				t.put(a, name, "on")
			}
			t.put(a, "k", "v")
			guards := t.guardsOn(b, names)
			err := t.guarded(b).CASGuarded(t.ctx(), "k", func(any) (any, bool, error) {
				t.put(a, name, "broken")
				return out, false, nil
			}, guards...)
			t.wantErr(err, "CASGuarded under guards of which one was changed in its callback", kv.ErrFenced)
			t.wantGet(a, "k", "v")
		}
	}
}

func guardsTooMany(t *trial) {
	c := t.open()
	most := t.mostGuards(c)
	t.put(c, "k", "v")
	t.put(c, "guard", "on")
	g, v := t.guarded(c), t.versions(c)
	guards := slices.Repeat([]kv.Guard{t.guardOn(c, "guard")}, most)
	t.ok(g.CASGuarded(t.ctx(), "k", write("w"), guards...), "CASGuarded under as many guards as are allowed, %d", most)
	t.put(c, "guard", "off")
	t.wantFenced(c, "as many guards as are allowed", guards...)

	// A store that was asked would say that they are broken.
	guards = append(guards, guards[0])
	_, err := g.GetGuarded(t.ctx(), "k", guards...)
	t.wantErr(err, "GetGuarded under too many guards", kv.ErrNotSupported)
	t.wantErr(g.CASGuarded(t.ctx(), "k", func(any) (any, bool, error) {
		t.Errorf("the callback of a CASGuarded under too many guards was called")
		return nil, false, nil
	}, guards...), "CASGuarded under too many guards", kv.ErrNotSupported)
	t.wantErr(g.DeleteGuarded(t.ctx(), "k", guards...), "DeleteGuarded under too many guards", kv.ErrNotSupported)
	_, _, err = v.GetVersion(t.ctx(), "k", guards...)
	t.wantErr(err, "GetVersion under too many guards", kv.ErrNotSupported)
	_, err = v.SwapVersion(t.ctx(), "k", 1, "x", guards...)
	t.wantErr(err, "SwapVersion under too many guards", kv.ErrNotSupported)
	t.wantGet(c, "k", "w")
}
