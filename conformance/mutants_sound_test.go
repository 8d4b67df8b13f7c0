package conformance

import (
	"slices"
	"testing"
)

// TestLoopIsSound wants the loop that mutants change to be right as it is,
// where nothing is asked of it that takes an engine.
func TestLoopIsSound(t *testing.T) {
	h := looping(func(*loop) {}).withDefaults()
	for _, c := range table() {
		if !slices.Contains([]string{"C1", "C2", "C3", "C4", "C5", "G1", "D1"}, c.rule) {
			continue
		}
		if c.needs&^offers([]Hook{HookOpenLine, HookPlant}, Features{}) != 0 {
			continue
		}
		t.Run(c.id(), func(t *testing.T) { report(t, c, h.runCase(c)) })
	}
}
