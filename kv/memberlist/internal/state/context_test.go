package state

import (
	"fmt"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
)

// claims is a context in which a writer's versions are seen up to a time.
func claims(writer uint64, upTo time.Time) *Context {
	return &Context{Marks: map[uint64]Mark{writer: {UpTo: Version{Wall: wallOf(upTo), Instance: writer}}}}
}

// What was seen and isn't there any more is not taken, whoever brings it.
func TestSeenIsNotTakenAgain(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	u := a.write(codec.String{}, "k", "v")
	b.apply(u, Changed)
	b.Learn(claims(1, epoch.Add(time.Second)))
	b.remove("k")
	b.now = epoch.Add(2 * time.Hour)
	b.Expire() // holds: the writer wasn't heard of since
	if len(b.Tombstones()) != 1 {
		t.Fatal("a tombstone is forgotten that the writer may not know of")
	}
	b.Learn(claims(1, b.now))
	b.Expire()
	if len(b.Tombstones()) != 0 {
		t.Fatal("the tombstone is kept")
	}
	b.apply(u, Expired)
	a.now = b.now.Add(time.Second)
	b.apply(a.write(codec.String{}, "k", "written since"), Changed)
}

// A deletion that comes late by itself doesn't remove what was written when it was
// forgotten; that of a peer that had not seen the write does.
func TestLateDeletion(t *testing.T) {
	late := newNode(t, 1) // was frozen meanwhile
	deletion := Update{Key: "k", Codec: "string", E: at(time.Second)}
	written := Update{Key: "k", Codec: "string", V: at(time.Hour), Value: []byte("written since")}
	late.now = epoch.Add(time.Hour)
	late.apply(written, Changed)
	late.apply(deletion, Older)
	late.want("k", "written since")
	if late.Context(); late.context.covers(written.V) {
		t.Error("what is there counts as seen and gone")
	}
	if a := late.Apply(deletion, &Context{}); a.Outcome != Changed {
		t.Errorf("a deletion by a peer that had not seen the write is %v, want changed", a.Outcome)
	}
}

// A deletion that was followed by another one stays known, though its writer never
// claimed it: what is written when both are forgotten is later than either.
func TestDeletionBeforeADeletionStaysKnown(t *testing.T) {
	n := newNode(t, 1)
	first := Update{Key: "k", Codec: "string", E: at(time.Second)}
	n.apply(first, Changed)
	n.now = epoch.Add(time.Minute)
	n.write(codec.String{}, "k", "between")
	n.remove("k")
	n.now = epoch.Add(2 * time.Hour)
	n.Expire()
	if !n.context.covers(first.E) {
		t.Error("the first deletion isn't known")
	}
	n.write(codec.String{}, "k", "written since")
	if a := n.Apply(first, &Context{}); a.Outcome == Changed {
		t.Error("it removed what was written since")
	}
	n.want("k", "written since")
}

// What a tombstone removed stays known when it is forgotten, even if the writer
// was never heard of again.
func TestForgottenTombstoneLeavesADot(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	u := a.write(codec.String{}, "k", "v")
	m := a.write(stampsCodec, "m", stamps{"x": {}})
	b.apply(u, Changed)
	b.apply(m, Changed)
	b.remove("k")
	b.remove("m")
	b.now = epoch.Add(48 * time.Hour)
	b.Expire()
	if len(b.Tombstones()) != 0 || len(b.Context().Dots) == 0 {
		t.Fatalf("%d tombstones, context %v", len(b.Tombstones()), b.Context())
	}
	b.apply(u, Expired)
	b.Learn(claims(1, b.now))
	if n := len(b.Context().Dots); n != 0 {
		t.Errorf("%d dots are kept that a mark covers", n)
	}
}

// A state that was overwritten before its writer claimed it stays known, too.
func TestOverwrittenStateLeavesADot(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	u := a.write(codec.String{}, "k", "v")
	b.apply(u, Changed)
	b.now = epoch.Add(time.Minute)
	b.write(codec.String{}, "k", "over it")
	b.write(codec.String{}, "k", "and again")
	if r := b.Get("k"); len(r.over) != 1 {
		t.Errorf("%v are remembered, for one write of somebody else", r.over)
	}
	b.remove("k")
	if seen := b.Context(); !seen.Covers(u.V) {
		t.Error("a peer is not told what a deletion removed")
	}
	b.now = epoch.Add(48 * time.Hour)
	b.Expire()
	b.apply(u, Expired)

	b.apply(a.write(codec.String{}, "dropped", "v"), Changed)
	u = a.write(codec.String{}, "dropped", "w")
	b.now = b.now.Add(time.Minute)
	b.apply(u, Changed)
	b.write(codec.String{}, "dropped", "over it")
	b.Drop("string", b.Keys("string", BucketOf("dropped")), claims(2, b.now.Add(time.Second)))
	b.apply(u, Expired)
}

// A peer that has seen what this node has, and lacks it, has deleted it.
func TestPeerThatLacksWhatItHasSeen(t *testing.T) {
	n := newNode(t, 1)
	n.write(codec.String{}, "old", "v")
	n.now = epoch.Add(time.Minute)
	n.write(codec.String{}, "new", "v")
	peer := claims(1, epoch.Add(30*time.Second))
	for _, key := range []string{"old", "new"} {
		_, give, _ := n.Compare("string", BucketOf(key), nil, peer)
		if got, want := len(give) > 0, key == "new"; got != want {
			t.Errorf("%s is given: %v", key, got)
		}
		if got, want := n.Get(key) != nil, key == "new"; got != want {
			t.Errorf("%s is there: %v", key, got)
		}
	}
	n.Drop("string", n.Keys("string", BucketOf("new")), claims(1, n.now.Add(time.Second)))
	if n.Get("new") != nil {
		t.Error("what a peer asks to drop is kept")
	}
}

// Of two states that were written after different deletions, the one wins whose
// node has seen the other.
func TestSeenStateIsSuperseded(t *testing.T) {
	n := newNode(t, 9)
	current := Update{Key: "k", Codec: "string", V: at(time.Hour), Value: []byte("made again")}
	n.now = epoch.Add(time.Hour)
	n.apply(current, Changed)
	old := Update{Key: "k", Codec: "string", E: at(time.Second), V: at(2 * time.Second), Value: []byte("old")}
	n.Learn(&Context{Marks: map[uint64]Mark{old.V.Instance: {UpTo: at(time.Minute)}}})
	n.apply(old, Older)
	n.apply(Update{Key: "k", Codec: "string", E: at(time.Second)}, Older)
	n.want("k", "made again")

	late := newNode(t, 8)
	late.now = n.now
	late.apply(old, Changed)
	seen := &Context{Dots: map[Version]struct{}{old.V: {}}}
	if a := late.Apply(current, seen); a.Outcome != Changed {
		t.Errorf("the state of a peer that has seen the old one: %v", a.Outcome)
	}
	late.want("k", "made again")
}

// A write that got its version before a claim is not carried out any more: peers
// count on having it.
func TestClaimedVersionIsNotWritten(t *testing.T) {
	n := newNode(t, 1)
	view, err := n.View(codec.String{})
	if err != nil {
		t.Fatal(err)
	}
	object, err := view.Object("k", nil, "v", 0)
	if err != nil {
		t.Fatal(err)
	}
	n.now = epoch.Add(time.Minute)
	n.Claim()
	if _, ok, err := n.Swap("k", 0, object); ok || err != nil {
		t.Errorf("written: %v, %v", ok, err)
	}
	if object, err = view.Object("k", nil, "v", 0); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := n.Swap("k", 0, object); !ok || err != nil {
		t.Errorf("made again: written %v, %v", ok, err)
	}
}

// What a writer claims whose clock is far ahead counts as far as this node's clock
// goes, since a peer may know by that alone that something was deleted.
func TestClaimOfTheFutureIsBounded(t *testing.T) {
	n := newNode(t, 1)
	n.Learn(claims(2, n.now.Add(48*time.Hour)))
	seen := n.Context()
	if !seen.Covers(Version{Wall: wallOf(n.now), Instance: 2}) {
		t.Error("what was written until now doesn't count as seen")
	}
	if seen.Covers(Version{Wall: wallOf(n.now.Add(time.Hour)), Instance: 2}) {
		t.Error("the future counts as seen")
	}
}

// What was written just before its writer was cut off is covered by no claim. All of
// it stays deleted, however much it is, when the tombstones are forgotten.
func TestMuchIsDeletedOfAWriterThatIsAway(t *testing.T) {
	n := newNode(t, 1)
	const keys = 10_000
	update := func(i int) Update {
		u := textAt(fmt.Sprint("key/", i), at(time.Duration(i)*time.Millisecond))
		u.V.Instance = 9
		return u
	}
	n.now = epoch.Add(time.Minute)
	for i := range keys {
		n.apply(update(i), Changed)
	}
	for i := range keys {
		n.remove(update(i).Key)
	}
	n.now = epoch.Add(48 * time.Hour)
	if e := n.Expire(); e.Left > 0 || e.Forgotten > 0 {
		t.Errorf("%d tombstones are left, %d versions are forgotten", e.Left, e.Forgotten)
	}
	for i := range keys {
		n.Apply(update(i), nil)
	}
	if back := n.Snapshot().Len(); back > 0 {
		t.Errorf("%d of %d keys are back", back, keys)
	}
}

// A context is bounded: the oldest is forgotten first.
func TestContextIsBounded(t *testing.T) {
	c := newContexts(func() Version { return Version{} })
	many := &Context{Marks: map[uint64]Mark{}, Dots: map[Version]struct{}{}}
	for i := range MaxMarks + 100 {
		many.Marks[uint64(i)] = Mark{UpTo: Version{Wall: uint64(i + 1), Instance: uint64(i)}}
	}
	for i := range MaxDots + 100 {
		many.Dots[Version{Wall: uint64(i + 1), Instance: 1 << 40}] = struct{}{}
	}
	c.learn(many, func(v Version) Version { return v })
	if len(c.Marks) != MaxMarks || len(c.Dots) != MaxDots || c.forgotten.Load() != 200 {
		t.Errorf("%d marks, %d dots, %d forgotten", len(c.Marks), len(c.Dots), c.forgotten.Load())
	}
	for i := range 100 {
		if _, ok := c.Marks[uint64(i)]; ok {
			t.Fatal(fmt.Sprint("one of the oldest marks is left: ", i))
		}
	}
}

// Who has seen a deletion, has forgotten it and then writes has written after it,
// as has a node that still remembers it: the later of the two writes stays, and of
// values that merge both.
func TestWrittenAfterAForgottenDeletion(t *testing.T) {
	for _, begins := range []string{"remembers", "forgot"} {
		t.Run(begins, func(t *testing.T) {
			remembers, forgot := newNode(t, 1), newNode(t, 2)
			for key, c := range map[string]codec.Codec{"k": codec.String{}, "m": stampsCodec} {
				first, again, later := any("first"), any("again"), any("later")
				if key == "m" {
					first, again, later = stamps{"first": {}}, stamps{"again": {}}, stamps{"later": {}}
				}
				remembers.now, forgot.now = epoch, epoch
				forgot.apply(remembers.write(c, key, first), Changed)
				forgot.apply(remembers.remove(key), Changed)
				remembers.now = epoch.Add(time.Minute)
				u := remembers.write(c, key, again)
				forgot.now = epoch.Add(48 * time.Hour)
				forgot.Expire()
				forgot.write(c, key, later)
				if begins == "forgot" { // a datagram that is late
					forgot.Apply(u, nil)
				}
			}
			remembers.now = forgot.now
			n, peer := remembers, forgot
			if begins == "forgot" {
				n, peer = forgot, remembers
			}
			for range 2 { // the second time for the deletion itself
				exchange(t, n, peer)
				n.want("k", "later")
				n.want("m", `{"again":true,"later":true}`)
			}
			peer.want("k", "later")
			peer.want("m", `{"again":true,"later":true}`)
			for i, root := range n.Roots() {
				if peer.Roots()[i] != root {
					t.Errorf("digests of %s differ", root.Codec)
				}
			}
		})
	}
}

// exchange compares n with peer, as spread does.
func exchange(t *testing.T, n, peer *node) {
	t.Helper()
	ours, theirs := n.Context(), peer.Context()
	for _, codec := range n.Codecs() {
		for bucket := range Buckets {
			want, give, drop := n.Compare(codec, bucket, peer.Keys(codec, bucket), &theirs)
			peer.Drop(codec, drop, &ours)
			hand(peer, n, codec, want, &theirs)
			hand(n, peer, codec, give, &ours)
		}
	}
}

// hand has one node take what another one reads of keys.
func hand(from, to *node, codec string, keys []KeyDigest, seen *Context) {
	for _, k := range keys {
		if u, ok := from.Read(codec, k); ok {
			to.Apply(u, seen)
		}
	}
}

// What a peer has of a value comes here even while this node's state of it is left
// out, since a peer has refused that: afterwards the peer's context is taken over.
func TestRefusedStateTakesInWhatAPeerHas(t *testing.T) {
	n, peer := newNode(t, 1), newNode(t, 2)
	n.now = epoch.Add(time.Hour)
	u := n.write(stampsCodec, "m", stamps{"ahead": {}})
	n.Refused("m", u.E, u.V)
	peer.write(stampsCodec, "m", stamps{"theirs": {}})
	exchange(t, n, peer)
	n.want("m", `{"ahead":true,"theirs":true}`)
}

// A deletion by a clock that is far behind is forgotten before it has arrived, and
// counts all the same where there is something older.
func TestDeletionByASlowClock(t *testing.T) {
	slow, other, third := newNode(t, 1), newNode(t, 2), newNode(t, 3)
	u := slow.write(codec.String{}, "k", "v")
	other.apply(u, Changed)
	slow.now = epoch.Add(time.Minute)
	deletion := slow.remove("k")
	for _, n := range []*node{other, third} {
		n.now = epoch.Add(3 * time.Hour)
	}
	third.apply(deletion, Expired)
	other.write(codec.String{}, "k2", "v")
	exchange(t, slow, other)
	other.want("k", "")
	other.apply(other.write(codec.String{}, "k", "since"), Unchanged)
	other.apply(deletion, Expired)
	other.want("k", "since")
}

// Nobody waits with tombstones for the writer that a node was before its clock was
// repaired, whatever that clock said.
func TestRepairedClockIsNotWaitedFor(t *testing.T) {
	n, peer := newNode(t, 1), newNode(t, 2)
	n.now = epoch.Add(48 * time.Hour)
	u := n.write(codec.String{}, "k", "v")
	n.Refused("k", u.E, u.V)
	n.now = epoch
	n.Restamp()
	seen := n.Context()
	peer.Learn(&seen)
	if m := peer.Context().Marks[1]; !m.Left || !m.UpTo.IsZero() {
		t.Errorf("the mark of the writer that is no more: %+v", m)
	}
}
