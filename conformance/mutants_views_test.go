package conformance

import (
	"sync/atomic"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/inmemory"
)

// viewing are clients with views made by view.
func viewing(view func(b *broken, cdc codec.Codec) (kv.Client, error)) Harness {
	return client(func(b *broken, _ kv.Options) {
		b.withCodec = func(cdc codec.Codec) (kv.Client, error) { return view(b, cdc) }
	})
}

func viewMutants() []mutant {
	return []mutant{
		{"a view is of another store", "WithCodec", "WithCodec-same-keys WithCodec-watch WithCodec-contended", viewing(func(_ *broken, cdc codec.Codec) (kv.Client, error) {
			return kv.New(inmemory.NewStore().Open(), cdc, nil), nil
		})},
		{"a view keeps its client's codec", "WithCodec", "WithCodec-same-keys WithCodec-whole-client", viewing(func(b *broken, _ codec.Codec) (kv.Client, error) {
			return b.Forward, nil
		})},
		{"a view has keys of its own", "WithCodec", "WithCodec-same-keys", viewing(func(b *broken, cdc codec.Codec) (kv.Client, error) {
			view, err := b.Forward.WithCodec(cdc)
			if err != nil {
				return nil, err
			}
			return kv.Prefix(view, "view/")
		})},
		{"a view of a raw view is one of everything", "WithCodec", "WithCodec-reserved", client(func(b *broken, _ kv.Options) {
			b.raw = func() (kv.Client, error) {
				raw, err := b.Forward.Raw()
				if err != nil {
					return nil, err
				}
				view := &broken{Forward: kv.Forward{Client: raw}}
				view.withCodec = func(codec.Codec) (kv.Client, error) { return raw, nil }
				return view, nil
			}
		})},
		{"Close of a view leaves its client open", "X2", "X2-view-closes", viewing(func(b *broken, cdc codec.Codec) (kv.Client, error) {
			view, err := b.Forward.WithCodec(cdc)
			if err != nil {
				return nil, err
			}
			return &broken{Forward: kv.Forward{Client: view}, close: func() error { return nil }}, nil
		})},
		{"a store that is one for all says that it isn't", "Linearizable", "Linearizable-told", client(func(b *broken, _ kv.Options) {
			b.consistent = func() bool { return false }
		})},
		{"views of a store that is one for all say that they aren't", "Linearizable", "Linearizable-told", viewing(func(b *broken, cdc codec.Codec) (kv.Client, error) {
			view, err := b.Forward.WithCodec(cdc)
			if err != nil {
				return nil, err
			}
			return &broken{Forward: kv.Forward{Client: view}, consistent: new(atomic.Bool).Load}, nil
		})},
	}
}
