package conformance

import (
	"slices"
	"strings"

	"github.com/polykv/polykv/kv"
)

func keyCases() []testCase {
	return []testCase{
		{"K1", "invalid-refused", "an invalid key gets ErrInvalidKey from every operation, and no callback runs", 0, invalidKeysRefused},
		{"K1", "odd-keys-work", "every valid key works, byte for byte: spaces, signs, unicode, dots", 0, oddKeysWork},
		{"K1", "longest-key", "a key of 512 bytes, prefixes included, works, and one byte more is refused", 0, longestKey},
		{"K1", "before-any-request", "an invalid key is refused without asking the store", needLine, invalidBeforeRequest},
		{"K2", "bytes-not-folders", "List takes a prefix byte by byte", 0, prefixIsBytes},
		{"K2", "watch-prefix", "WatchPrefix takes a prefix byte by byte", 0, watchPrefixIsBytes},
		{"K2", "ends-anywhere", "a prefix may end within a character, and after the largest one", 0, prefixEndsAnywhere},
		{"K2", "empty", "the empty prefix is everything, and a prefix without keys is an empty list", 0, emptyPrefix},
		{"K2", "entries", "Entries takes a prefix byte by byte", 0, entriesPrefixIsBytes},
	}
}

// invalidKeys break rule K1, each in another way.
func invalidKeys() []string {
	return []string{
		"", "/", "//", "/a", "a/", "a//b", "//a", "a/b//",
		".", "..", "./a", "../a", "a/.", "a/..", "a/./b", "a/../b",
		"\x00", "a\x00b", "a\x01b", "a\tb", "a\nb", "a\rb", "\x1f", "\x7f", "a\u0080b", "a\u0085b", "a\u009fb",
		"\xff", "a\xc3", "a\xc3(b", "\xed\xa0\x80",
		strings.Repeat("k", kv.MaxKeyLen+1), strings.Repeat("é", kv.MaxKeyLen/2+1),
	}
}

func invalidKeysRefused(t *trial) {
	c := t.open()
	for _, key := range invalidKeys() {
		refused(t, c, key)
	}
	t.wantList(c, "")
}

// refused wants every operation on key to end with ErrInvalidKey.
func refused(t *trial, c kv.Client, key string) {
	t.Helper()
	_, err := c.Get(t.ctx(), key)
	t.wantErr(err, "Get of "+show(key), kv.ErrInvalidKey)
	t.wantErr(c.Delete(t.ctx(), key), "Delete of "+show(key), kv.ErrInvalidKey)
	called := false
	err = t.cas(c, key, func(any) (any, bool, error) {
		called = true
		return "value", false, nil
	})
	t.wantErr(err, "CAS of "+show(key), kv.ErrInvalidKey)
	if called {
		t.Fatalf("CAS of %q called its callback", key)
	}
}

// oddKeys obey rule K1 and are of the kind that gets lost in URLs, file names,
// patterns and normal forms of unicode.
func oddKeys() []string {
	return []string{
		"a b", " lead", "trail ", "a/ /b", "q?x=1", "hash#1", "100%", "%2F", "%2e%2e", "%zz", "a+b", "a&b=c;d", `quo"te`,
		"it's", `back\slash`, `\`, "comma,colon:", "<tag>", "{json}", "[1]", "star*", "**", "~", "~root", "me@home", "$x",
		"a|b", "^", "`tick`", "!", "(x)", "-", "--flag", "_", "0", "...", "a...b/c", ".hidden", "a/.hidden/b", "..a", "a..",
		"Key", "key", "KEY", "ключ", "鍵/値", "caf\u00e9", "cafe\u0301", "🔑/🔒", "a\u00a0b", "zero\u200bwidth", "\ufeffbom",
		"rtl\u202e", "\U0010ffff", "a/b/c/d/e/f/g/h", "v1/kv", "null", "None", "tab\\t", "x.polykv", ".polykvx", "a/polykv",
	}
}

func oddKeysWork(t *trial) {
	a, b := t.open(), t.open()
	keys := oddKeys()
	slices.Sort(keys)
	t.each(len(keys), func(i int) { t.put(a, keys[i], "value of "+keys[i]) })
	for _, key := range keys {
		t.wantGet(b, key, "value of "+key)
		t.wantList(b, key, underneath(keys, key)...)
	}
	t.wantList(b, "", keys...)

	all := t.watchPrefix(b, "")
	all.until("every key", func(calls []seen) bool { return len(calls) == len(keys) })
	for i, call := range all.all() {
		if call.key != keys[i] || call.value != "value of "+keys[i] {
			t.Fatalf("WatchPrefix delivered %v as number %d, want %q", call, i, keys[i])
		}
	}
	one := t.watchKey(b, keys[0])
	one.untilIs(keys[0], "value of "+keys[0])
	t.each(len(keys), func(i int) { t.delete(a, keys[i]) })
	t.wantList(b, "")
	for _, key := range keys {
		all.untilGone(key)
	}
}

// underneath returns those of sorted keys that begin with prefix.
func underneath(keys []string, prefix string) []string {
	return slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return !strings.HasPrefix(key, prefix) })
}

func longestKey(t *trial) {
	a, b := t.open(), t.open()
	longest := kv.MaxKeyLen - len(t.store.Prefix)
	flat := strings.Repeat("k", longest)
	deep := strings.Repeat("d/", longest/2-1) + "ee"
	wide := strings.Repeat("é", longest/2)
	for _, key := range []string{flat, deep, wide} {
		t.put(a, key, "long")
		t.wantGet(b, key, "long")
		t.wantList(b, key[:longest/2], key)
		t.watchKey(b, key).untilIs(key, "long")
		t.delete(b, key)
		t.wantGet(a, key, nil)
	}
	refused(t, a, flat+"k")
	refused(t, a, "é"+flat[1:])
}

func invalidBeforeRequest(t *trial) {
	c, line := t.openLine()
	line.Cut()
	for _, key := range invalidKeys() {
		refused(t, c, key)
	}
	if n := line.Attempts(); n > 0 {
		t.Fatalf("%d requests were made for invalid keys", n)
	}
}

// treeKeys is a small tree that tells byte prefixes from folders.
func treeKeys() []string {
	return []string{"a", "a-b", "a/b", "a/b/c", "a/bc", "ab", "ab/c", "b", "é", "éa", "è", "\U0010ffff", "\U0010ffffa"}
}

// prefixes are prefixes of treeKeys and some that only look like it.
func prefixes() []string {
	return []string{"", "a", "a/", "a/b", "a/b/", "ab", "ab/", "a-", "b", "b/", "c", "é", "A", "a/b/c/d", "\U0010ffff"}
}

func plantTree(t *trial) kv.Client {
	t.Helper()
	a := t.open()
	keys := treeKeys()
	t.each(len(keys), func(i int) { t.put(a, keys[i], keys[i]) })
	slices.Sort(keys)
	return t.open()
}

// sortedTree returns treeKeys that begin with prefix, sorted.
func sortedTree(prefix string) []string {
	keys := treeKeys()
	slices.Sort(keys)
	return underneath(keys, prefix)
}

func prefixIsBytes(t *trial) {
	c := plantTree(t)
	for _, prefix := range prefixes() {
		t.wantList(c, prefix, sortedTree(prefix)...)
	}
}

func watchPrefixIsBytes(t *trial) {
	c := plantTree(t)
	writer := t.open()
	for _, prefix := range prefixes() {
		inside := sortedTree(prefix)
		w := t.watchPrefix(c, prefix)
		w.until("what exists", func(calls []seen) bool { return len(calls) >= len(inside) })
		for _, key := range treeKeys() {
			t.put(writer, key, key+"'"+prefix)
		}
		for _, key := range inside {
			w.untilIs(key, key+"'"+prefix)
		}
		w.stop()
		for _, call := range w.all() {
			if !strings.HasPrefix(call.key, prefix) {
				t.Fatalf("WatchPrefix of %q delivered %v", prefix, call)
			}
		}
	}
}

func prefixEndsAnywhere(t *trial) {
	c := plantTree(t)
	for _, prefix := range []string{"\xc3", "\xf4", "\xf4\x8f\xbf", "\xff", "a/b\xff"} {
		t.wantList(c, prefix, sortedTree(prefix)...)
	}
	w := t.watchPrefix(c, "\xc3")
	w.until("the keys within a character", func(calls []seen) bool { return len(calls) >= len(sortedTree("\xc3")) })
	t.put(c, "é", "changed")
	w.untilIs("é", "changed")
}

func emptyPrefix(t *trial) {
	c := t.open()
	keys := t.list(c, "")
	if len(keys) != 0 {
		t.Fatalf("List of an empty store returned %q", keys)
	}
	plantTree(t)
	t.wantList(c, "", sortedTree("")...)
	t.wantList(c, "nothing here/")
}

func entriesPrefixIsBytes(t *trial) {
	c := plantTree(t)
	for _, prefix := range append(prefixes(), "\xc3", "\xf4\x8f") {
		var got []string
		for entry, err := range kv.Entries(t.ctx(), c, prefix) {
			t.ok(err, "Entries of %q", prefix)
			if entry.Value != entry.Key {
				t.Fatalf("Entries returned %s for %q", show(entry.Value), entry.Key)
			}
			got = append(got, entry.Key)
		}
		if want := sortedTree(prefix); !slices.Equal(got, want) {
			t.Fatalf("Entries of %q returned %q, want %q", prefix, got, want)
		}
	}
}
