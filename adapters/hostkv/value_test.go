package hostkv

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/memberlist"
	"github.com/polykv/polykv/kv/memberlist/mergetest"
)

// guests is a host's value that merges: who came when, by a clock of the
// host's. Who left is remembered with Left set.
type guests map[string]stay

type stay struct {
	At   int64
	Left bool
}

var _ Mergeable[mergeable] = guests(nil)

// mergeable is the host's interface of such values.
type mergeable interface{ Mergeable[mergeable] }

// clock is the host's: a test sets it.
var clock int64 = 100

func (g guests) Merge(other mergeable, localCAS bool) (mergeable, error) {
	o, ok := other.(guests)
	if !ok {
		return nil, errors.New("no guests")
	}
	change := guests{}
	for name, s := range o {
		if mine := g[name]; s.At > mine.At || s.At == mine.At && s.Left && !mine.Left {
			g[name], change[name] = s, s
		}
	}
	for name, mine := range g {
		if _, stays := o[name]; localCAS && !stays && !mine.Left {
			g[name] = stay{At: clock, Left: true}
			change[name] = g[name]
		}
	}
	clear(o) // hosts may
	if len(change) == 0 {
		return nil, nil
	}
	return change, nil
}

func (g guests) MergeContent() []string { return slices.Collect(maps.Keys(g)) }

func (g guests) RemoveTombstones(limit time.Time) (total, removed int) {
	for name, s := range g {
		switch {
		case !s.Left:
		case limit.IsZero() || time.Unix(s.At, 0).Before(limit):
			delete(g, name)
			removed++
		default:
			total++
		}
	}
	return total, removed
}

// cloneGuests loses the map of an empty value, as some hosts do.
func cloneGuests(m mergeable) mergeable {
	g, _ := m.(guests)
	if len(g) == 0 {
		return guests(nil)
	}
	return maps.Clone(g)
}

func guestCodec() *Codec[mergeable] {
	host := codec.JSON[guests]{ID: "guests"}
	marshal := func(value any) ([]byte, error) {
		if g, ok := value.(guests); ok && g == nil {
			value = guests{}
		}
		return host.Encode(value)
	}
	return &Codec[mergeable]{Host: host, Marshal: marshal, Clone: cloneGuests}
}

func TestLaws(t *testing.T) {
	cdc := guestCodec()
	mergetest.Run(t, mergetest.Kind{
		Codec: cdc,
		Values: rapid.Custom(func(t *rapid.T) memberlist.Mergeable {
			names := rapid.SampledFrom([]string{"ann", "bob"})
			// The host's rule: a second change within one second doesn't count.
			stays := rapid.Custom(func(t *rapid.T) stay {
				at := rapid.Int64Range(1, 4).Draw(t, "at")
				return stay{At: at, Left: at%2 == 0}
			})
			v, _ := cdc.wrap(guests(rapid.MapOf(names, stays).Draw(t, "guests"))).(memberlist.Mergeable)
			return v
		}),
	})
}

func TestMergingLeavesTheOtherAlone(t *testing.T) {
	cdc := guestCodec()
	a, b := cdc.wrap(guests{}).(*Value[mergeable]), cdc.wrap(guests{"ann": {At: 1}}).(*Value[mergeable])
	change, err := a.Merge(b, false)
	if err != nil || change == nil {
		t.Fatal(change, err)
	}
	if len(b.MergeContent()) != 1 {
		t.Error("what was merged in has been changed")
	}
	if _, err := a.Clone().Merge(a.Clone(), true); err != nil {
		t.Errorf("the same value again: %v", err)
	}
	again := cdc.wrap(guests{"ann": {At: 1}, "bob": {}}).(*Value[mergeable])
	if _, err := a.Merge(again, true); !errors.Is(err, ErrUnchanged) {
		t.Errorf("a local change that the rules drop: %v", err)
	}
	if _, err := a.Merge(again, false); err != nil {
		t.Errorf("an old change from elsewhere: %v", err)
	}
}

func TestAnEmptyCopyMerges(t *testing.T) {
	cdc := guestCodec()
	a := cdc.wrap(guests{}).(*Value[mergeable]).Clone() // whose map is nil
	if _, err := a.Merge(cdc.wrap(guests{"ann": {At: 1}}).(*Value[mergeable]), true); err != nil || len(a.MergeContent()) != 1 {
		t.Errorf("%v, %v", a.MergeContent(), err)
	}
}

func TestCodec(t *testing.T) {
	cdc := guestCodec()
	data, err := cdc.Encode(guests{"ann": {At: 1}})
	if err != nil {
		t.Fatal(err)
	}
	value, err := cdc.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := cdc.Encode(value); err != nil || string(again) != string(data) {
		t.Errorf("%s, %v", again, err)
	}
	for _, wrong := range []any{nil, 1, (*Value[mergeable])(nil)} {
		if _, err := cdc.Encode(wrong); err == nil {
			t.Errorf("%T was encoded", wrong)
		}
	}
	asserts := &Codec[mergeable]{Host: codec.String{}, Clone: cloneGuests, Marshal: func(v any) ([]byte, error) {
		return []byte(v.(string)), nil //nolint:forcetypeassert // as the hosts' codecs do
	}}
	if _, err := asserts.Encode(1); err == nil {
		t.Error("a codec that asserts types took another one")
	}
	seen, unseen := []byte(`{"ann":{"At":1,"Left":false}}`), []byte(`{"ann":{"At":1,"Left":false},"bob":{"At":2,"Left":true}}`)
	if !cdc.Equal(seen, unseen) || cdc.Equal(seen, []byte(`{}`)) {
		t.Error("values are compared by something else than what programs see")
	}
}

func TestNewViewWantsTheCodec(t *testing.T) {
	c := kv.New(inmemory.NewStore().Open(), codec.String{}, nil)
	defer c.Close()
	if _, err := NewView(c); !errors.Is(err, kv.ErrNotSupported) {
		t.Errorf("%v", err)
	}
}
