package migrate

import (
	"strings"
	"testing"
)

// Every phase is told in two sentences that name the stores.
func TestEveryPhaseIsDescribed(t *testing.T) {
	for phase, a := range advice {
		now, next := phase.Describe("a", "b")
		if text := now + next; now == "" || next == "" || strings.ContainsAny(text, "{}") || strings.Contains(a.now, "{source}") && !strings.Contains(now, `"a"`) {
			t.Errorf("%s: %q, %q", phase, now, next)
		}
	}
	for states, phase := range phases {
		if _, known := advice[phase]; !known {
			t.Errorf("nothing tells of %v", states)
		}
	}
	now, next := Phase("another release's").Describe("a", "b")
	if wantNow, wantNext := Broken.Describe("a", "b"); now != wantNow || next != wantNext {
		t.Errorf("an unknown phase: %q, %q", now, next)
	}
}
