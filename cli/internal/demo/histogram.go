package demo

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// histogram counts durations, with two digits of each.
type histogram struct{ *hdrhistogram.Histogram }

const longest = 24 * time.Hour // what takes longer counts as this

func newHistogram() histogram { return histogram{hdrhistogram.New(1, int64(longest), 2)} }

func (h histogram) add(d time.Duration) { _ = h.RecordValue(int64(max(0, min(d, longest)))) }

// percentile returns a duration that the share p, from 0 to 100, of all don't exceed.
func (h histogram) percentile(p float64) time.Duration { return time.Duration(h.ValueAtPercentile(p)) }
