package state

// Update is one key on its way between nodes: a state, or the change of one.
type Update struct {
	Key   string
	Codec string // the CodecID of the codec that wrote Value

	// E is the version of the key's newest deletion, V that of the state
	// written after it; V is zero if the key is deleted.
	E, V Version

	// Value is the encoded value. It must not be modified.
	Value []byte

	// Partial says that Value is only what changed, to be merged; what else
	// the key holds must not be taken for removed. (A whole value of a
	// Mergeable is merged too.)
	Partial bool
}

// Deleted reports whether u says that its key is deleted.
func (u Update) Deleted() bool { return u.V.IsZero() }

// KeyDigest stands for the state of one key in the comparison of two nodes.
type KeyDigest struct {
	Key    string
	E, V   Version
	Digest Digest // of the value's content if it is a Mergeable, else zero
}

// CodecDigest stands for all keys of one codec.
type CodecDigest struct {
	Codec string
	Root  Digest
}

// Outcome says what became of an update.
type Outcome uint8

// The outcomes of Apply.
const (
	Malformed    Outcome = iota // it breaks a rule, see Applied.Err
	Changed                     // the store changed
	Unchanged                   // it was known already
	Older                       // the store has something newer, which the sender may lack
	Expired                     // a deletion older than TombstoneTimeout
	Ahead                       // a version too far ahead of the cluster's clock; the sender should be told
	UnknownCodec                // no codec of that id is registered
)

// String returns the outcome in lower case, for logs and metric labels.
func (o Outcome) String() string {
	switch o {
	case Changed:
		return "changed"
	case Unchanged:
		return "unchanged"
	case Older:
		return "older"
	case Expired:
		return "expired"
	case Ahead:
		return "ahead"
	case UnknownCodec:
		return "unknown_codec"
	default:
		return "malformed"
	}
}
