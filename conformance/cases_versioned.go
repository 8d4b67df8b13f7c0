package conformance

import (
	"errors"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/polykv/polykv/kv"
)

func versionedCases() []testCase {
	return []testCase{
		{"Versioned", "swap", "SwapVersion writes at exactly the version it names, and tells the new one", needVersioned, swapVersion},
		{"Versioned", "never-again", "a version never comes back, delete and re-create included", needVersioned, versionsNeverReturn},
		{"Versioned", "one-winner", "of many swaps of one version exactly one is carried out", needVersioned, oneSwapWins},
		{"Versioned", "same-everywhere", "every client sees the same version, which only a write changes", needVersioned, versionsAreShared},
		{"Versioned", "own-version", "the version told is never that of another caller's write", needVersioned, swapTellsOwnVersion},
		{"Versioned", "refused", "SwapVersion refuses keys and values as CAS does", needVersioned, swapRefuses},
	}
}

// versions returns c's versioned operations.
func (t *trial) versions(c kv.Client) kv.VersionedClient {
	t.Helper()
	v, err := kv.Versioned(c)
	t.ok(err, "Versioned")
	return v
}

// wantVersion wants a value at a version.
func (t *trial) wantVersion(c kv.Client, key string, value any, version kv.Version) {
	t.Helper()
	got, at, err := t.versions(c).GetVersion(t.ctx(), key)
	t.ok(err, "GetVersion of %q", key)
	if got != value || at != version {
		t.Fatalf("GetVersion of %q returned %s at %d, want %s at %d", key, show(got), at, show(value), version)
	}
}

func swapVersion(t *trial) {
	a, b := t.open(), t.open()
	v := t.versions(a)
	t.wantVersion(b, "k", nil, 0)
	swap := func(prev kv.Version, value any) kv.Version {
		t.Helper()
		version, err := v.SwapVersion(t.ctx(), "k", prev, value)
		t.ok(err, "SwapVersion at %d", prev)
		return version
	}
	conflict := func(prev kv.Version, value any) {
		t.Helper()
		_, err := v.SwapVersion(t.ctx(), "k", prev, value)
		t.wantErr(err, "SwapVersion at "+strconv.Itoa(int(prev)), kv.ErrConflict)
	}
	first := swap(0, "v1")
	t.wantVersion(b, "k", "v1", first)
	conflict(0, "over")
	conflict(first+1000000, "over")
	second := swap(first, "v2")
	t.wantVersion(b, "k", "v2", second)
	conflict(first, "late")
	conflict(first, kv.Remove)
	t.put(b, "k", "theirs")
	conflict(second, "late")
	t.wantGet(b, "k", "theirs")
	_, third, err := v.GetVersion(t.ctx(), "k")
	t.ok(err, "GetVersion")
	if gone := swap(third, kv.Remove); gone != 0 {
		t.Fatalf("SwapVersion of a removal returned version %d, want 0", gone)
	}
	t.wantVersion(b, "k", nil, 0)
	conflict(third, "late")
	conflict(third, kv.Remove)
	conflict(0, kv.Remove)
	t.wantGet(b, "k", nil)
}

func versionsNeverReturn(t *trial) {
	a, b := t.open(), t.open()
	v := t.versions(b)
	seen := map[kv.Version]int{0: -1}
	for i := range 20 {
		t.put(a, "k", "same")
		if i%3 == 0 {
			t.delete(b, "k")
			t.put(a, "k", "same")
		}
		_, version, err := v.GetVersion(t.ctx(), "k")
		t.ok(err, "GetVersion")
		if before, again := seen[version]; again && i%3 == 0 {
			t.Fatalf("round %d has version %d, which round %d had before the key was deleted", i, version, before)
		}
		seen[version] = i
		if i%4 == 3 {
			t.put(a, "k", "other")
			_, other, err := v.GetVersion(t.ctx(), "k")
			t.ok(err, "GetVersion")
			if _, again := seen[other]; again {
				t.Fatalf("a changed value has the old version %d", other)
			}
			seen[other] = i
		}
	}
}

func oneSwapWins(t *trial) {
	clients := t.openN(4)
	t.put(clients[0], "k", "0")
	for round := 1; round <= 10; round++ {
		_, version, err := t.versions(clients[0]).GetVersion(t.ctx(), "k")
		t.ok(err, "GetVersion")
		var winners atomic.Int64
		var won atomic.Value
		t.each(12, func(i int) {
			value := strconv.Itoa(round*100 + i)
			at, err := t.versions(clients[i%4]).SwapVersion(t.ctx(), "k", version, value)
			if err != nil {
				t.wantErr(err, "SwapVersion", kv.ErrConflict)
				return
			}
			winners.Add(1)
			won.Store(value)
			t.wantVersion(clients[(i+1)%4], "k", value, at)
		})
		if n := winners.Load(); n != 1 {
			t.Fatalf("%d swaps of one version were carried out", n)
		}
		t.wantGet(clients[1], "k", won.Load())
	}
}

func versionsAreShared(t *trial) {
	clients := t.openN(3)
	t.put(clients[0], "k", "v")
	_, version, err := t.versions(clients[0]).GetVersion(t.ctx(), "k")
	t.ok(err, "GetVersion")
	t.put(clients[1], "other", "v")
	t.delete(clients[2], "other")
	t.ok(t.cas(clients[1], "k", func(any) (any, bool, error) { return nil, false, nil }), "a CAS that declines")
	for _, c := range clients {
		t.wantVersion(c, "k", "v", version)
	}
	other := t.own(kv.Prefix(t.open(), "k/"))
	t.wantVersion(other, "k", nil, 0)
}

// swapTellsOwnVersion has swaps and CAS calls compete in one client, where
// they may be carried together.
func swapTellsOwnVersion(t *trial) {
	c, other := t.open(), t.open()
	t.put(c, "k", "0")
	t.each(8, func(i int) {
		v := t.versions(c)
		for n := range 10 {
			if i%2 == 0 {
				t.ok(t.cas(c, "k", func(any) (any, bool, error) { return "theirs", false, nil }), "CAS")
				continue
			}
			_, version, err := v.GetVersion(t.ctx(), "k")
			t.ok(err, "GetVersion")
			mine := strconv.Itoa(i*100 + n)
			told, err := v.SwapVersion(t.ctx(), "k", version, mine)
			if errors.Is(err, kv.ErrIndeterminate) {
				continue // the store tells no version, and the key was written again before it could be read back
			}
			if err != nil {
				t.wantErr(err, "SwapVersion", kv.ErrConflict)
				continue
			}
			if value, at, err := t.versions(other).GetVersion(t.ctx(), "k"); err != nil || at == told && value != mine {
				t.Fatalf("SwapVersion wrote %q and told version %d, at which %s is found (%v)", mine, told, show(value), err)
			}
		}
	})
}

func swapRefuses(t *trial) {
	c := t.openWith(picky{})
	v := t.versions(c)
	for _, key := range []string{"", "/k", "a//b", ".polykv/x", strings.Repeat("k", kv.MaxKeyLen+1)} {
		_, err := v.SwapVersion(t.ctx(), key, 0, "v")
		t.wantErr(err, "SwapVersion of "+show(key), kv.ErrInvalidKey)
		_, _, err = v.GetVersion(t.ctx(), key)
		t.wantErr(err, "GetVersion of "+show(key), kv.ErrInvalidKey)
	}
	_, err := v.SwapVersion(t.ctx(), "k", 0, "!")
	t.wantErr(err, "SwapVersion of a value that can't be encoded", errPicky)
	if limits, err := kv.LimitsOf(c); err == nil && limits.Value > 0 {
		_, err := v.SwapVersion(t.ctx(), "k", 0, strings.Repeat("x", limits.Value+1))
		t.wantErr(err, "SwapVersion of a value over the limit", kv.ErrTooLarge)
	}
	t.wantList(c, "")
}
