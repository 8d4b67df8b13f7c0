package conformance

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/polykv/polykv/kv"
)

func guardedCases() []testCase {
	return []testCase{
		{"Guarded", "fenced", "a guarded operation whose guard does not hold gets ErrFenced, with nothing written", needGuarded | needVersioned, guardBroken},
		{"Guarded", "holds", "guarded operations work while the guard holds, and without one", needGuarded | needVersioned, guardHolds},
		{"Guarded", "broken-meanwhile", "a guard that breaks between the callback and the swap fences it", needGuarded | needVersioned, guardBrokenMeanwhile},
		{"Guarded", "same-bytes", "a guard is broken by a write of the same bytes, and by delete and re-create", needGuarded | needVersioned, guardSameBytes},
		{"Guarded", "decline", "a decision not to write counts only while the guard holds", needGuarded | needVersioned, guardedDecline},
		{"Guarded", "turns", "of writers with guards of different times, those of the past write nothing", needGuarded | needVersioned, guardedTurns},
		{"Guarded", "several", "several guards are one condition: in whatever order, each of them that is broken fences", needGuarded | needVersioned | needLimits, guardsSeveral},
		{"Guarded", "several-meanwhile", "any of several guards that breaks between the callback and the swap fences it", needGuarded | needVersioned | needLimits, guardsBrokenMeanwhile},
		{"Guarded", "too-many", "more guards than Limits says are refused with ErrNotSupported, before any I/O", needGuarded | needVersioned | needLimits, guardsTooMany},
		{"Guarded", "fenced-client", "a client that is fenced writes only while its guards hold, and reads on", needGuarded | needVersioned, fencedClient},
		{"Guarded", "fence-refused", "a fence that could never hold, or of more guards than the store takes, is refused when it is made", needGuarded | needLimits, fenceRefused},
		{"Guarded", "reserved", "a guard may be a reserved key, and must be a valid one", needGuarded | needVersioned | needRaw, guardKeys},
		{"Guarded", "too-large", "a guarded value is held to the limit for those", needGuarded | needVersioned | needLimits, guardedTooLarge},
	}
}

// guarded returns c's guarded operations.
func (t *trial) guarded(c kv.Client) kv.GuardedClient {
	t.Helper()
	g, err := kv.Guarded(c)
	t.ok(err, "Guarded")
	return g
}

// tryGuarded makes one guarded read. Whether a store has guards shows only
// under one.
func tryGuarded(t *trial, c kv.Client, guards ...kv.Guard) error {
	g, err := kv.Guarded(c)
	if err == nil {
		_, err = g.GetGuarded(t.ctx(), "k", guards...)
	}
	return err
}

// guardOn returns a guard that holds until key is written.
func (t *trial) guardOn(c kv.Client, key string) kv.Guard {
	t.Helper()
	v, err := kv.Versioned(c)
	t.ok(err, "Versioned")
	_, version, err := v.GetVersion(t.ctx(), key)
	t.ok(err, "GetVersion of %q", key)
	if version == 0 {
		t.Fatalf("the guard %q is at version 0", key)
	}
	return kv.Guard{Key: key, Version: version}
}

// putGuard writes a guard and returns it, as the reader sees it.
func (t *trial) putGuard(writer, reader kv.Client) kv.Guard {
	t.Helper()
	t.put(writer, "guard", "on")
	return t.guardOn(reader, "guard")
}

func write(value any) func(any) (any, bool, error) {
	return func(any) (any, bool, error) { return value, false, nil }
}

func guardHolds(t *trial) {
	a, b := t.open(), t.open()
	for _, guards := range [][]kv.Guard{{t.putGuard(a, b)}, nil} {
		g := t.guarded(b)
		t.ok(g.CASGuarded(t.ctx(), "k", write("created"), guards...), "CASGuarded of an absent key")
		t.wantGet(a, "k", "created")
		t.ok(g.CASGuarded(t.ctx(), "k", write("changed"), guards...), "CASGuarded")
		value, err := g.GetGuarded(t.ctx(), "k", guards...)
		t.ok(err, "GetGuarded")
		if value != "changed" {
			t.Fatalf("GetGuarded returned %s", show(value))
		}
		t.put(a, "k", "theirs")
		t.ok(g.CASGuarded(t.ctx(), "k", func(in any) (any, bool, error) { return fmt.Sprint(in) + "!", false, nil }, guards...), "CASGuarded")
		t.wantGet(a, "k", "theirs!")
		t.ok(g.CASGuarded(t.ctx(), "k", takeAway, guards...), "CASGuarded with kv.Remove")
		t.put(a, "k", "again")
		t.ok(g.DeleteGuarded(t.ctx(), "k", guards...), "DeleteGuarded")
		t.ok(g.DeleteGuarded(t.ctx(), "k", guards...), "DeleteGuarded of an absent key")
		t.wantGet(a, "k", nil)
		value, err = g.GetGuarded(t.ctx(), "k", guards...)
		if t.ok(err, "GetGuarded"); value != nil {
			t.Fatalf("GetGuarded of an absent key returned %s", show(value))
		}
	}
}

// wantFenced wants every guarded operation to fail, and the keys "k" and
// "absent" to stay as they are.
func (t *trial) wantFenced(c kv.Client, why string, guards ...kv.Guard) {
	t.Helper()
	g := t.guarded(c)
	for _, key := range []string{"k", "absent"} {
		before := t.get(c, key)
		_, err := g.GetGuarded(t.ctx(), key, guards...)
		t.wantErr(err, "GetGuarded under "+why, kv.ErrFenced)
		t.wantErr(g.CASGuarded(t.ctx(), key, write("fenced"), guards...), "CASGuarded under "+why, kv.ErrFenced)
		t.wantErr(g.CASGuarded(t.ctx(), key, takeAway, guards...), "CASGuarded with kv.Remove under "+why, kv.ErrFenced)
		t.wantErr(g.DeleteGuarded(t.ctx(), key, guards...), "DeleteGuarded under "+why, kv.ErrFenced)
		t.wantGet(c, key, before)
	}
}

func guardBroken(t *trial) {
	a, b := t.open(), t.open()
	t.put(a, "k", "v")
	guard := t.putGuard(a, b)
	t.ok(t.guarded(b).CASGuarded(t.ctx(), "k", write("v"), guard), "CASGuarded")
	t.put(a, "guard", "off")
	t.wantFenced(b, "a guard that was changed", guard)
	t.wantFenced(a, "a guard that was changed", guard)
	guard = t.guardOn(b, "guard")
	t.delete(a, "guard")
	t.wantFenced(b, "a guard that was deleted", guard)
	t.wantFenced(b, "a guard that never was", kv.Guard{Key: "never", Version: 1})
	t.wantFenced(b, "a guard at version 0", kv.Guard{Key: "never"})
	t.wantGet(a, "k", "v")
	t.wantGet(a, "absent", nil)
}

func guardBrokenMeanwhile(t *trial) {
	a, b := t.open(), t.open()
	for _, key := range []string{"k", "absent"} {
		if key == "k" {
			t.put(a, key, "v")
		}
		before := t.get(a, key)
		for _, out := range []any{"new", kv.Remove} {
			if key == "absent" && out == kv.Remove {
				continue
			}
			guard := t.putGuard(a, b)
			calls := 0
			err := t.guarded(b).CASGuarded(t.ctx(), key, func(any) (any, bool, error) {
				if calls++; calls == 1 {
					t.put(a, "guard", "off")
				}
				return out, false, nil
			}, guard)
			t.wantErr(err, "CASGuarded whose guard broke in its callback", kv.ErrFenced)
			t.wantGet(a, key, before)
		}
	}
	// A broken guard takes precedence over a conflict, which would call again.
	guard := t.putGuard(a, b)
	err := t.guarded(b).CASGuarded(t.ctx(), "k", func(any) (any, bool, error) {
		t.put(a, "k", "theirs")
		t.put(a, "guard", "off")
		return "mine", false, nil
	}, guard)
	t.wantErr(err, "CASGuarded that was overtaken and fenced", kv.ErrFenced)
	t.wantGet(a, "k", "theirs")
}

func guardSameBytes(t *trial) {
	a, b := t.open(), t.open()
	t.put(a, "k", "v")
	guard := t.putGuard(a, b)
	t.put(a, "guard", "off")
	t.put(a, "guard", "on")
	t.wantFenced(b, "a guard that was changed and changed back", guard)
	guard = t.guardOn(b, "guard")
	t.delete(a, "guard")
	t.put(a, "guard", "on")
	t.wantFenced(b, "a guard that was deleted and created again", guard)
}

func guardedDecline(t *trial) {
	a, b := t.open(), t.open()
	t.put(a, "k", "v")
	guard := t.putGuard(a, b)
	g := t.guarded(b)
	decline := func(any) (any, bool, error) { return nil, false, nil }
	t.ok(g.CASGuarded(t.ctx(), "k", decline, guard), "CASGuarded that declines")
	t.put(b, "k", "w") // what b may remember is newer than the guard
	t.put(a, "guard", "off")
	t.wantErr(g.CASGuarded(t.ctx(), "k", decline, guard), "CASGuarded that declines under a broken guard", kv.ErrFenced)
	refuse := func(any) (any, bool, error) { return nil, false, errPicky }
	t.wantErr(g.CASGuarded(t.ctx(), "k", refuse, guard), "CASGuarded that fails under a broken guard", kv.ErrFenced)
}

// guardedTurns has many write one key under a guard that somebody turns: a
// value of an earlier turn is never written after a later turn was begun. One
// of them is always late.
func guardedTurns(t *trial) {
	const turns = 15
	clients := t.openN(4)
	turner := t.open()
	t.put(turner, "guard", "0")
	var turn atomic.Int64
	t.each(len(clients)+1, func(i int) {
		if i == len(clients) {
			for n := 1; n <= turns; n++ {
				t.put(turner, "guard", strconv.Itoa(n))
				before := t.get(turner, "k")
				turn.Store(int64(n))
				t.eventually("somebody writes in this turn", func() bool {
					if got := number(t.get(turner, "k")); got != n && got != number(before) {
						t.Fatalf("a write of turn %d was carried out in turn %d", got, n)
					}
					return n == turns || number(t.get(turner, "k")) == n
				})
			}
			return
		}
		for turn.Load() < turns {
			began := t.get(clients[i], "guard")
			guard := t.guardOn(clients[i], "guard")
			if t.get(clients[i], "guard") != began {
				continue // turned meanwhile: whose version is it?
			}
			late := i == 0
			err := t.guarded(clients[i]).CASGuarded(t.ctx(), "k", func(any) (any, bool, error) {
				for late && turn.Load() <= int64(number(began)) && turn.Load() < turns {
					runtime.Gosched()
				}
				return began, false, nil
			}, guard)
			if err != nil || late && number(began) < turns {
				t.wantErr(err, "CASGuarded of an earlier turn", kv.ErrFenced)
			}
		}
	})
}

func guardKeys(t *trial) {
	c := t.open()
	raw, err := kv.Raw(c)
	t.ok(err, "Raw")
	t.put(raw, ".polykv/guard", []byte("on"))
	guard := t.guardOn(raw, ".polykv/guard")
	g := t.guarded(c)
	t.ok(g.CASGuarded(t.ctx(), "k", write("v"), guard), "CASGuarded under a reserved guard")
	t.put(raw, ".polykv/guard", []byte("off"))
	t.wantFenced(c, "a reserved guard that was changed", guard)
	for _, key := range []string{"", "/guard", "a//b", "guard/"} {
		bad := kv.Guard{Key: key, Version: 1}
		t.wantErr(g.CASGuarded(t.ctx(), "k", write("w"), bad), "CASGuarded under the guard "+show(key), kv.ErrInvalidKey)
	}
	for _, key := range []string{"", "a//b", ".polykv/x"} {
		_, err := g.GetGuarded(t.ctx(), key)
		t.wantErr(err, "GetGuarded of "+show(key), kv.ErrInvalidKey)
		t.wantErr(g.CASGuarded(t.ctx(), key, write("w")), "CASGuarded of "+show(key), kv.ErrInvalidKey)
		t.wantErr(g.DeleteGuarded(t.ctx(), key), "DeleteGuarded of "+show(key), kv.ErrInvalidKey)
	}
	t.wantGet(c, "k", "v")
}

func guardedTooLarge(t *trial) {
	c := t.open()
	limits, err := kv.LimitsOf(c)
	t.ok(err, "LimitsOf")
	guard := t.putGuard(c, c)
	if limits.GuardedValue <= 0 {
		t.Logf("no limit known")
		return
	}
	g := t.guarded(c)
	largest := strings.Repeat("x", limits.GuardedValue)
	t.ok(g.CASGuarded(t.ctx(), "k", write(largest), guard), "CASGuarded of a value of the limit")
	t.wantGet(c, "k", largest)
	t.wantErr(g.CASGuarded(t.ctx(), "k", write(largest+"x"), guard), "CASGuarded of a value over the limit", kv.ErrTooLarge)
	t.wantGet(c, "k", largest)
}

// fencedClient puts a fence around a client, and wrappers around and inside it.
func fencedClient(t *trial) {
	c, other := t.open(), t.open()
	t.put(other, "ns/k", "0")
	fence := t.putGuard(other, c)
	fenced, err := kv.Fenced(c, fence)
	t.ok(err, "Fenced")
	inNamespace, err := kv.Prefix(fenced, "ns/")
	t.ok(err, "kv.Prefix")
	numbers := kv.Typed[any](inNamespace)
	write := map[string]func() error{
		"CAS": func() error { return t.cas(inNamespace, "k", increment) },
		"Update": func() error {
			return numbers.Update(t.ctx(), "k", func(old any, _ bool) (any, kv.Action, error) { out, _, err := increment(old); return out, kv.Put, err })
		},
		"CASGuarded": func() error { return t.guarded(fenced).CASGuarded(t.ctx(), "ns/k", increment) },
		"SwapVersion": func() error {
			value, version, err := t.versions(fenced).GetVersion(t.ctx(), "ns/k")
			if err != nil {
				return err
			}
			out, _, _ := increment(value)
			_, err = t.versions(fenced).SwapVersion(t.ctx(), "ns/k", version, out)
			return err
		},
	}
	if t.has(Raw) {
		raw := t.raw(fenced)
		write["a raw view's CAS"] = func() error {
			return t.cas(raw, "ns/k", func(in any) (any, bool, error) {
				b, _ := in.([]byte)
				out, _, err := increment(string(b))
				return fmt.Append(nil, out), false, err
			})
		}
	}
	limits, err := kv.LimitsOf(c)
	roomy := t.has(Limits) && err == nil && limits.Guards > 1
	if !roomy {
		delete(write, "CASGuarded") // the fence has all the guards
	}
	for what, write := range write {
		t.ok(write(), "%s while the fence holds", what)
	}
	t.wantGet(other, "ns/k", fmt.Sprint(len(write)))
	t.ok(fenced.Delete(t.ctx(), "ns/absent"), "Delete while the fence holds")

	t.put(other, "guard", "off")
	write["Delete"] = func() error { return inNamespace.Delete(t.ctx(), "k") }
	for what, write := range write {
		t.wantErr(write(), what+" under a broken fence", kv.ErrFenced)
	}
	t.wantGet(other, "ns/k", fmt.Sprint(len(write)-1))
	t.wantGet(inNamespace, "k", fmt.Sprint(len(write)-1))
	t.wantList(fenced, "ns/", "ns/k")
	t.put(other, "ns/k", "by another")
	w := t.watchKey(fenced, "ns/k")
	w.untilIs("ns/k", "by another")
}

func fenceRefused(t *trial) {
	c := t.open()
	limits, err := kv.LimitsOf(c)
	t.ok(err, "LimitsOf")
	guard := kv.Guard{Key: "guard", Version: 1}
	for what, refused := range map[string]struct {
		guards []kv.Guard
		why    error
	}{
		"nothing":            {nil, nil},
		"a guard at nothing": {[]kv.Guard{{Key: "guard"}}, kv.ErrFenced},
		"no key":             {[]kv.Guard{{Key: "a//b", Version: 1}}, kv.ErrInvalidKey},
		"too many guards":    {slices.Repeat([]kv.Guard{guard}, limits.Guards+1), kv.ErrNotSupported},
	} {
		_, err := kv.Fenced(c, refused.guards...)
		if err == nil {
			t.Fatalf("Fenced by %s succeeded", what)
		}
		if refused.why != nil {
			t.wantErr(err, "Fenced by "+what, refused.why)
		}
	}
	full, err := kv.Fenced(c, slices.Repeat([]kv.Guard{guard}, limits.Guards)...)
	t.ok(err, "Fenced by all the guards that the store takes")
	_, err = kv.Guarded(full)
	t.wantErr(err, "Guarded of a client whose fence has all the guards", kv.ErrNotSupported)
	_, err = kv.Fenced(full, guard)
	t.wantErr(err, "one fence more", kv.ErrNotSupported)
}
