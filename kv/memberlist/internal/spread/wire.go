package spread

import "github.com/polykv/polykv/kv/memberlist/internal/state"

// wireVersion is the first byte of every packet and of every message on a
// stream. Another version is refused and counted, never guessed at.
const wireVersion = 2

// errMalformed is the root of every failure to decode a message.
var errMalformed = state.ErrMalformed

// A decoder reads the fields of one message.
type decoder struct {
	state.Decoder
	codecs []string // ids that need no memory of their own; may be nil
}

func newDecoder(message []byte) decoder { return decoder{Decoder: state.Decoder{Rest: message}} }
