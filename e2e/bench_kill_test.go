package e2e

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkLeaderKill kills the leader under clients at work, once for each
// op: how long no write succeeds, and how many stay indeterminate, by how long
// one attempt may take.
func BenchmarkLeaderKill(b *testing.B) {
	for _, be := range []backend{etcdBackend, consulBackend} {
		for _, attempt := range []time.Duration{time.Second, 3 * time.Second, 8 * time.Second} {
			b.Run(fmt.Sprintf("%s/%v", be.name, attempt), func(b *testing.B) { leaderKill(b, be, attempt) })
		}
	}
}

func leaderKill(b *testing.B, be backend, attempt time.Duration) {
	a, total := newArena(b, be, false), newTally()
	a.options.AttemptTimeout = attempt
	var p plan
	for range max(b.N, 1) {
		p.Servers = append(p.Servers, fault{kill, leader, 6 * time.Second, 4 * time.Second, 0})
	}
	b.ResetTimer()
	a.run(b, 1, p, total)
	n := float64(len(p.Servers))
	b.Logf("%s, attempts of %v:\n%s", be.name, attempt, total)
	b.ReportMetric(float64(total.fates[maybe])/n, "indeterminate/kill")
	b.ReportMetric(float64(total.fates[never])/n, "not-done/kill")
	if len(total.after) > 0 {
		b.ReportMetric(total.after[len(total.after)/2].Seconds(), "median-s")
		b.ReportMetric(total.after[len(total.after)-1].Seconds(), "max-s")
	}
}
