package kv_test

import (
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/polykv/polykv/kv"
)

func TestCheckKey(t *testing.T) {
	for _, key := range []string{
		"a", "a/b", "a b", "?", "#", "%41", "+", "é/漢字", "...", "a/...", "..a", ".polykvx", "a.polykv",
		strings.Repeat("k", kv.MaxKeyLen), "trailing ", " leading", "\u00a0", "a\\b", `"`,
	} {
		if err := kv.CheckKey(key); err != nil {
			t.Errorf("CheckKey(%q) = %v", key, err)
		}
	}
	for _, key := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "./a", "a/.", "a/../b", "a\x00", "a\x7f", "a\u0085", "\xff", "a\nb",
		strings.Repeat("k", kv.MaxKeyLen+1), ".polykv", ".polykv/record", "a/.polykv/b", "a/.polykv", ".polykv.polykv/.polykv",
	} {
		if err := kv.CheckKey(key); !errors.Is(err, kv.ErrInvalidKey) {
			t.Errorf("CheckKey(%q) = %v, want ErrInvalidKey", key, err)
		}
	}
}

func TestCheckNamespace(t *testing.T) {
	for _, prefix := range []string{"", "a/", "a/b/"} {
		if err := kv.CheckNamespace(prefix); err != nil {
			t.Errorf("CheckNamespace(%q) = %v", prefix, err)
		}
	}
	for _, prefix := range []string{"a", "/", "a//", "/a/", "../", ".polykv/"} {
		if err := kv.CheckNamespace(prefix); !errors.Is(err, kv.ErrInvalidKey) || strings.Contains(err.Error(), "the key is empty") {
			t.Errorf("CheckNamespace(%q) = %v, want ErrInvalidKey that names it", prefix, err)
		}
	}
}

// FuzzCheckKey holds CheckKey against the rule said in other words.
func FuzzCheckKey(f *testing.F) {
	for _, seed := range []string{"a", "a/b", "/", "a/.polykv/b", "\xff", "a/../b", strings.Repeat("é", 256)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		want := len(key) >= 1 && len(key) <= kv.MaxKeyLen && utf8.ValidString(key) && !strings.ContainsFunc(key, unicode.IsControl)
		for _, segment := range strings.Split(key, "/") {
			switch segment {
			case "", ".", "..", kv.ReservedSegment:
				want = false
			}
		}
		if err := kv.CheckKey(key); (err == nil) != want {
			t.Errorf("CheckKey(%q) = %v, but allowed is %v", key, err, want)
		}
	})
}
