package conformance

import (
	"context"
	"errors"
	"path"
	"sync"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
)

func closeMutants() []mutant {
	return []mutant{
		{"Close does nothing", "X1", "X1-later-calls X1-ends-watches", client(func(b *broken, _ kv.Options) {
			b.close = func() error { return nil }
		})},
		{"a second Close is an error", "X1", "X1-idempotent", client(func(b *broken, _ kv.Options) {
			var once sync.Once
			b.close = func() error {
				err := kv.ErrClosed
				once.Do(func() { err = b.Forward.Close() })
				return err
			}
		})},
		{"a pause outlives its client", "X1", "X1-ends-cas", looping(func(*loop) {})},
		{"Close waits for running calls", "X1", "X1-in-callbacks X1-not-for-callbacks", client(func(b *broken, _ kv.Options) {
			var running sync.WaitGroup
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				running.Add(1)
				defer running.Done()
				return b.Forward.CAS(ctx, key, f)
			}
			b.close = func() error {
				running.Wait()
				return b.Forward.Close()
			}
		})},
		{"who waits in a queue hears of no Close", "X1", "X1-ends-waiting", locking(same, func(unlock func(), _ bool) { unlock() })},
		{"Close leaves a goroutine", "X1", "X1-no-goroutine", client(func(b *broken, _ kv.Options) {
			go func() { <-time.After(2 * shortly) }()
		})},
		{"a call that Close ends has an error of its own", "X1", "X1-amid-calls", client(func(b *broken, _ kv.Options) {
			b.get = func(ctx context.Context, key string) (any, error) {
				value, err := b.Forward.Get(ctx, key)
				if errors.Is(err, kv.ErrClosed) {
					err = errors.New("use of a closed client")
				}
				return value, err
			}
		})},
		{"Close wants to say goodbye to the store", "X1", "X1-while-away", client(func(b *broken, _ kv.Options) {
			b.close = func() error {
				_, err := b.Forward.Get(context.Background(), "goodbye")
				return errors.Join(err, b.Forward.Close())
			}
		})},
	}
}

func sharingMutants() []mutant {
	return []mutant{
		{"Close takes the client's data with it", "X2", "X2-data-stays", client(func(b *broken, _ kv.Options) {
			var wrote cache[bool]
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				wrote.put(key, true)
				return b.Forward.CAS(ctx, key, f)
			}
			b.close = func() error {
				for key := range wrote.m {
					_ = b.Forward.Delete(context.Background(), key)
				}
				return b.Forward.Close()
			}
		})},
		{"Close ends every client of the store", "X2", "X2-others-go-on", clients(func() func(*broken, kv.Options) {
			var mu sync.Mutex
			var all []kv.Client
			return func(b *broken, _ kv.Options) {
				mu.Lock()
				defer mu.Unlock()
				all = append(all, b.Forward)
				b.close = func() error {
					mu.Lock()
					defer mu.Unlock()
					for _, c := range all {
						if err := c.Close(); err != nil {
							return err
						}
					}
					return nil
				}
			}
		})},
		{"values are stored with the name of their codec", "X2", "X2-codecs Raw-exact-bytes", codecs(func(c codec.Codec) codec.Codec { return labelled{c} })},
		{"prefixes are not told apart", "X2", "X2-prefixes", keysBy(path.Base)},
		{"Close does not reach what is wrapped", "X2", "X2-wrapper-closes", client(func(b *broken, _ kv.Options) {
			b.close = func() error { return nil }
		})},
		{"a raw view outlives its client", "X2", "X2-raw-closes", client(func(b *broken, _ kv.Options) {
			b.raw = func() (kv.Client, error) {
				raw, err := b.Forward.Raw()
				return &broken{Forward: kv.Forward{Client: raw}, close: func() error { return nil }}, err
			}
		})},
	}
}

// labelled stores values in an envelope with the name of the codec.
type labelled struct{ codec.Codec }

func (l labelled) Encode(value any) ([]byte, error) {
	data, err := l.Codec.Encode(value)
	return append([]byte(l.CodecID()+":"), data...), err
}

func (l labelled) Decode(data []byte) (any, error) {
	label := l.CodecID() + ":"
	if len(data) < len(label) || string(data[:len(label)]) != label {
		return nil, errors.New("written by another codec")
	}
	return l.Codec.Decode(data[len(label):])
}
