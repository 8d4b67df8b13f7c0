package hostkv

import (
	"errors"
	"fmt"
	"time"

	"github.com/polykv/polykv/kv/memberlist"
)

// ErrUnchanged is the error of a CAS that wants to change a value in a way that
// the host's rules for merging don't take. The values of dskit and Cortex carry times in seconds,
// and a second change within the same one doesn't count. Nothing was written.
// A [View] waits and tries again.
var ErrUnchanged = errors.New("the change isn't newer than the value it replaces")

// Value is a value of a host that merges, as polykv's gossip wants it. It is
// what a [Codec] decodes to.
type Value[M Mergeable[M]] struct {
	held  M
	codec *Codec[M]
}

// Merge implements memberlist.Mergeable by the host's rules, with two
// differences. Hosts may change other, polykv may not. And a local change that
// the rules drop is ErrUnchanged, never a success without effect.
func (v *Value[M]) Merge(other memberlist.Mergeable, localCAS bool) (memberlist.Mergeable, error) {
	o, ok := other.(*Value[M])
	if !ok {
		return nil, fmt.Errorf("a %T can't be merged into a value of codec %q", other, v.codec.CodecID())
	}
	if len(v.held.MergeContent()) == 0 {
		if err := v.renew(); err != nil {
			return nil, err
		}
	}
	change, err := v.held.Merge(v.codec.Clone(o.held), localCAS)
	switch {
	case err != nil:
		return nil, err
	case any(change) != nil:
		return &Value[M]{held: v.codec.Clone(change), codec: v.codec}, nil
	case localCAS:
		return nil, v.checkSame(o)
	}
	return nil, nil
}

// renew replaces an empty value by one as the host's codec makes it. Some hosts'
// copies of an empty value lack the map that merging adds to.
func (v *Value[M]) renew() error {
	data, err := v.codec.Encode(v)
	if err != nil {
		return err
	}
	value, err := v.codec.Host.Decode(data)
	if err != nil {
		return err
	}
	held, ok := value.(M)
	if !ok {
		return fmt.Errorf("codec %q decodes to a %T, which doesn't merge", v.codec.CodecID(), value)
	}
	v.held = held
	return nil
}

// checkSame fails if o differs from v in what a program sees.
func (v *Value[M]) checkSame(o *Value[M]) error {
	a, err := v.codec.Encode(v)
	if err != nil {
		return err
	}
	b, err := v.codec.Encode(o)
	if err != nil {
		return err
	}
	if !v.codec.Equal(a, b) {
		return ErrUnchanged
	}
	return nil
}

// MergeContent implements memberlist.Mergeable. Hosts count what was removed
// too, polykv does not.
func (v *Value[M]) MergeContent() []string {
	seen := v.codec.Clone(v.held)
	seen.RemoveTombstones(time.Time{})
	return seen.MergeContent()
}

// RemoveTombstones implements memberlist.Mergeable.
func (v *Value[M]) RemoveTombstones(limit time.Time) (total, removed int) {
	return v.held.RemoveTombstones(limit)
}

// Clone implements memberlist.Mergeable.
func (v *Value[M]) Clone() memberlist.Mergeable {
	return &Value[M]{held: v.codec.Clone(v.held), codec: v.codec}
}
