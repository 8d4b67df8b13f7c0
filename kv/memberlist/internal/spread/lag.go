package spread

import (
	"slices"
	"time"
)

// Lag tells how old changes were when they reached this node, by the clock of
// the node that made them: it includes what the two clocks differ by. It
// covers the newest changes, up to 1024.
type Lag struct {
	Changes int           `json:"changes"`
	P50     time.Duration `json:"p50"`
	P99     time.Duration `json:"p99"`
	Max     time.Duration `json:"max"`
}

const lagSamples = 1024

// lagOf sorts the samples.
func lagOf(samples []time.Duration) Lag {
	n := len(samples)
	if n == 0 {
		return Lag{}
	}
	slices.Sort(samples)
	return Lag{Changes: n, P50: samples[n/2], P99: samples[n*99/100], Max: samples[n-1]}
}
