package mergetest

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/polykv/polykv/kv/memberlist"
)

// flawed is a Mergeable of numbers, the highest of which win, that breaks a law
// in one way or another.
type flawed struct {
	numbers map[string]int // negative: a tombstone
	flaw    string
}

func (f *flawed) wins(a, b int) bool {
	switch f.flaw {
	case "the last wins":
		return true
	case "in circles": // rock, paper, scissors
		return (a-b+3)%3 == 1
	}
	return max(a, -a) > max(b, -b) || a == -b && a < 0
}

func (f *flawed) Merge(other memberlist.Mergeable, localCAS bool) (memberlist.Mergeable, error) {
	o, ok := other.(*flawed)
	if !ok || f.flaw == "fails" {
		return nil, fmt.Errorf("can't merge a %T", other)
	}
	change := &flawed{map[string]int{}, f.flaw}
	if f.flaw == "shares" && len(f.numbers) == 0 && len(o.numbers) > 0 {
		f.numbers = o.numbers
		return o.Clone(), nil
	}
	for name, n := range o.numbers {
		mine, known := f.numbers[name]
		switch {
		case f.flaw == "adds" && known && n > 0:
			n += mine
		case known && (n == mine || !f.wins(n, mine)):
			continue
		}
		f.numbers[name], change.numbers[name] = n, n
	}
	if localCAS {
		for name, n := range f.numbers {
			if _, ok := o.numbers[name]; ok || n < 0 {
				continue
			}
			delete(f.numbers, name)
			change.numbers[name] = -n
			if f.flaw != "forgets removals" {
				f.numbers[name] = -n
			}
		}
	}
	switch f.flaw {
	case "takes away":
		clear(o.numbers)
	case "tells too little":
		delete(change.numbers, "a")
	case "tells the past":
		return f, nil
	}
	if f.flaw == "tells nothing" || len(change.numbers) == 0 && f.flaw != "tells always" {
		return nil, nil
	}
	return change, nil
}

func (f *flawed) MergeContent() (names []string) {
	for name, n := range f.numbers {
		if n >= 0 {
			names = append(names, name)
		}
	}
	if f.flaw == "reading spoils" {
		clear(f.numbers)
	}
	return names
}

func (f *flawed) RemoveTombstones(limit time.Time) (total, removed int) {
	for name, n := range f.numbers {
		switch {
		case n >= 0:
		case limit.IsZero() || f.flaw == "no limit":
			delete(f.numbers, name)
			removed++
		default:
			total++
		}
	}
	switch f.flaw {
	case "miscounts":
		removed++
	case "keeps tombstones":
		return total + removed, 0
	case "removes all":
		clear(f.numbers)
	}
	return total, removed
}

func (f *flawed) Clone() memberlist.Mergeable {
	if f.flaw == "is its own clone" {
		return f
	}
	c := &flawed{maps.Clone(f.numbers), f.flaw}
	if f.flaw == "clones in part" {
		delete(c.numbers, "a")
	}
	return c
}

// digested has the optional interfaces too.
type digested struct{ *flawed }

func (d digested) Merge(other memberlist.Mergeable, localCAS bool) (memberlist.Mergeable, error) {
	o, ok := other.(digested)
	if !ok {
		return nil, fmt.Errorf("can't merge a %T", other)
	}
	change, err := d.flawed.Merge(o.flawed, localCAS)
	if f, ok := change.(*flawed); ok && f != nil {
		return digested{f}, err
	}
	return nil, err
}

func (d digested) Clone() memberlist.Mergeable {
	c, _ := d.flawed.Clone().(*flawed)
	return digested{c}
}

func (d digested) Digest() (sum memberlist.Digest) {
	if d.flaw == "one digest" {
		return sum
	}
	for name, n := range d.numbers {
		sum = sum.Add(memberlist.Digest{Hi: uint64(len(name)*1000 + int(name[0])*10 + n + 5), Lo: 1})
	}
	return sum
}

func (d digested) DeltaSince(memberlist.Version) (memberlist.Mergeable, memberlist.Digest) {
	if d.flaw == "wrong rest" {
		return d.Clone(), memberlist.Digest{Hi: 1}
	}
	return d.Clone(), memberlist.Digest{}
}

func (d digested) Stamp(memberlist.Version)                            {}
func (d digested) Newest() memberlist.Version                          { return memberlist.Version{} }
func (d digested) Restamp(memberlist.Version, memberlist.Version) bool { return false }

// flawedCodec gives what it decodes a flaw.
type flawedCodec struct {
	flaw     string
	digested bool
}

func (flawedCodec) CodecID() string { return "flawed" }

func (c flawedCodec) Encode(value any) ([]byte, error) {
	if d, ok := value.(digested); ok {
		value = d.flawed
	}
	f, ok := value.(*flawed)
	if !ok {
		return nil, fmt.Errorf("a %T", value)
	}
	numbers := maps.Clone(f.numbers)
	if c.flaw == "codec drops" {
		delete(numbers, "a")
	}
	return json.Marshal(numbers)
}

func (c flawedCodec) Decode(data []byte) (any, error) {
	f := &flawed{map[string]int{}, c.flaw}
	err := json.Unmarshal(data, &f.numbers)
	if c.digested {
		return digested{f}, err
	}
	return f, err
}

func flawedKind(flaw string, optional bool) Kind {
	names := rapid.SampledFrom([]string{"a", "b", "c"})
	return Kind{
		Codec: flawedCodec{flaw, optional},
		Values: rapid.Custom(func(t *rapid.T) memberlist.Mergeable {
			f := &flawed{rapid.MapOf(names, rapid.IntRange(-2, 2)).Draw(t, "numbers"), flaw}
			if flaw == "in circles" {
				f.numbers = rapid.MapOf(names, rapid.IntRange(0, 2)).Draw(t, "numbers")
			}
			if optional {
				return digested{f}
			}
			return f
		}),
		Edit: func(t *rapid.T, v memberlist.Mergeable) memberlist.Mergeable {
			f, ok := v.(*flawed)
			if !ok {
				f = v.(digested).flawed
			}
			for name := range f.numbers {
				if f.numbers[name] > 0 && rapid.Bool().Draw(t, "remove") {
					delete(f.numbers, name)
				}
			}
			return v
		},
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder is a rapid.TB that takes failures down.
type recorder struct{ failed bool }

func (r *recorder) Helper()               {}
func (r *recorder) Name() string          { return "recorder" }
func (r *recorder) Logf(string, ...any)   {}
func (r *recorder) Log(...any)            {}
func (r *recorder) Skipf(string, ...any)  {}
func (r *recorder) Skip(...any)           {}
func (r *recorder) SkipNow()              {}
func (r *recorder) Errorf(string, ...any) { r.failed = true }
func (r *recorder) Error(...any)          { r.failed = true }
func (r *recorder) Fatalf(string, ...any) { r.failed = true }
func (r *recorder) Fatal(...any)          { r.failed = true }
func (r *recorder) FailNow()              { r.failed = true }
func (r *recorder) Fail()                 { r.failed = true }
func (r *recorder) Failed() bool          { return r.failed }

// broken lists the laws that fail on k.
func broken(k Kind) (names []string) {
	for _, l := range laws {
		r := &recorder{}
		rapid.Check(r, func(rt *rapid.T) { l.check(&trial{rt, k}) })
		if r.failed {
			names = append(names, l.name)
		}
	}
	return names
}

// TestFlawsAreFound: every flaw breaks the law that it is named for, whatever
// else it breaks.
func TestFlawsAreFound(t *testing.T) {
	const flagName = "rapid.nofailfile" // failures are wanted here, and nothing to keep
	was := flag.Lookup(flagName).Value.String()
	if err := flag.Set(flagName, "true"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = flag.Set(flagName, was) }()
	for flaw, law := range map[string]string{
		"fails":            "idempotent",
		"adds":             "idempotent",
		"tells always":     "idempotent",
		"the last wins":    "commutative",
		"in circles":       "associative",
		"tells nothing":    "change",
		"tells too little": "change",
		"tells the past":   "no-aliases",
		"shares":           "no-aliases",
		"takes away":       "no-aliases",
		"is its own clone": "clone",
		"clones in part":   "clone",
		"miscounts":        "tombstones",
		"keeps tombstones": "tombstones",
		"removes all":      "tombstones",
		"no limit":         "tombstones",
		"reading spoils":   "content",
		"codec drops":      "codec",
		"forgets removals": "write",
	} {
		if got := broken(flawedKind(flaw, false)); !slices.Contains(got, law) {
			t.Errorf("%q breaks %q, want %s among them", flaw, got, law)
		}
	}
	for flaw, law := range map[string]string{"one digest": "digest", "wrong rest": "digest", "never stamps": "stamp"} {
		if got := broken(flawedKind(flaw, true)); !slices.Contains(got, law) {
			t.Errorf("%q breaks %q, want %s among them", flaw, got, law)
		}
	}
	if got := broken(flawedKind("", false)); got != nil {
		t.Errorf("without a flaw, %q is found broken", got)
	}
}

func TestKindIsChecked(t *testing.T) {
	if (Kind{}).validate() == nil || (Kind{Codec: flawedCodec{}}).validate() == nil {
		t.Error("a Kind without what it needs is taken")
	}
}
