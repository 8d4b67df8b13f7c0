package memberlist

import "github.com/polykv/polykv/codec"

// Equal returns what compares two encoded values of codec c: values that are
// Mergeable are equal when merging each into the other changes neither,
// whatever their bytes. Others are equal if their bytes are. It is for those
// who keep another store equal to this one, see multi.Backend.
//
// A Map that was written on a store without gossip has no versions yet and
// gets them by being written here, so the two are not equal.
func Equal(c codec.Codec) func(a, b []byte) bool {
	return func(a, b []byte) bool {
		if string(a) == string(b) {
			return true
		}
		return covers(c, a, b) && covers(c, b, a)
	}
}

// covers reports whether merging b into a changes nothing.
func covers(c codec.Codec, a, b []byte) bool {
	into, err := mergeable(c, a)
	if into == nil || err != nil {
		return false
	}
	from, err := mergeable(c, b)
	if from == nil || err != nil {
		return false
	}
	change, err := into.Merge(from, false)
	return err == nil && change == nil
}

// mergeable decodes a value; nil if it doesn't merge.
func mergeable(c codec.Codec, data []byte) (Mergeable, error) {
	value, err := c.Decode(data)
	m, _ := value.(Mergeable)
	return m, err
}
