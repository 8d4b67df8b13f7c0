package state

import (
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
)

// A node that was isolated for longer than deletions are remembered takes the
// peer's word for what is older, and keeps what is newer.
func TestYield(t *testing.T) {
	n, peer := newNode(t, 1), newNode(t, 2)
	both := func(u Update) { peer.apply(u, Changed) }
	both(n.write(codec.String{}, "kept", "v"))
	both(n.write(codec.String{}, "changed there", "v"))
	both(n.write(codec.String{}, "deleted there", "v"))
	both(n.write(codec.String{}, "deleted there, changed here", "v"))
	both(n.write(stampsCodec, "set", stamps{"kept": {}, "deleted there": {}, "deleted here": {}}))
	both(n.write(stampsCodec, "lost set", stamps{"old": {}}))
	n.write(wordsCodec, "unshared", words{"old": true})

	isolated := epoch.Add(time.Second)
	n.now, peer.now = isolated.Add(time.Hour), isolated.Add(time.Hour)
	peer.write(codec.String{}, "changed there", "w")
	peer.write(codec.String{}, "made there", "v")
	peer.remove("deleted there")
	peer.remove("deleted there, changed here")
	peer.remove("lost set")
	peer.write(stampsCodec, "set", peer.clone("set", func(s stamps) { delete(s, "deleted there"); s["made there"] = Version{} }))
	n.write(codec.String{}, "deleted there, changed here", "w")
	n.write(codec.String{}, "made here", "v")
	n.write(stampsCodec, "set", n.clone("set", func(s stamps) { delete(s, "deleted here"); s["made here"] = Version{} }))
	n.write(stampsCodec, "lost set", n.clone("lost set", func(s stamps) { s["new"] = Version{} }))

	n.now = isolated.Add(48 * time.Hour)
	peer.now = n.now
	peer.Expire(false)
	n.Expire(false)

	y := n.Yield(isolated)
	for _, id := range []string{"string", "stamps"} {
		for bucket := range Buckets {
			for _, kd := range peer.Keys(id, bucket) {
				u, _ := peer.Read(id, KeyDigest{Key: kd.Key})
				y.Take(u)
			}
		}
	}
	done := y.End([]string{"string", "stamps"})
	if done != (Yielded{Taken: 2, Dropped: 1, Trimmed: 2}) {
		t.Errorf("yielded: %+v", done)
	}
	n.want("kept", "v")
	n.want("changed there", "w")
	n.want("made there", "v")
	n.want("made here", "v")
	n.want("deleted there", "")
	n.want("deleted there, changed here", "w")
	// Its own deletion it has forgotten too, and the peer never knew.
	n.want("set", `{"deleted here":true,"kept":true,"made here":true,"made there":true}`)
	n.want("lost set", `{"new":true}`)
	n.want("unshared", `{"old":true}`) // the peer has no such codec
	for _, r := range n.Tombstones() {
		t.Errorf("a tombstone of %q was left", r.Key())
	}
}
