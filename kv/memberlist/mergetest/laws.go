package mergetest

import (
	"bytes"
	"slices"
	"time"

	"github.com/polykv/polykv/kv/memberlist"
)

// law is one law of Mergeable.
type law struct {
	name  string
	says  string
	edits bool // it needs Kind.Edit
	check func(t *trial)
}

var laws = []law{
	{"codec", "a value that was encoded and decoded is the same", false, codecIsFaithful},
	{"idempotent", "merging the same again changes nothing", false, idempotent},
	{"commutative", "the order of two doesn't matter", false, commutative},
	{"associative", "the order of three doesn't matter, nor what was merged before", false, associative},
	{"change", "the change makes the same change in any other replica, and is nil if there was none", false, changeSuffices},
	{"no-aliases", "neither a merge nor what is done to one of the two afterwards changes the other", false, noAliases},
	{"clone", "a clone is equal and shares nothing that may change", false, clonesAreIndependent},
	{"tombstones", "RemoveTombstones counts what it removes, removes what is older only, and all without a limit", false, tombstonesGo},
	{"content", "MergeContent tells without changing", false, contentOnlyReads},
	{"digest", "different values have different digests, and what DeltaSince returns is the rest", false, digestsTell},
	{"write", "a change of a CAS makes the same change elsewhere, and what it removed doesn't come back", true, writesTravel},
	{"stamp", "what a CAS changed gets the version, and nothing else does", true, stampsWrites},
}

func codecIsFaithful(t *trial) {
	v := t.kind.Values.Draw(t.T, "value")
	decoded := t.decode(t.encode(v))
	t.wantEqual(decoded, v, "after encoding and decoding")
	if !slices.Equal(sorted(decoded.MergeContent()), sorted(v.MergeContent())) {
		t.Fatalf("what held %q holds %q after encoding and decoding", v.MergeContent(), decoded.MergeContent())
	}
}

func idempotent(t *trial) {
	a, b := t.value("a"), t.value("b")
	once := t.merged(a, b)
	for what, again := range map[string]memberlist.Mergeable{"b": b, "a": a, "the result": once} {
		v := once.Clone()
		if change := t.merge(v, again.Clone(), false); change != nil {
			t.Fatalf("merging %s again is said to change %v", what, show(change))
		}
		t.wantEqual(v, once, "after merging "+what+" again")
	}
}

func commutative(t *trial) {
	a, b := t.value("a"), t.value("b")
	t.wantEqual(t.merged(a, b), t.merged(b, a), "b merged into a, and a into b")
}

func associative(t *trial) {
	a, b, c := t.value("a"), t.value("b"), t.value("c")
	want := t.merged(a, b, c)
	t.wantEqual(t.merged(a, t.merged(b, c)), want, "b with c merged into a, and b and c one after the other")
	t.wantEqual(t.merged(a, c, b), want, "c before b, and b before c")
	t.wantEqual(t.merged(c, b, a), want, "a and b merged into c, and b and c into a")
}

func changeSuffices(t *trial) {
	a, b, elsewhere := t.value("a"), t.value("b"), t.value("elsewhere")
	merged := a.Clone()
	change := t.merge(merged, b.Clone(), false)
	if change == nil {
		t.wantEqual(merged, a, "a merge that reports no change")
		return
	}
	if bytes.Equal(t.encode(merged), t.encode(a)) {
		t.Fatalf("a merge that changes nothing reports %v", show(change))
	}
	t.wantEqual(t.merged(a, change), merged, "the change merged instead of the whole")
	// A replica that has something else gets as much from the change as
	// from the whole, once it has what the change was made upon.
	t.wantEqual(t.merged(elsewhere, change, a), t.merged(elsewhere, b, a), "the change merged elsewhere")
	t.wantEqual(t.merged(a, t.decode(t.encode(change))), merged, "the change merged after a journey")
}

func noAliases(t *trial) {
	a, b, c := t.value("a"), t.value("b"), t.value("c")
	before := t.encode(b)
	merged := a.Clone()
	change := t.merge(merged, b, false)
	if !bytes.Equal(t.encode(b), before) {
		t.Fatalf("the merge changed what was merged into another value: %v", show(b))
	}
	var told []byte
	if change != nil {
		told = t.encode(change)
	}
	t.merge(merged, c, false)
	merged.RemoveTombstones(time.Time{})
	if !bytes.Equal(t.encode(b), before) {
		t.Fatalf("the value that was merged changed with the one that it was merged into: %v", show(b))
	}
	if change != nil && !bytes.Equal(t.encode(change), told) {
		t.Fatalf("the change altered when its value did: %v", show(change))
	}
}

func clonesAreIndependent(t *trial) {
	a, b := t.value("a"), t.value("b")
	before := t.encode(a)
	clone := a.Clone()
	t.wantEqual(clone, a, "a clone")
	t.merge(clone, b.Clone(), false)
	clone.RemoveTombstones(time.Time{})
	if !bytes.Equal(t.encode(a), before) {
		t.Fatalf("what was done to a clone was done to the value: %v", show(a))
	}
	clone = a.Clone()
	t.merge(a, b.Clone(), false)
	a.RemoveTombstones(time.Time{})
	if !bytes.Equal(t.encode(clone), before) {
		t.Fatalf("what was done to a value was done to its clone: %v", show(clone))
	}
}

func tombstonesGo(t *trial) {
	v := t.value("value")
	before := v.Clone()
	long, ago := v.RemoveTombstones(time.UnixMilli(0))
	if ago != 0 {
		t.Fatalf("%d tombstones are older than any", ago)
	}
	t.wantEqual(v, before, "after removing the tombstones older than any")
	total, removed := v.RemoveTombstones(time.Time{})
	if total != 0 || removed != long {
		t.Fatalf("of %d tombstones %d were removed and %d are left", long, removed, total)
	}
	if removed == 0 {
		t.wantEqual(v, before, "after removing no tombstone")
	} else if bytes.Equal(t.encode(v), t.encode(before)) {
		t.Fatalf("%d tombstones were removed, and nothing changed", removed)
	}
	if !slices.Equal(sorted(v.MergeContent()), sorted(before.MergeContent())) {
		t.Fatalf("without its tombstones the value holds %q, before %q", v.MergeContent(), before.MergeContent())
	}
	if total, removed = v.RemoveTombstones(time.Time{}); total != 0 || removed != 0 {
		t.Fatalf("then %d more were removed and %d are left", removed, total)
	}
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

func contentOnlyReads(t *trial) {
	v := t.value("value")
	before := t.encode(v)
	v.MergeContent()
	if !bytes.Equal(t.encode(v), before) {
		t.Fatalf("MergeContent changed the value to %v", show(v))
	}
}

func digestsTell(t *trial) {
	a, b := t.value("a"), t.value("b")
	da, ok := a.(memberlist.Digester)
	if !ok {
		return
	}
	if db, ok := b.(memberlist.Digester); ok && da.Digest() == db.Digest() {
		t.wantEqual(a, b, "two values with one digest")
	}
	source, ok := a.(memberlist.DeltaSource)
	if !ok {
		return
	}
	var since memberlist.Version
	if s, ok := b.(memberlist.Stamped); ok {
		since = s.Newest()
	}
	delta, rest := source.DeltaSince(since)
	if d, ok := delta.(memberlist.Digester); !ok || d.Digest().Add(rest) != da.Digest() {
		t.Fatalf("the part since %v and the rest don't make the whole: %v", since, show(delta))
	}
	t.wantEqual(t.merged(a, delta), a, "a value into which a part of it was merged")
	if s, ok := a.(memberlist.Stamped); ok && !s.Newest().After(since) && !rest.IsZero() && rest != da.Digest() {
		t.Fatalf("nothing is newer than %v, but %v is the part since then", since, show(delta))
	}
}

// edited returns what a CAS makes of base, with the change that travels. after
// is nil if the callback wrote nothing new.
func (t *trial) edited(base memberlist.Mergeable, v memberlist.Version) (after, change memberlist.Mergeable) {
	t.Helper()
	out := t.kind.Edit(t.T, base.Clone())
	if out == nil {
		t.Fatalf("Kind.Edit returned nil")
	}
	after = base.Clone()
	if change = t.merge(after, out.Clone(), true); change == nil {
		t.wantEqual(after, base, "a write that reports no change")
		return nil, nil
	}
	for _, m := range []memberlist.Mergeable{after, change} {
		if s, ok := m.(memberlist.Stamped); ok {
			s.Stamp(v)
		}
	}
	if !slices.Equal(sorted(after.MergeContent()), sorted(out.MergeContent())) {
		t.Fatalf("a write of %q left %q", out.MergeContent(), after.MergeContent())
	}
	return after, change
}

// later is a version after everything in m.
func later(m memberlist.Mergeable) memberlist.Version {
	if s, ok := m.(memberlist.Stamped); ok {
		newest := s.Newest()
		return memberlist.Version{Wall: newest.Wall + 1, Instance: 1}
	}
	return memberlist.Version{Wall: 1, Instance: 1}
}

func writesTravel(t *trial) {
	base := t.value("value")
	after, change := t.edited(base, later(base))
	if after == nil {
		return
	}
	t.wantEqual(t.merged(base, change), after, "the change merged into what was written upon")
	t.wantEqual(t.merged(base, t.decode(t.encode(change))), after, "the same after a journey")
	t.wantEqual(t.merged(base, after), after, "the whole merged into what was written upon")
	t.wantEqual(t.merged(after, base), after, "what was written upon merged into what was written")
}

func stampsWrites(t *trial) {
	base := t.value("value")
	v := later(base)
	after, change := t.edited(base, v)
	s, ok := after.(memberlist.Stamped)
	if !ok {
		return
	}
	if s.Newest() != v {
		t.Fatalf("after a write with the version %v the newest is %v", v, s.Newest())
	}
	if c, ok := change.(memberlist.Stamped); ok && c.Newest() != v {
		t.Fatalf("the newest version of its change is %v", c.Newest())
	}
	again := after.Clone()
	if s, ok := again.(memberlist.Stamped); ok {
		s.Stamp(memberlist.Version{Wall: v.Wall + 1, Instance: 1})
	}
	t.wantEqual(again, after, "a value that is stamped again")
	if s, ok := again.(memberlist.Stamped); ok && s.Newest() != v {
		t.Fatalf("a value in which there was nothing to stamp has the version %v now", s.Newest())
	}
	restamped := after.Clone()
	r, ok := restamped.(memberlist.Stamped)
	if !ok {
		t.Fatalf("a clone is a %T", restamped)
	}
	if r.Restamp(v, memberlist.Version{}) {
		t.Fatalf("something is newer than the newest")
	}
	t.wantEqual(restamped, after, "a value in which nothing had to be stamped anew")
	limit := v
	limit.Wall--
	limit.Instance = 1<<64 - 1
	if !r.Restamp(limit, memberlist.Version{Wall: v.Wall - 1, Instance: 2}) || r.Newest().After(limit) {
		t.Fatalf("after stamping anew what is later than %v, the newest is %v", limit, r.Newest())
	}
}
