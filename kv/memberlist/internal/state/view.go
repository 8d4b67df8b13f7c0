package state

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// View is the store as the clients of one codec see it: it turns records into
// values and back. It implements driver.Values.
type View struct {
	store *Store
	codec codec.Codec // what clients of the view decode with
	reg   *registered // of the same id
	raw   bool
}

var _ driver.Values = (*View)(nil)

// View returns the view of a codec whose id is registered. Views of equal
// codecs are one, so that their clients share decoded values.
func (s *Store) View(c codec.Codec) (*View, error) {
	reg, err := s.registered(c.CodecID())
	if err != nil {
		return nil, err
	}
	if reflect.TypeOf(c) == reflect.TypeOf(reg.codec) && reflect.ValueOf(c).Comparable() && c == reg.codec {
		return reg.view, nil
	}
	return &View{store: s, codec: c, reg: reg}, nil
}

// Raw implements driver.Values: the view whose values are encoded bytes.
func (v *View) Raw() driver.Values {
	raw := *v
	raw.raw = true
	return &raw
}

var errObject = errors.New("the object is not a record of this store")

// Value implements driver.Values. Object is a *Record.
func (v *View) Value(object any, private bool) (any, error) {
	r, ok := object.(*Record)
	if !ok {
		return nil, errObject
	}
	if v.raw {
		encoded, err := r.Encoded()
		if err != nil {
			return nil, err
		}
		return codec.Bytes{}.Decode(encoded)
	}
	if r.merge != nil && r.codec == v.reg {
		if private {
			return r.merge.Clone(), nil
		}
		return r.merge, nil
	}
	return v.decoded(r, private)
}

// decoded returns the value of a record that is kept encoded, or belongs to
// another codec.
func (v *View) decoded(r *Record, private bool) (any, error) {
	if d := r.decoded.Load(); d != nil && d.view == v && !private {
		return d.value, nil
	}
	encoded, err := r.Encoded()
	if err != nil {
		return nil, err
	}
	value, err := v.codec.Decode(encoded)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the stored value can't be decoded with codec %q: %w", v.reg.id, err)
	case value == nil:
		return nil, fmt.Errorf("the stored value decodes to nil with codec %q", v.reg.id)
	}
	if !private {
		r.decoded.Store(&decoding{v, value})
	}
	return value, nil
}

// Sum implements driver.Values: equal values have equal sums.
func (v *View) Sum(object any) [2]uint64 {
	r, ok := object.(*Record)
	if !ok {
		return [2]uint64{}
	}
	if d, ok := r.merge.(Digester); ok {
		d := d.Digest()
		return [2]uint64{d.Hi, d.Lo}
	}
	encoded, err := r.Encoded()
	if err != nil {
		return [2]uint64{uint64(r.seq)}
	}
	d := HashOf(encoded)
	return [2]uint64{d.Hi, d.Lo}
}

// Object implements driver.Values: it makes a record of a value that shall
// replace prev, the object of key's entry, or nil if the key is absent. A
// Mergeable is merged here, onto exactly what its writer saw.
func (v *View) Object(key string, prev, value any, limit int) (any, error) {
	var base *Record
	if prev != nil {
		var ok bool
		if base, ok = prev.(*Record); !ok {
			return nil, errObject
		}
	} else {
		base = v.store.tombstone(key)
	}
	if value == nil {
		return v.removal(key, base), nil
	}
	if v.raw {
		return v.rawObject(key, base, value, limit)
	}
	if m, ok := value.(Mergeable); ok {
		return v.merged(key, base, m, limit)
	}
	encoded, err := v.codec.Encode(value)
	if err != nil {
		return nil, fmt.Errorf("the value can't be encoded with codec %q: %w", v.reg.id, err)
	}
	return v.plain(key, v.reg, base, encoded, limit)
}

// rawObject is Object for encoded bytes. Those that decode to a Mergeable
// merge, as if its own client had written them. Any other bytes, and all
// under reserved keys, are taken as they are, as in every store.
func (v *View) rawObject(key string, base *Record, value any, limit int) (any, error) {
	encoded, err := codec.Bytes{}.Encode(value)
	if err != nil {
		return nil, err
	}
	if kv.Reserved(key) {
		return v.plain(key, v.store.bytes, base, encoded, limit)
	}
	decoded, err := v.reg.decode(encoded)
	if m, ok := decoded.(Mergeable); ok {
		return v.merged(key, base, m, limit)
	}
	if err != nil && v.reg.kind.Load() == merging {
		return nil, err
	}
	return v.plain(key, v.reg, base, encoded, limit)
}

// plain stages a value that doesn't merge.
func (v *View) plain(key string, reg *registered, base *Record, encoded []byte, limit int) (any, error) {
	if err := checkSize(len(encoded), limit); err != nil {
		return nil, err
	}
	r := v.stage(key, base)
	r.codec, r.bytes, r.bound = reg, encoded, len(encoded)
	return r, nil
}

// merged stages a value that merges with base.
func (v *View) merged(key string, base *Record, value Mergeable, limit int) (any, error) {
	r := v.stage(key, base)
	r.codec = v.reg
	value = value.Clone() // what the callback keeps must not reach the store
	if base.live() && base.codec == v.reg && base.merge != nil {
		r.merge = base.merge.Clone()
		change, err := r.merge.Merge(value, true)
		switch {
		case err != nil:
			return nil, fmt.Errorf("merging what the callback returned: %w", err)
		case change == nil:
			return base, nil
		}
		r.staged.change, r.bound = change, base.bound
		stamp(r.merge, r.v)
		stamp(change, r.v)
	} else {
		r.merge = value
		stamp(r.merge, r.v)
		r.staged.change = r.merge.Clone()
	}
	if err := r.staged.follow(base); err != nil {
		return nil, err
	}
	var err error
	if r.staged.encoded, err = v.reg.encode(r.staged.change); err != nil {
		return nil, err
	}
	v.reg.saw(value)
	r.bound += len(r.staged.encoded)
	return r, r.checkGrowth(base, limit)
}

// follow adds what has to travel of an earlier write of the same group, if
// base is one, to what has to travel of s.
func (s *staged) follow(base *Record) error {
	if base == nil || base.staged == nil || base.staged.change == nil {
		return nil
	}
	all := base.staged.change.Clone()
	if _, err := all.Merge(s.change, false); err != nil {
		return fmt.Errorf("merging two changes: %w", err)
	}
	s.change = all
	return nil
}

func stamp(m Mergeable, v Version) {
	if s, ok := m.(Stamped); ok {
		s.Stamp(v)
	}
}

// stage begins a record that shall replace base.
func (v *View) stage(key string, base *Record) *Record {
	r := &Record{key: key, staged: &staged{}}
	var above Version
	if base != nil {
		r.e, above = base.e, base.newest()
	}
	switch {
	case base == nil:
	case base.staged != nil:
		r.staged.onto, r.staged.after = base.staged.onto, base.staged.after
	default:
		r.staged.after = base.e
		if base.live() {
			r.staged.onto = base.seq
		}
	}
	r.v = v.store.clock.next(above)
	return r
}

// removal stages the deletion of base.
func (v *View) removal(key string, base *Record) *Record {
	r := v.stage(key, base)
	r.codec, r.e, r.v = v.reg, r.v, Version{}
	if base != nil {
		r.codec = base.codec
	}
	return r
}

// checkGrowth refuses a value that is over the limit, unless it was before and
// hasn't grown. What merges together on other nodes may be over it.
func (r *Record) checkGrowth(base *Record, limit int) error {
	if limit <= 0 || r.bound <= limit {
		return nil
	}
	encoded, err := r.Encoded() // the bound may be far too high
	if err != nil {
		return err
	}
	r.bound = len(encoded)
	if base.live() && base.merge != nil {
		if before, err := base.Encoded(); err == nil && len(encoded) <= len(before) {
			return nil
		}
	}
	return checkSize(len(encoded), limit)
}

func checkSize(size, limit int) error {
	if limit > 0 && size > limit {
		return fmt.Errorf("%w: the encoded value is %d bytes, at most %d are allowed", driver.ErrTooLarge, size, limit)
	}
	return nil
}
