package mergetest_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv/memberlist"
	"github.com/polykv/polykv/kv/memberlist/mergetest"
)

// HighScores is a Mergeable of one's own: of every player the best score.
type HighScores map[string]int

// Merge keeps the better score of each player.
func (h HighScores) Merge(other memberlist.Mergeable, _ bool) (memberlist.Mergeable, error) {
	o, ok := other.(HighScores)
	if !ok {
		return nil, fmt.Errorf("can't merge a %T into high scores", other)
	}
	change := HighScores{}
	for player, score := range o {
		if best, ok := h[player]; !ok || score > best {
			h[player], change[player] = score, score
		}
	}
	if len(change) == 0 {
		return nil, nil
	}
	return change, nil
}

// MergeContent lists the players.
func (h HighScores) MergeContent() []string { return slices.Collect(maps.Keys(h)) }

// RemoveTombstones has nothing to do: players stay.
func (h HighScores) RemoveTombstones(time.Time) (total, removed int) { return 0, 0 }

// Clone copies the map.
func (h HighScores) Clone() memberlist.Mergeable { return maps.Clone(h) }

// Example shows the whole test of a type of one's own.
func Example() {
	test := func(t *testing.T) {
		mergetest.Run(t, mergetest.Kind{
			Codec: codec.JSON[HighScores]{ID: "scores"},
			Values: rapid.Custom(func(t *rapid.T) memberlist.Mergeable {
				players := rapid.SampledFrom([]string{"ann", "bob", "cy"})
				return HighScores(rapid.MapOf(players, rapid.IntRange(0, 3)).Draw(t, "scores"))
			}),
			Edit: func(t *rapid.T, v memberlist.Mergeable) memberlist.Mergeable {
				scores, _ := v.(HighScores)
				scores["ann"]++
				return scores
			},
		})
	}
	fmt.Println(testing.RunTests(func(_, _ string) (bool, error) { return true, nil },
		[]testing.InternalTest{{Name: "TestHighScores", F: test}}))
	// Output: true
}
