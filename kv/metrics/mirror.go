package metrics

import (
	"time"

	"github.com/polykv/polykv/kv"
)

// MirrorObserver is what a client of two stores (package multi) is observed by.
// Make one with [Metrics.MirrorObserver].
type MirrorObserver struct{ m *Metrics }

// MirrorObserver returns an observer for multi.WithObserver. Its metrics are
// labelled by the names of the two stores.
func (m *Metrics) MirrorObserver() *MirrorObserver { return &MirrorObserver{m} }

// Mirrored measures one attempt to mirror a key into store.
func (o *MirrorObserver) Mirrored(store string, d time.Duration, err error) {
	o.m.mirrorDuration.WithLabelValues(store).Observe(d.Seconds())
	if err != nil {
		o.m.mirrorErrors.WithLabelValues(store, kv.Reason(err)).Inc()
	}
}

// Backlog sets how many keys are left to be mirrored into store.
func (o *MirrorObserver) Backlog(store string, keys int) {
	o.m.mirrorBacklog.WithLabelValues(store).Set(float64(keys))
}

// Moved counts that store became primary.
func (o *MirrorObserver) Moved(store string) { o.m.primaryChanges.WithLabelValues(store).Inc() }

// Repaired counts a comparison of the whole stores.
func (o *MirrorObserver) Repaired(store string, different int, err error) {
	outcome := "done"
	if err != nil {
		outcome = "failed"
	}
	o.m.mirrorRepairs.WithLabelValues(store, outcome).Inc()
	o.m.mirrorDifferences.WithLabelValues(store).Add(float64(different))
}

// Standing sets the phase of the migration, the store that is primary (empty:
// none) and the epoch of its record.
func (o *MirrorObserver) Standing(phase, primary string, epoch uint64) {
	o.m.migrationPhase.Reset()
	o.m.migrationPhase.WithLabelValues(phase).Set(1)
	o.m.migrationPrimary.Reset()
	if primary != "" {
		o.m.migrationPrimary.WithLabelValues(primary).Set(1)
		o.m.migrationEpoch.WithLabelValues().Set(float64(epoch))
	}
}

// Waiting sets how many calls wait for a store to be primary.
func (o *MirrorObserver) Waiting(calls int) {
	o.m.migrationWaiting.WithLabelValues().Set(float64(calls))
}

// Strays sets how many keys of a store nobody had mirrored into it.
func (o *MirrorObserver) Strays(store string, keys int) {
	o.m.mirrorStrays.WithLabelValues(store).Set(float64(keys))
}
