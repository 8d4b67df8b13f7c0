package main

import (
	"errors"
	"testing"
	"time"

	"github.com/cortexproject/cortex/pkg/ha"

	"github.com/polykv/polykv/adapters/cortex"
	"github.com/polykv/polykv/compat/internal/fleet"
)

func TestTracker(t *testing.T) {
	for _, s := range servers.Stores(cortex.NewCodec(ha.GetReplicaDescCodec())) {
		t.Run(s.Name, func(t *testing.T) { t.Parallel(); testTracker(t, s) })
	}
}

// tracker is that of one distributor.
func tracker(t *testing.T, s fleet.Store) *ha.HATracker {
	t.Helper()
	c, err := open(t.Context(), s.File(t), ha.GetReplicaDescCodec())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Closed(t, c.Close()) })
	h, err := newTracker(c)
	if err != nil {
		t.Fatal(err)
	}
	start(t, h)
	return h
}

// testTracker sends the samples of two replicas to two distributors. What is
// told to both must be the same: the samples of one are taken, until it stops.
func testTracker(t *testing.T, s fleet.Store) {
	one, other := tracker(t, s), tracker(t, s)
	send := func(h *ha.HATracker, replica string) error {
		return h.CheckReplica(t.Context(), "tenant", "cluster", replica, time.Now())
	}
	refused := func(h *ha.HATracker, replica string) bool {
		return errors.Is(send(h, replica), ha.ReplicasNotMatchError{})
	}
	if err := send(one, "first"); err != nil {
		t.Fatal(err)
	}
	// On gossip each elects its own if samples come before the news.
	knows := func(h *ha.HATracker, replica string) {
		if s.Name == "memberlist" {
			fleet.Eventually(t, replica+" is known as the elected one", func() bool {
				return h.SnapshotElectedReplicas()["tenant/cluster"].Replica == replica
			})
		}
	}
	knows(other, "first")
	if !refused(other, "second") || !refused(one, "second") {
		t.Fatal("the samples of two replicas are taken at once")
	}
	fleet.Eventually(t, "the first one has failed", func() bool { return send(other, "second") == nil })
	knows(one, "second")
	fleet.Eventually(t, "everybody refuses the first one", func() bool { return refused(one, "first") })
	if err := send(one, "second"); err != nil {
		t.Errorf("the elected one is refused: %v", err)
	}
}
