package kv

import "testing"

// FuzzIsPlain: what is plain at a glance is valid under a closer look, and what
// is ASCII without a dot in front of a segment is plain if it is valid.
func FuzzIsPlain(f *testing.F) {
	for _, key := range []string{
		"a", "a/b", "/a", "a/", "a//b", "./a", "a/./b", "a/..", ".polykv", "a/.polykv/b", ".hidden", "a\x00", "a\x7f", "é", "a b", "",
		"abcdefg/h", "abcdefg/.h", "abcdefg//h", "abcdefgh/.i", "abcdefgh.i/j", "abcdefgh/ijklmno/", "abcdefghijk\x1f", "abcdefgh\x7f.......",
	} {
		f.Add(key)
		f.Add("12345678" + key)
		f.Add(key + "12345678")
	}
	f.Fuzz(func(t *testing.T, key string) {
		valid := checkForm(key) == nil && !Reserved(key)
		if isPlain(key) && !valid {
			t.Errorf("%q passes for plain and is not valid: %v", key, CheckKey(key))
		}
		if valid && !isPlain(key) && !unusual(key) {
			t.Errorf("%q is valid and nothing about it is unusual, but it does not pass for plain", key)
		}
		if got := CheckKey(key) == nil; got != valid {
			t.Errorf("CheckKey(%q) says valid: %v, which is wrong", key, got)
		}
	})
}

// unusual reports whether key has what isPlain leaves to a closer look.
func unusual(key string) bool {
	for i := range len(key) {
		if key[i] >= 0x7f || key[i] == '.' && (i == 0 || key[i-1] == '/') {
			return true
		}
	}
	return false
}
