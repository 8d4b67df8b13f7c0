package workload

import (
	"slices"
	"time"
)

// durations are what single calls took.
type durations []time.Duration

// quantiles returns the median and the 99th percentile, in seconds.
func (d durations) quantiles() map[string]float64 {
	if len(d) == 0 {
		return nil
	}
	slices.Sort(d)
	at := func(q float64) float64 { return d[min(len(d)-1, int(q*float64(len(d))))].Seconds() }
	return map[string]float64{"p50": at(0.5), "p99": at(0.99)}
}
