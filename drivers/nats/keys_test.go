package nats

import (
	"regexp"
	"strings"
	"testing"

	"github.com/polykv/polykv/kv/driver"
)

const bucket subjects = "$KV.b."

func TestSubjects(t *testing.T) {
	for key, want := range map[string]string{
		"plain":     "plain",
		"a/b/c":     "a.b.c",
		"/a//b/":    "=.a.=.b.=",
		"":          "=",
		"a.b *>":    "a=2Eb=20=2A=3E",
		"50%=\x00é": "50=25=3D=00=C3=A9",
		"azAZ09-_":  "azAZ09-_",
		"`{@[/:;":   "=60=7B=40=5B.=3A=3B",
	} {
		subject := bucket.of(key)
		if subject != string(bucket)+want {
			t.Errorf("%q has the subject %q, want %q", key, subject, want)
		}
		if got, ok := bucket.key(subject); got != key || !ok {
			t.Errorf("%q is the subject of %q, %v; want %q", subject, got, ok, key)
		}
	}
	for _, foreign := range []string{"a=2eb", "a=62", "=guard", "a..b", "a=", "==", "a/b"} {
		if key, ok := bucket.key(string(bucket) + foreign); ok {
			t.Errorf("%q passes for the subject of %q", foreign, key)
		}
	}
}

func TestFilters(t *testing.T) {
	for prefix, want := range map[string]string{"": ">", "a": ">", "a/": "a.>", "a/b": "a.>", "a/b/": "a.b.>", "/": "=.>", " /x": "=20.>"} {
		if got := bucket.filter(driver.Range{Key: prefix, IsPrefix: true}); got != string(bucket)+want {
			t.Errorf("%q is filtered by %q, want %q", prefix, got, want)
		}
	}
	if got := bucket.filter(driver.Range{Key: "a/b"}); got != "$KV.b.a.b" {
		t.Errorf("one key is filtered by %q", got)
	}
}

// FuzzSubjects wants every key to have a subject of its own that the command nats
// kv takes, too, and that a filter of its prefixes finds.
func FuzzSubjects(f *testing.F) {
	f.Add("a/b", 2)
	f.Add("=2F/", 1)
	valid := regexp.MustCompile(`^[-/_=\.a-zA-Z0-9]+$`)
	f.Fuzz(func(t *testing.T, key string, n int) {
		subject := bucket.of(key)
		name := strings.TrimPrefix(subject, string(bucket))
		if !valid.MatchString(name) || strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") || strings.Contains(name, "..") {
			t.Errorf("%q has the name %q", key, name)
		}
		if got, ok := bucket.key(subject); got != key || !ok {
			t.Errorf("%q comes back as %q, %v", key, got, ok)
		}
		prefix := key[:min(uint(n), uint(len(key)))]
		filter := bucket.filter(driver.Range{Key: prefix, IsPrefix: true})
		if !strings.HasPrefix(subject, strings.TrimSuffix(filter, ">")) {
			t.Errorf("%q is not found by %q, the filter of %q", subject, filter, prefix)
		}
	})
}
