package state

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polykv/polykv/codec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stamps is a Mergeable with every optional interface: names, each with the
// version of its last write. A name that starts with "-" is a tombstone.
type stamps map[string]Version

var stampsCodec = codec.JSON[stamps]{ID: "stamps"}

func (s stamps) Merge(other Mergeable, localCAS bool) (Mergeable, error) {
	o, ok := other.(stamps)
	if !ok {
		return nil, fmt.Errorf("a %T", other)
	}
	change := stamps{}
	for name, v := range o {
		old, known := s[name]
		if buried, ok := s[opposite(name)]; known && !v.After(old) || ok && !v.IsZero() && !v.After(buried) {
			continue
		}
		delete(s, opposite(name))
		s[name], change[name] = v, v
	}
	if localCAS {
		for name := range s {
			if _, ok := o[name]; !ok && !strings.HasPrefix(name, "-") {
				delete(s, name)
				s["-"+name], change["-"+name] = Version{}, Version{}
			}
		}
	}
	if len(change) == 0 {
		return nil, nil
	}
	return change, nil
}

// opposite is the tombstone of a name and the other way round.
func opposite(name string) string {
	if bare, ok := strings.CutPrefix(name, "-"); ok {
		return bare
	}
	return "-" + name
}

func (s stamps) MergeContent() (names []string) {
	for name := range s {
		names = append(names, name)
	}
	return names
}

func (s stamps) RemoveTombstones(limit time.Time) (total, removed int) {
	for name, v := range s {
		switch {
		case !strings.HasPrefix(name, "-"):
		case limit.IsZero() || v.Time().Before(limit):
			delete(s, name)
			removed++
		default:
			total++
		}
	}
	return total, removed
}

func (s stamps) Clone() Mergeable {
	c := stamps{}
	for name, v := range s {
		c[name] = v
	}
	return c
}

func (s stamps) Digest() (d Digest) {
	for name, v := range s {
		d = d.Add(HashOf(v.Append([]byte(name))))
	}
	return d
}

func (s stamps) DeltaSince(v Version) (Mergeable, Digest) {
	delta := stamps{}
	for name, at := range s {
		if at.After(v) {
			delta[name] = at
		}
	}
	return delta, s.Digest().Sub(delta.Digest())
}

func (s stamps) Stamp(v Version) {
	for name, at := range s {
		if at.IsZero() {
			s[name] = v
		}
	}
}

func (s stamps) Newest() (newest Version) {
	for _, v := range s {
		if v.After(newest) {
			newest = v
		}
	}
	return newest
}

func (s stamps) Restamp(limit, v Version) (found bool) {
	for name, at := range s {
		if at.After(limit) {
			s[name], found = v, true
		}
	}
	return found
}

// words is a Mergeable without any optional interface: a set that only grows.
type words map[string]bool

var wordsCodec = codec.JSON[words]{ID: "words"}

func (w words) Merge(other Mergeable, _ bool) (Mergeable, error) {
	o, ok := other.(words)
	if !ok {
		return nil, fmt.Errorf("a %T", other)
	}
	change := words{}
	for word := range o {
		if word == "panic" {
			panic("as if this were not foreseen")
		}
		if !w[word] {
			w[word], change[word] = true, true
		}
	}
	if len(change) == 0 {
		return nil, nil
	}
	return change, nil
}

func (w words) MergeContent() (all []string) {
	for word := range w {
		all = append(all, word)
	}
	return all
}

func (w words) RemoveTombstones(time.Time) (total, removed int) { return 0, 0 }

func (w words) Clone() Mergeable {
	c := words{}
	for word := range w {
		c[word] = true
	}
	return c
}

// node is a store with a clock of its own.
type node struct {
	*Store
	t    testing.TB
	now  time.Time
	sent []Update // what OnLocal was told
}

var epoch = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// instances numbers the nodes of a test.
func newNode(t testing.TB, instance uint64, change ...func(*Config)) *node {
	t.Helper()
	n := &node{t: t, now: epoch}
	cfg := Config{
		Instance: instance, Codecs: []codec.Codec{codec.String{}, stampsCodec, wordsCodec},
		Clock:        func() time.Time { return n.now },
		MaxClockSkew: time.Minute, TombstoneTimeout: time.Hour, PartitionTolerance: 24 * time.Hour,
	}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	if n.Store, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	n.OnLocal(func(u Update) { n.sent = append(n.sent, u) })
	return n
}

func (n *node) view(c codec.Codec) *View {
	n.t.Helper()
	v, err := n.View(c)
	if err != nil {
		n.t.Fatal(err)
	}
	return v
}

// write writes a value as one client does that saw the current state, and
// returns what has to travel.
func (n *node) write(c codec.Codec, key string, value any) Update {
	n.t.Helper()
	var prev any
	r := n.Get(key)
	if r != nil {
		prev = r
	}
	object, err := n.view(c).Object(key, prev, value, 0)
	if err != nil {
		n.t.Fatalf("Object of %q: %v", key, err)
	}
	return n.swap(key, r, object)
}

func (n *node) remove(key string) Update {
	n.t.Helper()
	return n.swap(key, n.Get(key), nil)
}

func (n *node) swap(key string, r *Record, object any) Update {
	n.t.Helper()
	entry := r.entry(key)
	if now, ok, err := n.Swap(key, entry.Version, object); !ok || err != nil {
		n.t.Fatalf("Swap of %q at %d: %v, %v, %v", key, entry.Version, now, ok, err)
	}
	return n.sent[len(n.sent)-1]
}

func (n *node) apply(u Update, want Outcome) Applied {
	n.t.Helper()
	a := n.Apply(u, nil)
	if a.Outcome != want {
		n.t.Fatalf("Apply of %q (E %v, V %v) is %v (%v), want %v", u.Key, u.E, u.V, a.Outcome, a.Err, want)
	}
	return a
}

// value is what is stored of a key, encoded; "" if it is absent.
func (n *node) value(key string) string {
	n.t.Helper()
	r := n.Get(key)
	if r == nil {
		return ""
	}
	encoded, err := r.Encoded()
	if err != nil {
		n.t.Fatal(err)
	}
	if m := r.Mergeable(); m != nil {
		names := map[string]bool{}
		for _, name := range m.MergeContent() {
			names[name] = true
		}
		encoded, _ = json.Marshal(names)
	}
	return string(encoded)
}

func (n *node) want(key, value string) {
	n.t.Helper()
	if got := n.value(key); got != value {
		n.t.Errorf("%q is %s, want %s", key, got, value)
	}
}

// root is the digest of one codec's keys.
func (n *node) root(id string) Digest {
	for _, r := range n.Roots() {
		if r.Codec == id {
			return r.Root
		}
	}
	return Digest{}
}

func at(d time.Duration) Version { return Version{Wall: wallOf(epoch.Add(d)), Instance: 99} }
