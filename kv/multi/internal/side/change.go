package side

import "bytes"

// Change is what one write made of a key in From, for [Task.CopyChange]: it
// changed Before into After, nil for absence. The write must have been made,
// for certain. Both are shared: nobody modifies them.
//
// A change may be overtaken by other writes. It is used only where To holds what
// the write replaced, or what it left. So a task never takes To back from a
// later state to an earlier one, which a watch that lags could show. What
// it writes is checked against From afterwards in any case, and what it leaves
// alone is what the write itself left: if that was the last one, the stores
// are equal, and if not, a later one has a task of its own.
type Change struct {
	Before, After []byte
}

// fits reports whether h can stand for a read of From while To holds now.
func (h *Change) fits(now seen) bool {
	return h != nil && (now.is(h.Before) || now.is(h.After))
}

// is reports whether s is value, or absent if that is nil.
func (s seen) is(value []byte) bool {
	return s.exists == (value != nil) && bytes.Equal(s.value, value)
}

func seenOf(value []byte) seen { return seen{value, value != nil} }
