package kit_test

import (
	"strings"
	"testing"
	"time"

	"github.com/polykv/polykv/kv/driver/kit"
)

func TestChecks(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{kit.Positive("f", 1), ""},
		{kit.Positive("f", 0), "f: 0 is not allowed; it must be more than 0"},
		{kit.Positive("f", -time.Second), "f: -1s is not allowed; it must be more than 0"},
		{kit.Between("f", 1, 1, 3), ""},
		{kit.Between("f", 3, 1, 3), ""},
		{kit.Between("f", 0, 1, 3), "f: 0 is not allowed; it must be 1 to 3"},
		{kit.Between("f", 4, 1, 3), "f: 4 is not allowed; it must be 1 to 3"},
		{kit.Root("").Validate(), ""},
		{kit.Root("/ é").Validate(), ""},
		{kit.Root(strings.Repeat("r", 256)).Validate(), ""},
		{kit.Root(strings.Repeat("r", 257)).Validate(), "root: has 257 bytes; allowed are 256"},
		{kit.Root("a\x1f").Validate(), `root: "a\x1f" holds characters that no key may have: it must be UTF-8 without control characters`},
		{kit.Root("a\x7f").Validate(), `root: "a\x7f" holds characters that no key may have: it must be UTF-8 without control characters`},
		{kit.Root("a\xff").Validate(), `root: "a\xff" holds characters that no key may have: it must be UTF-8 without control characters`},
	} {
		if got := errorText(test.err); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

func TestRoot(t *testing.T) {
	if name := kit.Root("/r/").In("k"); name != "/r/k" || kit.Root("/r/").Out(name) != "k" {
		t.Errorf("%q is in the store for k, and its key is %q", name, kit.Root("/r/").Out(name))
	}
}
