package memberlist

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

func (n *Node) keysStatus(q Query) KeysStatus {
	snap := n.store.Snapshot()
	st := KeysStatus{Total: snap.Len(), Prefix: q.Prefix, After: q.After, Items: []KeyStatus{}}
	snap.From(q.Prefix, q.After, func(r *state.Record) bool {
		if len(st.Items) == q.Limit {
			st.Next = st.Items[q.Limit-1].Key
			return false
		}
		st.Items = append(st.Items, n.recordStatus(r, inlineValue))
		return true
	})
	return st
}

func (n *Node) keyStatus(key string) *KeyStatus {
	r := n.store.Get(key)
	if r == nil {
		return &KeyStatus{Key: key, Problem: "there is no such key on this node"}
	}
	st := n.recordStatus(r, -1)
	if m := r.Mergeable(); m != nil {
		st.Content = m.MergeContent()
	}
	return &st
}

// recordStatus describes a key, with its value if that has at most so many
// bytes; -1: whatever its size.
func (n *Node) recordStatus(r *state.Record, limit int) KeyStatus {
	deleted, written := r.Versions()
	st := KeyStatus{
		Key: r.Key(), Codec: r.Codec(), Version: written.String(), Written: written.Time(), Merges: r.Mergeable() != nil,
	}
	if !deleted.IsZero() {
		st.Deleted = deleted.String()
	}
	encoded, err := r.Encoded()
	if err != nil {
		st.Problem = err.Error()
		return st
	}
	st.Bytes = len(encoded)
	if limit >= 0 && st.Bytes > limit {
		return st
	}
	text, err := n.asJSON(r.Codec(), encoded)
	if err != nil {
		st.Problem = err.Error()
		return st
	}
	st.Value = text
	return st
}

// asJSON decodes a value and encodes it for people. Values are of types that
// this package doesn't know, whose methods may do anything.
func (n *Node) asJSON(codecID string, encoded []byte) (text json.RawMessage, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("codec %q or its value panicked: %v", codecID, r)
		}
	}()
	c := n.codecs[codecID]
	if c == nil {
		return nil, fmt.Errorf("this node doesn't have the codec %q", codecID)
	}
	value, err := c.Decode(encoded)
	if err != nil {
		return nil, err
	}
	switch v := value.(type) {
	case []byte:
		if utf8.Valid(v) {
			return plainJSON(string(v))
		}
		return plainJSON(map[string]string{"base64": base64.StdEncoding.EncodeToString(v)})
	case proto.Message:
		return protojson.Marshal(v)
	default:
		return plainJSON(v)
	}
}

// plainJSON leaves < and > as they are, for people; the page escapes them.
func plainJSON(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

// tombstones lists the newest deletions.
func (n *Node) tombstones(limit int) []TombstoneStatus {
	var all []TombstoneStatus
	for _, c := range n.store.Codecs() {
		for bucket := range state.Buckets {
			for _, k := range n.store.Keys(c, bucket) {
				if k.V.IsZero() && !k.E.IsZero() {
					all = append(all, TombstoneStatus{Key: k.Key, Codec: c, Version: k.E.String(), Deleted: k.E.Time()})
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b TombstoneStatus) int {
		if c := b.Deleted.Compare(a.Deleted); c != 0 {
			return c
		}
		return strings.Compare(a.Key, b.Key)
	})
	return all[:min(len(all), limit)]
}
