package kv_test

import (
	"errors"
	"testing"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
)

// A client, its wrappers and its raw view tell the codec of their values.
func TestCodecOf(t *testing.T) {
	r := newRig(t, kv.Options{})
	client := kv.New(r.store, codec.String{}, nil)
	raw, err := kv.Raw(client)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]kv.Client{
		"a client": client, "a prefix": mustPrefix(t, client, "a/"), "a wrapper": kv.SkipDeletes(client),
	} {
		if cdc, err := kv.CodecOf(c); err != nil || cdc != (codec.String{}) {
			t.Errorf("the codec of %s is %v, %v", name, cdc, err)
		}
	}
	if cdc, err := kv.CodecOf(raw); err != nil || cdc != (codec.Bytes{}) {
		t.Errorf("the codec of a raw view is %v, %v", cdc, err)
	}
	if _, err := kv.CodecOf(struct{ kv.Client }{client}); !errors.Is(err, kv.ErrNotSupported) {
		t.Errorf("the codec of a client that doesn't tell it: %v", err)
	}
}
