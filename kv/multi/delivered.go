package multi

import (
	"hash/maphash"
	"slices"

	"github.com/polykv/polykv/kv"
)

// delivered is what one watch has delivered, by key, across the stores that it
// followed one after another. A new store's snapshot is compared with it, so
// that nothing comes twice and what was deleted meanwhile is not forgotten. It
// is used by the goroutine of the watch only.
type delivered struct {
	keys     map[string]*deliveredKey
	snapshot int  // counts the stores that were turned to
	scanning bool // the first snapshot of the store is under way
	synced   bool // Synced was delivered, and no Interrupted since
}

type deliveredKey struct {
	put  bool   // a value was delivered, and no deletion since
	sum  digest // of that value
	last digest // of the value seen last, be it undecodable
	seen int    // the last snapshot that had the key
}

// digest stands for the bytes of a value: two keyed hashes of 64 bits.
type digest [2]uint64

var digestSeeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func digestOf(b []byte) digest {
	return digest{maphash.Bytes(digestSeeds[0], b), maphash.Bytes(digestSeeds[1], b)}
}

// turn notes that another store is followed from here on.
func (t *delivered) turn() {
	t.snapshot++
	t.scanning = true
}

// put reports whether ev, a Put or Undecodable, is news. A Put counts as
// delivered from then on; before is what was, for takeBack.
func (t *delivered) put(ev kv.Event) (before deliveredKey, news bool) {
	k := t.keys[ev.Key]
	fresh := k == nil
	if fresh {
		k = &deliveredKey{}
		t.keys[ev.Key] = k
	}
	k.seen = t.snapshot
	before = *k
	if ev.Stored == nil { // the client doesn't tell
		k.put = k.put || ev.Type == kv.Put
		return before, true
	}
	sum := digestOf(ev.Stored)
	same := !fresh && sum == k.last || k.put && sum == k.sum
	k.last = sum
	if !same && ev.Type == kv.Put {
		k.put, k.sum = true, sum
	}
	return before, !same
}

// takeBack takes back that a Put of key counts as delivered.
func (t *delivered) takeBack(key string, before deliveredKey) {
	k := t.keys[key]
	k.put, k.sum = before.put, before.sum
}

// remove reports whether the deletion of key is news.
func (t *delivered) remove(key string) bool {
	k := t.keys[key]
	delete(t.keys, key)
	return k != nil && k.put
}

// complete notes that the store's snapshot was delivered, and returns the keys
// that it didn't have, sorted.
func (t *delivered) complete() (gone []string) {
	if !t.scanning {
		return nil
	}
	t.scanning = false
	for key, k := range t.keys {
		switch {
		case k.seen == t.snapshot:
		case k.put:
			gone = append(gone, key)
		default:
			delete(t.keys, key)
		}
	}
	slices.Sort(gone)
	return gone
}
