package etcd

import "testing"

// A page behind a key never begins with that key, not even where the key is the
// prefix itself.
func TestIntervalBeginsBehindTheKey(t *testing.T) {
	for _, c := range []struct{ prefix, after, from string }{
		{"p", "", "p"},
		{"p", "p", "p\x00"},
		{"p", "pa", "pa\x00"},
		{"p", "a", "p"}, // before all of the prefix
		{"", "", "\x00"},
		{"", "a", "a\x00"},
	} {
		if from, _ := interval(c.prefix, c.after); string(from) != c.from {
			t.Errorf("the interval of %q behind %q begins with %q, want %q", c.prefix, c.after, from, c.from)
		}
	}
}
