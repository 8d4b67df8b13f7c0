package state

import (
	"bytes"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func anyVersion(t *rapid.T) Version {
	return Version{
		Wall:     rapid.Uint64Range(0, maxWall).Draw(t, "wall"),
		Counter:  rapid.Uint16().Draw(t, "counter"),
		Instance: rapid.Uint64().Draw(t, "instance"),
	}
}

// The encoded form is complete and ordered as versions are.
func TestVersionEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v, w := anyVersion(t), anyVersion(t)
		whole := Decoder{Rest: v.Append([]byte{})}
		if got := whole.Version("version"); got != v || whole.Done() != nil {
			t.Fatalf("%v is read back as %v, %v", v, got, whole.Err)
		}
		if bytes.Compare(v.Append(nil), w.Append(nil)) != v.Compare(w) {
			t.Fatalf("%v and %v are ordered otherwise when encoded", v, w)
		}
		half := Decoder{Rest: v.Append(nil)[:VersionSize-1]}
		if got := half.Version("version"); !got.IsZero() || half.Err == nil {
			t.Fatalf("half a version was read as %v", got)
		}
	})
}

// A write's version is above all that it replaces, even when a millisecond
// has no counters left, and not below the wall clock.
func TestNextVersion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyVersion(t)
		v.Wall %= maxWall
		wall := rapid.Uint64Range(0, maxWall).Draw(t, "now")
		next := v.next(wall, 7)
		if !next.After(v) || next.Wall < wall || next.Instance != 7 {
			t.Fatalf("after %v at %d comes %v", v, wall, next)
		}
	})
}

func TestVersionString(t *testing.T) {
	v := Version{Wall: uint64(time.Date(2020, 1, 2, 3, 4, 5, 6e6, time.UTC).UnixMilli()), Counter: 7, Instance: 0xab}
	if got := v.String(); got != "2020-01-02T03:04:05.006Z+7@00000000000000ab" {
		t.Errorf("a version reads %q", got)
	}
	if got := (Version{}).String(); got != "none" {
		t.Errorf("no version reads %q", got)
	}
}
