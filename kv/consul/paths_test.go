package consul

import (
	"testing"

	"github.com/polykv/polykv/kv/driver"
)

func TestInPath(t *testing.T) {
	for key, want := range map[string]bool{"": false, "a": true, "a/": true, "a/b": true, "/a": false, "a//b": false, "a/..": false, "a\x00/..": false} {
		if inPath(key) != want {
			t.Errorf("%q: %v", key, !want)
		}
	}
	s := &store{cfg: Config{Root: "/r/"}}
	if s.inPath("a") {
		t.Error("a key below a root with a slash in front can be in a path")
	}
}

func TestPositionCovers(t *testing.T) {
	p := position{gen: 2, index: 5}
	for other, want := range map[position]bool{
		{gen: 2, index: 5}: true, {gen: 2, index: 4}: true, {gen: 2, index: 6}: false, {gen: 1, index: 5}: false, {gen: 3, index: 4}: false,
	} {
		if p.Covers(other) != want {
			t.Errorf("%+v covers %+v: %v", p, other, !want)
		}
	}
	if p.Covers(&p) || p.Covers(nil) {
		t.Error("it covers another driver's")
	}
}

func TestSessionsAreWoken(t *testing.T) {
	var all sessions
	a, b := &session{of: driver.Range{Key: "a"}}, &session{of: driver.Range{Key: "b"}}
	removeA, removeB := all.add(a), all.add(b)
	if all.woken(a) || all.woken(b) {
		t.Error("one is woken from the beginning")
	}
	awake := a.awake
	all.wake(a.of)
	if awake.Err() == nil || b.awake.Err() != nil {
		t.Error("another one than that of the range is told")
	}
	if !all.woken(a) || all.woken(a) || all.woken(b) {
		t.Error("it is not woken once")
	}
	awake = a.awake
	if removeA(); awake.Err() == nil || len(all.all) != 1 {
		t.Error("what a removed one waits for goes on")
	}
	removeB()
}
