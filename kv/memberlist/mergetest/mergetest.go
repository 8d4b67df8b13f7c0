// Package mergetest checks that a type of yours keeps the laws of
// [memberlist.Mergeable], on random values:
//
//	func TestLaws(t *testing.T) {
//		mergetest.Run(t, mergetest.Kind{Codec: myCodec, Values: myValues, Edit: myEdit})
//	}
//
// The values come from a generator of pgregory.net/rapid, which also makes a
// failure small before it is reported, and prints how to repeat it.
package mergetest

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv/memberlist"
)

// Kind is a type of Mergeables.
type Kind struct {
	// Codec encodes and decodes the values, and must give equal bytes for equal
	// values: values are compared by their encoding, and so are replicas.
	Codec codec.Codec

	// Values generates values, with tombstones if the type has any. They
	// should come from a small world, a few names and versions, so that two of
	// them often have something to say about the same thing.
	Values *rapid.Generator[memberlist.Mergeable]

	// Edit changes a value as a CAS callback does, and returns it or another
	// one; nil if there is nothing to edit. It may modify v, which is a copy.
	Edit func(t *rapid.T, v memberlist.Mergeable) memberlist.Mergeable
}

// Run checks every law, in a subtest each.
func Run(t *testing.T, k Kind) {
	t.Helper()
	if err := k.validate(); err != nil {
		t.Fatal(err)
	}
	for _, l := range laws {
		if l.edits && k.Edit == nil {
			continue
		}
		t.Run(l.name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) { l.check(&trial{rt, k}) })
			if t.Failed() {
				t.Logf("the law: %s", l.says)
			}
		})
	}
}

func (k Kind) validate() error {
	if k.Codec == nil || k.Values == nil {
		return fmt.Errorf("mergetest: Kind.Codec is %v and Kind.Values is %v; both must be set", k.Codec, k.Values)
	}
	return nil
}

// trial is one check of a law.
type trial struct {
	*rapid.T
	kind Kind
}

// value draws a value, in the form that it has after a journey.
func (t *trial) value(label string) memberlist.Mergeable {
	return t.decode(t.encode(t.kind.Values.Draw(t.T, label)))
}

func (t *trial) encode(m memberlist.Mergeable) []byte {
	t.Helper()
	encoded, err := t.kind.Codec.Encode(m)
	if err != nil {
		t.Fatalf("the codec can't encode %v: %v", show(m), err)
	}
	return encoded
}

func (t *trial) decode(encoded []byte) memberlist.Mergeable {
	t.Helper()
	value, err := t.kind.Codec.Decode(encoded)
	if err != nil {
		t.Fatalf("the codec can't decode %q: %v", encoded, err)
	}
	m, ok := value.(memberlist.Mergeable)
	if !ok {
		t.Fatalf("the codec decodes to a %T, which is no Mergeable", value)
	}
	return m
}

// merge merges other into v and returns the change.
func (t *trial) merge(v, other memberlist.Mergeable, localCAS bool) memberlist.Mergeable {
	t.Helper()
	change, err := v.Merge(other, localCAS)
	if err != nil {
		t.Fatalf("merging %v into %v: %v", show(other), show(v), err)
	}
	return change
}

// merged returns a copy of v with the others merged into it, one after another.
func (t *trial) merged(v memberlist.Mergeable, others ...memberlist.Mergeable) memberlist.Mergeable {
	t.Helper()
	all := v.Clone()
	for _, other := range others {
		t.merge(all, other.Clone(), false)
	}
	return all
}

// wantEqual compares by encoding, and by digest where there is one.
func (t *trial) wantEqual(got, want memberlist.Mergeable, what string) {
	t.Helper()
	if !bytes.Equal(t.encode(got), t.encode(want)) {
		t.Fatalf("%s: got\n%s\nwant\n%s", what, show(got), show(want))
	}
	a, ok := got.(memberlist.Digester)
	b, okToo := want.(memberlist.Digester)
	if ok && okToo && a.Digest() != b.Digest() {
		t.Fatalf("%s: equal values have the digests %v and %v", what, a.Digest(), b.Digest())
	}
}

func show(m memberlist.Mergeable) string { return fmt.Sprintf("%+v %q", m, m.MergeContent()) }
