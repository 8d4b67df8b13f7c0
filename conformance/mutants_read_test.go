package conformance

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// believing gives b a cache of decoded values that nobody copies.
func believing(b *broken, l *loop) *cache[versioned] {
	var seen cache[versioned]
	read := func(ctx context.Context, key string) (any, kv.Version, error) {
		value, version, err := b.Forward.GetVersion(ctx, key)
		if old, ok := seen.get(key); ok && old.version == version {
			return old.value, version, err
		}
		if err == nil {
			seen.put(key, versioned{value, version})
		}
		return value, version, err
	}
	b.get = func(ctx context.Context, key string) (any, error) {
		value, _, err := read(ctx, key)
		return value, err
	}
	l.read = func(ctx context.Context, key string, _ int) (any, kv.Version, error) { return read(ctx, key) }
	return &seen
}

type versioned struct {
	value   any
	version kv.Version
}

// lagging are clients that sometimes read what a key was before its last write.
func lagging(every int64) Harness {
	return clients(func() func(*broken, kv.Options) {
		var before cache[any]
		var reads atomic.Int64
		return func(b *broken, _ kv.Options) {
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				var last any
				err := b.Forward.CAS(ctx, key, func(in any) (any, bool, error) {
					last = in
					return f(in)
				})
				before.put(key, last)
				return err
			}
			b.get = func(ctx context.Context, key string) (any, error) {
				value, err := b.Forward.Get(ctx, key)
				if old, ok := before.get(key); ok && err == nil && reads.Add(1)%every == 0 {
					return old, nil
				}
				return value, err
			}
		}
	})
}

func readMutants() []mutant {
	return slices.Concat(getMutants(), sharedValueMutants(), listMutants())
}

func getMutants() []mutant {
	return []mutant{
		{"reads are cached", "G1", "G1-after-cas G1-after-delete", client(func(b *broken, _ kv.Options) {
			var seen cache[any]
			b.get = func(ctx context.Context, key string) (any, error) {
				if value, ok := seen.get(key); ok {
					return value, nil
				}
				value, err := b.Forward.Get(ctx, key)
				if err == nil && value != nil {
					seen.put(key, value)
				}
				return value, err
			}
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				return b.Forward.CAS(ctx, key, func(in any) (any, bool, error) {
					out, retry, err := f(in)
					seen.put(key, out)
					return out, retry, err
				})
			}
		})},
		{"some reads come from a copy that lags", "G1", "G1-history G1-not-backwards", lagging(3)},
		{"nodes don't tell each other", "G1", "G1-converges C1-per-node", perNode(false)},
		{"an absent key is an error", "G1", "G1-absent", client(func(b *broken, _ kv.Options) {
			b.get = func(ctx context.Context, key string) (any, error) {
				value, err := b.Forward.Get(ctx, key)
				if err == nil && value == nil {
					return nil, errors.New("no such key")
				}
				return value, err
			}
		})},
		{"an absent key shows what begins like it", "G1", "G1-absent", store(func(b *brokenStore) {
			b.get = func(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
				page, err := b.Store.Scan(ctx, driver.ScanRequest{Prefix: req.Key, Limit: 1})
				if err != nil || len(page.Entries) == 0 {
					return driver.Entry{Key: req.Key}, err
				}
				return page.Entries[0], nil
			}
		})},
		{"zero bytes at the end are lost", "G1", "G1-byte-for-byte", store(func(b *brokenStore) {
			b.swap = func(ctx context.Context, s driver.Swap) (driver.Result, error) {
				s.Value = bytes.TrimRight(s.Value, "\x00")
				return b.Store.Swap(ctx, s)
			}
		})},
		{"an empty value is an absent key", "G1", "G1-byte-for-byte", store(func(b *brokenStore) {
			b.get = func(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
				entry, err := b.Store.Get(ctx, req)
				if len(entry.Value) == 0 {
					return driver.Entry{Key: req.Key}, err
				}
				return entry, err
			}
		})},
	}
}

func sharedValueMutants() []mutant {
	return []mutant{
		{"callbacks get the cached value", "G2", "G2-private-copy G2-callback-against-readers", client(func(b *broken, o kv.Options) {
			l := newLoop(b.Forward, o)
			believing(b, l)
			b.cas = l.CAS
		})},
		{"a callback that is called again gets the same value", "G2", "G2-not-passed-on", client(func(b *broken, _ kv.Options) {
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				return b.Forward.CAS(ctx, key, func(in any) (any, bool, error) {
					if out, retry, err := f(in); err != nil || out == nil {
						return out, retry, err
					}
					return f(in)
				})
			}
		})},
		{"what was written is kept as it is", "G2", "G2-not-kept", client(func(b *broken, o kv.Options) {
			l := newLoop(b.Forward, o)
			seen := believing(b, l)
			l.write = func(ctx context.Context, key string, prev kv.Version, _, out any) error {
				if out == kv.Remove && prev == 0 {
					return nil
				}
				version, err := b.Forward.SwapVersion(ctx, key, prev, out)
				if err == nil && out != kv.Remove {
					seen.put(key, versioned{out, version})
				}
				return err
			}
			b.cas = l.CAS
		})},
	}
}

func listMutants() []mutant {
	return []mutant{
		{"List is in no order", "L1", "L1-sorted", client(func(b *broken, _ kv.Options) {
			b.list = func(ctx context.Context, prefix string) ([]string, error) {
				keys, err := b.Forward.List(ctx, prefix)
				slices.Reverse(keys)
				return keys, err
			}
		})},
		{"List takes the prefix off", "L1", "L1-sorted", client(func(b *broken, _ kv.Options) {
			b.list = func(ctx context.Context, prefix string) ([]string, error) {
				keys, err := b.Forward.List(ctx, prefix)
				for i := range keys {
					keys[i] = strings.TrimPrefix(keys[i], prefix)
				}
				return keys, err
			}
		})},
		{"List shows what was deleted", "L1", "L1-deleted-never", clients(func() func(*broken, kv.Options) {
			var ever cache[bool]
			return func(b *broken, _ kv.Options) {
				b.cas = func(ctx context.Context, key string, f casFunc) error {
					ever.put(key, true)
					return b.Forward.CAS(ctx, key, f)
				}
				b.list = func(_ context.Context, prefix string) ([]string, error) {
					ever.mu.Lock()
					defer ever.mu.Unlock()
					var keys []string
					for key := range ever.m {
						if strings.HasPrefix(key, prefix) {
							keys = append(keys, key)
						}
					}
					slices.Sort(keys)
					return keys, nil
				}
			}
		})},
		{"List is cached until this client writes", "L1", "L1-linearizable", client(func(b *broken, _ kv.Options) {
			var lists cache[[]string]
			b.list = func(ctx context.Context, prefix string) ([]string, error) {
				if keys, ok := lists.get(prefix); ok {
					return keys, nil
				}
				keys, err := b.Forward.List(ctx, prefix)
				lists.put(prefix, keys)
				return keys, err
			}
		})},
		{"List ends with the first page", "L1", "L1-pages L1-thousands", store(func(b *brokenStore) {
			b.scan = func(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
				page, err := b.Store.Scan(ctx, req)
				page.More = false
				return page, err
			}
		})},
		{"pages overlap by one key", "L1", "L1-pages L1-among-changes", store(func(b *brokenStore) {
			b.scan = func(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
				page, err := b.Store.Scan(ctx, req)
				if req.After != "" {
					page.Entries = append([]driver.Entry{{Key: req.After}}, page.Entries...)
				}
				return page, err
			}
		})},
		{"List returns one slice to everybody", "L1", "L1-own-slice", client(func(b *broken, _ kv.Options) {
			var lists cache[[]string]
			b.list = func(ctx context.Context, prefix string) ([]string, error) {
				keys, err := b.Forward.List(ctx, prefix)
				if old, ok := lists.get(prefix); ok && len(old) == len(keys) {
					return old, err
				}
				lists.put(prefix, keys)
				return keys, err
			}
		})},
	}
}

func deleteMutants() []mutant {
	return []mutant{
		{"Delete does nothing", "D1", "D1-then-absent", client(func(b *broken, _ kv.Options) {
			b.delete = func(context.Context, string) error { return nil }
		})},
		{"Delete of an absent key is an error", "D1", "D1-absent", client(func(b *broken, _ kv.Options) {
			b.delete = func(ctx context.Context, key string) error {
				if value, err := b.Forward.Get(ctx, key); err == nil && value == nil {
					return errors.New("no such key")
				}
				return b.Forward.Delete(ctx, key)
			}
		})},
		{"a key that was deleted stays deleted", "D1", "D1-created-again-lives", clients(func() func(*broken, kv.Options) {
			var gone cache[bool]
			return func(b *broken, _ kv.Options) {
				b.delete = func(ctx context.Context, key string) error {
					gone.put(key, true)
					return b.Forward.Delete(ctx, key)
				}
				b.get = func(ctx context.Context, key string) (any, error) {
					if _, ok := gone.get(key); ok {
						return nil, nil
					}
					return b.Forward.Get(ctx, key)
				}
			}
		})},
		{"a later cleanup deletes what was created again", "D1", "D1-created-again-lives", clients(func() func(*broken, kv.Options) {
			var gone cache[bool]
			var deletes atomic.Int64
			return func(b *broken, _ kv.Options) {
				b.delete = func(ctx context.Context, key string) error {
					gone.put(key, true)
					if deletes.Add(1)%32 == 0 {
						gone.mu.Lock()
						defer gone.mu.Unlock()
						for key := range gone.m {
							if err := b.Forward.Delete(ctx, key); err != nil {
								return err
							}
						}
					}
					return b.Forward.Delete(ctx, key)
				}
			}
		})},
		{"Delete takes the keys below with it", "D1", "D1-one-key-only", client(func(b *broken, _ kv.Options) {
			b.delete = func(ctx context.Context, key string) error {
				keys, err := b.Forward.List(ctx, key)
				for _, key := range keys {
					err = errors.Join(err, b.Forward.Delete(ctx, key))
				}
				return err
			}
		})},
		{"Delete wants to know what it deletes", "D1", "D1-undecodable", client(func(b *broken, _ kv.Options) {
			b.delete = func(ctx context.Context, key string) error {
				if _, err := b.Forward.Get(ctx, key); err != nil {
					return err
				}
				return b.Forward.Delete(ctx, key)
			}
		})},
		{"Delete fails if another one was quicker", "D1", "D1-together", client(func(b *broken, _ kv.Options) {
			b.delete = func(ctx context.Context, key string) error {
				_, version, err := b.Forward.GetVersion(ctx, key)
				if err != nil || version == 0 {
					return err
				}
				pauseForOthers()
				_, err = b.Forward.SwapVersion(ctx, key, version, kv.Remove)
				return err
			}
		})},
		{"every third Delete is forgotten", "D1", "D1-history", clients(func() func(*broken, kv.Options) {
			var deletes atomic.Int64
			return func(b *broken, _ kv.Options) {
				b.delete = func(ctx context.Context, key string) error {
					if deletes.Add(1)%3 == 0 {
						return nil
					}
					return b.Forward.Delete(ctx, key)
				}
			}
		})},
	}
}
