package memberlist

import (
	"encoding/json"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// unread is an encoded value of a codec that this node's program doesn't have.
type unread []byte

// MarshalJSON shows what can be shown of it.
func (u unread) MarshalJSON() ([]byte, error) {
	switch {
	case json.Valid(u):
		return u, nil
	case utf8.Valid(u):
		return json.Marshal(string(u))
	}
	return json.Marshal(map[string][]byte{"base64": u})
}

// keep is a codec for such values. Its ID is theirs.
type keep struct{ id string }

func (k keep) CodecID() string { return k.id }

func (k keep) Encode(value any) ([]byte, error) {
	if u, ok := value.(unread); ok {
		return slices.Clone(u), nil
	}
	return nil, &codec.Error{CodecID: k.id, Op: "encode", Reason: fmt.Sprintf("this node only keeps such values, it can't write a %T", value), Err: codec.ErrType}
}

func (k keep) Decode(data []byte) (any, error) { return append(unread{}, data...), nil }

// withKept adds codecs for what the configuration says is to be kept, unless
// the program has them itself.
//
// The values of a Map's entries can be kept like that too: which entry is newer
// is in the Map's own encoding, and its digest stands for keys and versions.
func (c Config) withKept(codecs []codec.Codec) []codec.Codec {
	codecs = slices.Clone(codecs)
	has := byID(codecs)
	add := func(ids []string, of func(id string) codec.Codec) {
		for _, id := range ids {
			if has[id] == nil {
				has[id] = of(id)
				codecs = append(codecs, has[id])
			}
		}
	}
	add(c.KeepMaps, func(id string) codec.Codec { return MapCodec[string, unread]{Value: keep{id}, ID: id} })
	add(c.KeepValues, func(id string) codec.Codec { return keep{id} })
	return codecs
}

func (c Config) validateKept() error {
	for _, list := range []struct {
		name string
		ids  []string
	}{{"keep_values", c.KeepValues}, {"keep_maps", c.KeepMaps}} {
		for _, id := range list.ids {
			if id == "" || len(id) > state.MaxCodecID {
				return fmt.Errorf("%s: the codec id %q has %d bytes; 1 to %d are allowed", list.name, id, len(id), state.MaxCodecID)
			}
		}
	}
	for _, id := range c.KeepMaps {
		if slices.Contains(c.KeepValues, id) {
			return fmt.Errorf("keep_maps: %q is in keep_values too; its values are Maps or they are not", id)
		}
	}
	return nil
}
