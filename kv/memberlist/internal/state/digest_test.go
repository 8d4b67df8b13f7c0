package state

import (
	"fmt"
	"math/bits"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/polykv/polykv/codec"
)

// A digest doesn't depend on order, and what was added can be taken out.
func TestDigestSums(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		things := rapid.SliceOf(rapid.String()).Draw(t, "things")
		var sum, reversed Digest
		for _, thing := range things {
			sum = sum.Add(HashOf([]byte(thing)))
		}
		for _, thing := range slices.Backward(things) {
			reversed = reversed.Add(HashOf([]byte(thing)))
		}
		if sum != reversed {
			t.Fatalf("%v in one order, %v in the other", sum, reversed)
		}
		for _, thing := range things {
			sum = sum.Sub(HashOf([]byte(thing)))
		}
		if !sum.IsZero() {
			t.Fatalf("%v is left of nothing", sum)
		}
	})
}

// Similar keys have unrelated hashes: of things that differ in regular ways, as
// keys and versions do, the sums differ by about half of their bits.
func TestDigestsAreMixed(t *testing.T) {
	n := newNode(t, 1)
	var distance int
	const rounds = 200
	for i := range rounds {
		before := n.root("string")
		n.write(codec.String{}, fmt.Sprintf("key-%03d", i), "v")
		after := n.root("string")
		distance += bits.OnesCount64(before.Hi^after.Hi) + bits.OnesCount64(before.Lo^after.Lo)
	}
	if mean := distance / rounds; mean < 48 || mean > 80 {
		t.Errorf("a key changes %d bits of 128 on average", mean)
	}
}

// The root is the sum of the buckets, those are of the keys, and whatever was
// written and removed leaves nothing but its tombstones.
func TestDigestsAddUp(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := newNode(t, 1)
		for range rapid.IntRange(1, 30).Draw(rt, "writes") {
			key := rapid.StringMatching(`[a-e]`).Draw(rt, "key")
			n.now = n.now.Add(time.Millisecond)
			switch rapid.IntRange(0, 3).Draw(rt, "kind") {
			case 0:
				n.write(codec.String{}, key, rapid.String().Draw(rt, "value"))
			case 1:
				n.write(wordsCodec, key, words{rapid.StringMatching(`[a-c]`).Draw(rt, "word"): true})
			case 2:
				n.write(stampsCodec, key, stamps{rapid.StringMatching(`[a-c]`).Draw(rt, "name"): {}})
			default:
				if n.Get(key) != nil {
					n.remove(key)
				}
			}
		}
		copied := newNode(t, 2)
		copied.now = n.now
		for i, root := range n.Roots() {
			var sum Digest
			for bucket, d := range n.Buckets(root.Codec) {
				sum = sum.Add(d)
				for _, kd := range n.Keys(root.Codec, bucket) {
					u, ok := n.Read(root.Codec, KeyDigest{Key: kd.Key})
					if !ok || BucketOf(kd.Key) != bucket {
						rt.Fatalf("%q is in bucket %d, readable %v", kd.Key, bucket, ok)
					}
					copied.Apply(u, nil)
				}
			}
			if sum != root.Root {
				rt.Fatalf("the buckets of %q make %v, the root is %v", root.Codec, sum, root.Root)
			}
			if id := n.Codecs()[i]; id != root.Codec {
				rt.Fatalf("root %d is of %q, the codec is %q", i, root.Codec, id)
			}
		}
		if !slices.Equal(n.Roots(), copied.Roots()) {
			rt.Fatalf("a copy of every key has the digests %v, want %v", copied.Roots(), n.Roots())
		}
	})
}

func TestCompare(t *testing.T) {
	n := newNode(t, 1)
	const s = time.Second
	bucket := func() int { return BucketOf("k") }
	find := func(list []KeyDigest) bool {
		return slices.ContainsFunc(list, func(kd KeyDigest) bool { return kd.Key == "k" })
	}
	expect := func(what string, theirs []KeyDigest, take, hand bool) {
		t.Helper()
		want, give, _ := n.Compare("string", bucket(), theirs, nil)
		if find(want) != take || find(give) != hand {
			t.Errorf("%s: taken %v, given %v; want %v, %v", what, find(want), find(give), take, hand)
		}
	}
	kd := func(e, v Version) []KeyDigest { return []KeyDigest{{Key: "k", E: e, V: v}} }
	expect("neither has it", nil, false, false)
	expect("the peer has it", kd(Version{}, at(s)), true, false)
	expect("the peer has a tombstone", kd(at(s), Version{}), true, false)
	expect("the peer has an expired tombstone", kd(at(-2*time.Hour), Version{}), false, false)
	n.apply(Update{Key: "k", Codec: "string", E: at(5 * s), V: at(6 * s), Value: []byte("v")}, Changed)
	expect("only this node has it", nil, false, true)
	expect("the same", kd(at(5*s), at(6*s)), false, false)
	expect("the peer's is older", kd(at(5*s), at(6*s-time.Millisecond)), false, true)
	expect("the peer's is newer", kd(at(5*s), at(7*s)), true, false)
	expect("the peer deleted it before", kd(at(5*s), Version{}), false, true)
	expect("the peer deleted it later", kd(at(6*s), Version{}), true, false)
	expect("the peer has not seen the deletion", kd(Version{}, at(9*s)), false, true)
	expect("a key of another bucket", []KeyDigest{{Key: "k"}, {Key: "elsewhere", V: at(s)}}, false, true)
	n.apply(Update{Key: "k", Codec: "string", E: at(8 * s)}, Changed)
	expect("deleted here", kd(at(5*s), at(6*s)), false, true)
	expect("both deleted it", kd(at(8*s), Version{}), false, false)
	expect("made again there", kd(at(8*s), at(9*s)), true, false)
	if want, give, _ := n.Compare("words", bucket(), kd(at(5*s), at(6*s)), nil); find(want) || find(give) {
		t.Error("a key is handed over as another codec's")
	}
}

// A peer that lacks only the newest parts of a value is sent those.
func TestReadSendsWhatIsMissing(t *testing.T) {
	n, peer := newNode(t, 1), newNode(t, 2)
	big := stamps{}
	for i := range 1000 {
		big[fmt.Sprint("name", i)] = Version{}
	}
	peer.apply(n.write(stampsCodec, "k", big), Changed)
	n.writeName("k", "one")
	have := peer.Have("stamps", "k")
	u, ok := n.Read("stamps", have)
	if !ok || !u.Partial || len(u.Value) > 200 {
		t.Fatalf("%d bytes are sent, partial %v", len(u.Value), u.Partial)
	}
	peer.apply(u, Changed)
	if peer.root("stamps") != n.root("stamps") {
		t.Error("the peer still lacks something")
	}

	// Not so if it lacks something older too, whatever its version says.
	missing := n.writeName("k", "two")
	peer.apply(n.writeName("k", "three"), Changed)
	if u, ok = n.Read("stamps", peer.Have("stamps", "k")); !ok || u.Partial {
		t.Fatalf("%d bytes are sent, partial %v", len(u.Value), u.Partial)
	}
	peer.apply(u, Changed)
	if peer.apply(missing, Unchanged); peer.root("stamps") != n.root("stamps") {
		t.Error("the peer still lacks something")
	}
	if _, ok := n.Read("stamps", peer.Have("stamps", "k")); ok {
		t.Error("a peer that has the same is sent something")
	}
	if _, ok := n.Read("words", KeyDigest{Key: "k"}); ok {
		t.Error("a key is read as another codec's")
	}
	if kd := n.Have("words", "k"); kd != (KeyDigest{Key: "k"}) {
		t.Errorf("as another codec's the node has %v", kd)
	}
}

func (n *node) writeName(key, name string) Update {
	n.t.Helper()
	n.now = n.now.Add(time.Millisecond)
	return n.write(stampsCodec, key, n.clone(key, func(s stamps) { s[name] = Version{} }))
}
