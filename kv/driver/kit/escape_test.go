package kit_test

import (
	"strings"
	"testing"

	"github.com/polykv/polykv/kv/driver/kit"
)

func TestEscape(t *testing.T) {
	letters := func(c byte) bool { return 'a' <= c && c <= 'z' }
	for text, want := range map[string]string{
		"":          "",
		"plain":     "plain",
		"a=b":       "a=3Db",
		" ":         "=20",
		"z\x00\xff": "z=00=FF",
		"é=":        "=C3=A9=3D",
	} {
		if got := kit.Escape(text, letters); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
		if got := kit.Unescape(want); got != text {
			t.Errorf("%q became %q, want %q", want, got, text)
		}
	}
	for _, text := range []string{"=", "=4", "a=zz", "=é", strings.Repeat("=", 9)} {
		if got := kit.Escape(kit.Unescape(text), letters); got == text {
			t.Errorf("%q passes for an escaped text", text)
		}
	}
}
