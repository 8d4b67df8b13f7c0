package state

import (
	"fmt"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
)

// Deletions are forgotten by their own time, on all nodes at once, and not
// taken in any more; what they deleted doesn't count either then.
func TestTombstonesExpire(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	b.apply(a.write(codec.String{}, "k", "v"), Changed)
	deletion := a.remove("k")
	b.now = b.now.Add(40 * time.Minute)
	b.apply(deletion, Changed) // it came late
	root := a.root("string")
	if root.IsZero() || root != b.root("string") {
		t.Fatal("tombstones are not compared")
	}
	for _, n := range []*node{a, b} {
		n.now = epoch.Add(time.Hour - time.Second)
		if e := n.Expire(); e.Keys != 0 || e.Left != 1 {
			t.Errorf("before its time: %+v", e)
		}
		if n.root("string") != root {
			t.Error("the tombstone is gone")
		}
		n.now = epoch.Add(time.Hour + time.Minute)
		if e := n.Expire(); e.Keys != 1 || e.Left != 0 {
			t.Errorf("at its time: %+v", e)
		}
		if !n.root("string").IsZero() {
			t.Error("the tombstone is still there")
		}
		n.apply(deletion, Expired)
	}
}

// Until an expired tombstone is swept it is not given away, and the same
// sweep doesn't run twice.
func TestExpiredTombstonesAreNotSent(t *testing.T) {
	n := newNode(t, 1)
	n.write(codec.String{}, "k", "v")
	n.remove("k")
	n.now = epoch.Add(2 * time.Hour)
	if _, ok := n.Read("string", KeyDigest{Key: "k"}); ok {
		t.Error("an expired tombstone is sent")
	}
}

// While a writer wasn't heard of that may come back, tombstones are held, for
// PartitionTolerance at most. Once it has left, nothing more comes of it.
func TestTombstonesAreHeld(t *testing.T) {
	n := newNode(t, 1)
	n.write(codec.String{}, "k", "v")
	deletion := n.remove("k")
	heard := func(n *node) {
		n.Learn(&Context{Marks: map[uint64]Mark{7: {UpTo: Version{Wall: wallOf(epoch), Instance: 7}}}})
	}
	heard(n)
	n.now = epoch.Add(23 * time.Hour)
	if e := n.Expire(); e.Keys != 0 {
		t.Errorf("with a writer away: %+v", e)
	}
	if u, ok := n.Read("string", KeyDigest{Key: "k"}); !ok || !u.Deleted() {
		t.Error("a held tombstone is not sent")
	}
	late := newNode(t, 2)
	late.now = n.now
	heard(late)
	late.Expire()
	late.apply(deletion, Changed)
	n.now = epoch.Add(25 * time.Hour)
	if e := n.Expire(); e.Keys != 1 {
		t.Errorf("after PartitionTolerance: %+v", e)
	}
	late.Left(7)
	late.now = epoch.Add(23*time.Hour + 2*time.Minute)
	if e := late.Expire(); e.Keys != 1 {
		t.Errorf("when the writer has left: %+v", e)
	}
}

// Over the limit, the oldest are dropped early, and counted.
func TestTombstonesAreCapped(t *testing.T) {
	const most = 20
	n := newNode(t, 1, func(c *Config) { c.MaxTombstoneBytes = most * (tombstoneSize + 5) })
	for i := range 2 * most {
		key := fmt.Sprintf("key%02d", i)
		n.write(codec.String{}, key, "v")
		n.now = n.now.Add(time.Second)
		n.remove(key)
	}
	if e := n.Expire(); e.Keys != most || e.Dropped != most || e.Left != most {
		t.Errorf("of %d tombstones, for %d of which there is room: %+v", 2*most, most, e)
	}
	for _, r := range n.Tombstones() {
		if r.Key() < fmt.Sprintf("key%02d", most) {
			t.Errorf("the tombstone of %q, one of the oldest, is left", r.Key())
		}
	}
	n.write(codec.String{}, "key39", "again")
	if e := n.Expire(); e.Left != most-1 {
		t.Errorf("a key that exists again counts as a tombstone: %+v", e)
	}
}

// Tombstones within values expire in the same way, and clients notice nothing.
func TestPartsExpire(t *testing.T) {
	n, peer := newNode(t, 1), newNode(t, 2)
	peer.apply(n.write(stampsCodec, "k", stamps{"x": {}, "y": {}}), Changed)
	n.now = n.now.Add(time.Second)
	u := n.write(stampsCodec, "k", n.clone("k", func(s stamps) { delete(s, "x") }))
	peer.apply(u, Changed)
	n.want("k", `{"-x":true,"y":true}`)
	e, v := n.Get("k").Versions()
	n.Refused("k", e, v)
	n.Expire()
	if n.Health() == nil {
		t.Error("a state that was refused isn't any more")
	}
	n.now = epoch.Add(2 * time.Second)
	n.Restamp()
	seq := n.Get("k").Seq()
	root := n.root("stamps")
	peer.now = epoch.Add(2 * time.Hour)
	n.now = peer.now
	for _, node := range []*node{n, peer} {
		if e := node.Expire(); e.Parts != 1 {
			t.Errorf("%+v", e)
		}
		node.want("k", `{"y":true}`)
	}
	if n.Get("k").Seq() != seq {
		t.Error("it looks like a change to clients")
	}
	if n.root("stamps") == root || n.root("stamps") != peer.root("stamps") {
		t.Error("the digest doesn't tell")
	}
	peer.apply(u, Unchanged) // what has expired is not taken in again
	peer.want("k", `{"y":true}`)
}
