package state

import (
	"fmt"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
)

func textAt(key string, v Version) Update {
	return Update{Key: key, Codec: "string", V: v, Value: []byte("v")}
}

// What is too far ahead is refused, whole and without a trace: not clamped,
// not stored, not fed to the clock. Within the limit the clock follows.
func TestVersionsAheadAreRefused(t *testing.T) {
	n := newNode(t, 1)
	for name, u := range map[string]Update{
		"a value":    textAt("k", at(time.Minute+time.Second)),
		"a deletion": {Key: "k", Codec: "string", E: at(10 * 365 * 24 * time.Hour)},
		"a part of a value": {
			Key: "k", Codec: "stamps", V: at(time.Second), Partial: true,
			Value: []byte(fmt.Sprintf(`{"x":{"Wall":%d}}`, at(time.Hour).Wall)),
		},
	} {
		if a := n.apply(u, Ahead); a.Err == nil {
			t.Errorf("%s: no reason is given", name)
		}
	}
	n.want("k", "")
	if u := n.write(codec.String{}, "mine", "v"); !u.V.Time().Equal(n.now) {
		t.Errorf("the clock followed what was refused: %v", u.V)
	}
	n.apply(textAt("k", at(59*time.Second)), Changed)
	if u := n.write(codec.String{}, "mine", "w"); !u.V.After(at(59 * time.Second)) {
		t.Errorf("a write after %v has the version %v", at(59*time.Second), u.V)
	}
}

// A node whose own clock is slow accepts what most clocks agree on. Of two nobody
// can tell which is wrong, and a tie leaves the own one alone.
func TestSlowClockTrustsMedian(t *testing.T) {
	n := newNode(t, 1)
	const years = 10 * 365 * 24 * time.Hour
	u := textAt("k", at(time.Hour+30*time.Second))
	n.Observe("a", epoch.Add(time.Hour))
	n.apply(u, Ahead)
	n.Observe("stopped", epoch.Add(-years))
	n.apply(u, Ahead)
	n.Forget("stopped")
	n.Observe("b", epoch.Add(time.Hour))
	n.apply(u, Changed)
	n.Observe("liar", epoch.Add(years))
	n.apply(textAt("l", at(2*time.Hour)), Ahead)
	n.Forget("b")
	n.Observe("c", epoch)
	n.apply(textAt("l", at(time.Hour+40*time.Second)), Ahead)
	if err := n.Health(); err != nil {
		t.Errorf("a slow clock is no reason to be unhealthy: %v", err)
	}
}

// Of three nodes the one whose clock is wrong has to be told from the two others,
// whether it is slow or fast.
func TestWrongClockAmongThree(t *testing.T) {
	for _, off := range []time.Duration{-time.Hour, time.Hour} {
		right, wrong := newNode(t, 1), newNode(t, 2)
		wrong.now = epoch.Add(off)
		right.Observe("right", epoch)
		right.Observe("wrong", wrong.now)
		wrong.Observe("a", epoch)
		wrong.Observe("b", epoch)
		wrong.apply(right.write(codec.String{}, "k", "v"), Changed)
		if err := right.Health(); err != nil {
			t.Errorf("off by %v, a node whose clock is right says: %v", off, err)
		}
		if err := wrong.Health(); (err != nil) != (off > 0) {
			t.Errorf("off by %v, the node itself says: %v", off, err)
		}
	}
}

// A node whose clock was ten years ahead says so, keeps what it wrote to
// itself, and stamps it anew once its clock is right.
func TestClockAheadIsRepaired(t *testing.T) {
	n, peer := newNode(t, 1), newNode(t, 2)
	const years = 10 * 365 * 24 * time.Hour
	kept := n.write(codec.String{}, "kept", "v")
	peer.apply(kept, Changed)
	peer.apply(n.write(codec.String{}, "gone", "v"), Changed)
	peer.apply(n.write(stampsCodec, "set", stamps{"before": {}}), Changed)

	n.now = epoch.Add(years)
	for i := range 3 {
		n.Observe(fmt.Sprint("peer", i), epoch)
	}
	if err := n.Health(); err == nil {
		t.Error("a clock ten years ahead of the peers' is no trouble")
	}
	ahead := []Update{
		n.write(codec.String{}, "new", "v"), n.remove("gone"),
		n.write(stampsCodec, "set", n.clone("set", func(s stamps) { s["during"] = Version{} })),
	}
	for _, u := range ahead {
		peer.apply(u, Ahead)
		n.Refused(u.Key, u.E, u.V)
	}
	for _, id := range n.Codecs() {
		for bucket := range Buckets {
			for _, kd := range n.Keys(id, bucket) {
				if kd.Key != "kept" {
					t.Errorf("%q is among the keys that are compared", kd.Key)
				}
				if _, ok := n.Read(id, KeyDigest{Key: "new"}); ok {
					t.Error("what was refused is sent again")
				}
			}
		}
	}
	if n.Restamp() != 0 {
		t.Error("versions were given anew by a clock that is still wrong")
	}

	n.now = epoch.Add(time.Second)
	for i := range 3 {
		n.Observe(fmt.Sprint("peer", i), n.now)
	}
	peer.now = n.now
	n.sent = nil
	if got := n.Restamp(); got != len(ahead) {
		t.Errorf("%d keys were repaired, want %d", got, len(ahead))
	}
	for _, u := range n.sent {
		peer.apply(u, Changed)
	}
	for _, key := range []string{"kept", "gone", "new", "set"} {
		peer.want(key, n.value(key))
	}
	for _, id := range n.Codecs() {
		if n.root(id) != peer.root(id) {
			t.Errorf("the digests of %q differ", id)
		}
	}
	if err := n.Health(); err != nil {
		t.Errorf("after the repair: %v", err)
	}
	if u := n.write(codec.String{}, "later", "v"); u.V.Time().After(n.now.Add(time.Second)) {
		t.Errorf("the clock still gives %v", u.V)
	}
	if n.Restamp() != 0 {
		t.Error("there was something left to repair")
	}
}

// What a peer refused that is not ahead of this node's clock, be it the peer's
// that was slow, counts again once time has passed it.
func TestRefusedByMistake(t *testing.T) {
	n := newNode(t, 1)
	u := n.write(codec.String{}, "k", "v")
	root := n.root("string")
	n.Refused("k", u.E, at(time.Hour)) // another state than the current one
	if n.Health() != nil || n.root("string") != root {
		t.Error("the refusal of an older state counts")
	}
	n.Refused("k", u.E, u.V)
	n.Refused("k", u.E, u.V)
	if n.Health() == nil || n.root("string") == root {
		t.Error("a refusal doesn't count")
	}
	n.sent = nil
	n.now = n.now.Add(time.Second)
	if n.Restamp() != 1 || n.Health() != nil || n.root("string") != root {
		t.Errorf("after a while: %v", n.Health())
	}
	if len(n.sent) != 1 || n.sent[0].V != u.V {
		t.Errorf("it was not sent again: %v", n.sent)
	}
}

// A clock that is set back while a key is written on and on makes a new writer now
// and then, not each second: all are remembered for good.
func TestClockSetBackMakesFewWriters(t *testing.T) {
	n := newNode(t, 1)
	n.now = epoch.Add(time.Hour)
	n.write(codec.String{}, "beat", "v")
	n.now = epoch
	for range 600 {
		n.now = n.now.Add(time.Second)
		n.write(codec.String{}, "beat", "v")
		n.Restamp()
	}
	if writers := len(n.context.Marks); writers > 11 {
		t.Errorf("%d writers in ten minutes", writers)
	}
}

// A clock that is set back finds what the others have accepted too far ahead. It
// keeps its versions, whoever wrote it: under new ones it would come back to those
// who have deleted it and forgotten the tombstone.
func TestClockSetBackUndoesNoDeletion(t *testing.T) {
	n, peer := newNode(t, 1), newNode(t, 2)
	peer.apply(n.write(codec.String{}, "own", "v"), Changed)
	n.apply(peer.write(codec.String{}, "theirs", "v"), Changed)
	n.apply(peer.write(stampsCodec, "set", stamps{"a": {}}), Changed)

	peer.remove("own")
	peer.remove("theirs")
	peer.remove("set")
	peer.now = epoch.Add(48 * time.Hour)
	peer.Expire()
	if left := len(peer.Tombstones()); left > 0 {
		t.Fatalf("%d tombstones are kept", left)
	}

	n.now = epoch.Add(-2 * time.Hour)
	if got := n.Restamp(); got != 0 {
		t.Errorf("%d states have new versions", got)
	}
	if u := n.write(codec.String{}, "new", "v"); u.V.Time().After(n.now.Add(time.Second)) {
		t.Errorf("the clock still gives %v", u.V)
	}
	for _, key := range []string{"own", "theirs", "set"} {
		r := n.Get(key)
		if r == nil {
			t.Fatalf("%s is gone", key)
		}
		u, err := r.update()
		if err != nil {
			t.Fatal(err)
		}
		peer.apply(u, Expired)
	}
}
