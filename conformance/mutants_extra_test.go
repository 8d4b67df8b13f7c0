package conformance

import (
	"context"
	"errors"
	"iter"
	"strings"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

func extraMutants() []mutant {
	return []mutant{
		{"Entries ends with the first page", "Entries", "Entries-complete", store(func(b *brokenStore) {
			b.scan = func(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
				page, err := b.Store.Scan(ctx, req)
				page.More = false
				return page, err
			}
		})},
		{"Entries has no versions", "Entries", "Entries-current", entriesBy(func(e kv.Entry, err error) (kv.Entry, error, bool) {
			e.Version = 0
			return e, err, true
		})},
		{"what can't be decoded ends Entries", "Entries", "Entries-undecodable", entriesBy(func(e kv.Entry, err error) (kv.Entry, error, bool) {
			return e, err, err == nil
		})},
		{"Entries ends when its moment is forgotten", "Entries", "Entries-compacted", scansOnce()},
		{"List ends when its moment is forgotten", "L1", "L1-compacted", scansOnce()},
		{"Entries ignores its ctx", "Entries", "Entries-left", client(func(b *broken, _ kv.Options) {
			b.entries = func(ctx context.Context, prefix string) iter.Seq2[kv.Entry, error] {
				return b.Forward.Entries(context.WithoutCancel(ctx), prefix)
			}
		})},
		{"Entries takes its prefix for a folder", "K2", "K2-entries K2-watch-prefix", prefixesBy(same, inFolder)},
		{"Ping asks nobody", "Ping", "Ping-away Ping-ctx", client(func(b *broken, _ kv.Options) {
			b.ping = func(context.Context) error { return nil }
		})},
		{"Ping tries again and again", "Ping", "Ping-away", client(func(b *broken, _ kv.Options) {
			b.ping = func(ctx context.Context) error {
				_, err := b.Forward.Get(ctx, "ping")
				return err
			}
		})},
		{"Ping writes", "Ping", "Ping-alive", client(func(b *broken, _ kv.Options) {
			b.ping = func(ctx context.Context) error { return tryPut(ctx, b.Forward, "ping", "pong") }
		})},
		{"stored bytes begin with a length", "Raw", "Raw-exact-bytes", store(func(b *brokenStore) {
			b.swap = func(ctx context.Context, s driver.Swap) (driver.Result, error) {
				if !s.Remove {
					s.Value = append([]byte{byte(len(s.Value))}, s.Value...)
				}
				return b.Store.Swap(ctx, s)
			}
		})},
		{"a raw view lists reserved keys unasked", "Raw", "Raw-reserved", renaming(func(key string) string {
			return strings.ReplaceAll(key, kv.ReservedSegment, "x"+kv.ReservedSegment)
		})},
		{"a raw view writes what it likes", "Raw", "Raw-whole-client", client(func(b *broken, _ kv.Options) {
			b.raw = func() (kv.Client, error) {
				raw, err := b.Forward.Raw()
				if err != nil {
					return nil, err
				}
				r := &broken{Forward: kv.Forward{Client: raw}}
				l := newLoop(r.Forward, kv.Options{})
				l.write = func(ctx context.Context, key string, _ kv.Version, _, out any) error {
					return blindly(ctx, l, key, out)
				}
				r.cas = l.CAS
				return r, nil
			}
		})},
		{"LimitsOf tells another length of keys", "LimitsOf", "LimitsOf-sizes", client(func(b *broken, _ kv.Options) {
			b.limits = func() (kv.Limits, error) {
				limits, err := b.Forward.Limits()
				limits.Key = 255
				return limits, err
			}
		})},
		{"LimitsOf asks the store", "LimitsOf", "LimitsOf-offline", client(func(b *broken, _ kv.Options) {
			b.limits = func() (kv.Limits, error) {
				return kv.Limits{}, errors.Join(b.Forward.Ping(context.Background()))
			}
		})},
		{"an update that overtakes another one wins", "Typed", "Typed-counter", looping(func(l *loop) {
			l.write = func(ctx context.Context, key string, _ kv.Version, _, out any) error {
				pauseForOthers()
				return blindly(ctx, l, key, out)
			}
		})},
		{"removing does nothing", "Typed", "Typed-get-update", looping(func(l *loop) {
			sound := l.write
			l.write = func(ctx context.Context, key string, prev kv.Version, in, out any) error {
				if out == kv.Remove {
					return nil
				}
				return sound(ctx, key, prev, in, out)
			}
		})},
		{"errors lose their type", "Typed", "Typed-errors", looping(func(l *loop) {
			l.failed = func(err error) error { return errors.New(err.Error()) }
		})},
		{"numbers are stored as they are", "Typed", "Typed-wrong-type", client(func(b *broken, _ kv.Options) {
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				return b.Forward.CAS(ctx, key, func(in any) (any, bool, error) {
					out, retry, err := f(in)
					if _, ok := out.(int); ok {
						out = "a number"
					}
					return out, retry, err
				})
			}
		})},
	}
}

// scansOnce is a remote store that takes a lost snapshot for the end.
func scansOnce() Harness {
	return Harness{New: func(T) Store {
		server := newServer()
		s := server.store()
		open := func(line *StoreLine) driver.Store {
			b := &brokenStore{Store: line}
			b.scan = func(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
				page, err := b.Store.Scan(ctx, req)
				if errors.Is(err, driver.ErrSnapshotLost) {
					return driver.Page{}, nil
				}
				return page, err
			}
			return b
		}
		s.Open = func(c codec.Codec, o kv.Options) (kv.Client, error) {
			return kv.New(open(server.line()), c, &o), nil
		}
		s.OpenLine = func(c codec.Codec, o kv.Options) (kv.Client, Line, error) {
			line := server.line()
			return kv.New(open(line), c, &o), line, nil
		}
		return s
	}}
}

// entriesBy is Entries with each item handed through f, which ends it by false.
func entriesBy(f func(kv.Entry, error) (kv.Entry, error, bool)) Harness {
	return client(func(b *broken, _ kv.Options) {
		b.entries = func(ctx context.Context, prefix string) iter.Seq2[kv.Entry, error] {
			return func(yield func(kv.Entry, error) bool) {
				for e, err := range b.Forward.Entries(ctx, prefix) {
					e, err, more := f(e, err)
					if !yield(e, err) || !more {
						return
					}
				}
			}
		}
	})
}

// guardedBy are clients whose guarded operations ask holds whether the guard
// holds, and then go on without it.
func guardedBy(holds func(ctx context.Context, b *broken, g []kv.Guard) error) Harness {
	return client(func(b *broken, _ kv.Options) {
		b.getGuarded = func(ctx context.Context, key string, g ...kv.Guard) (any, error) {
			if err := holds(ctx, b, g); err != nil {
				return nil, err
			}
			return b.Forward.GetGuarded(ctx, key)
		}
		b.casGuarded = func(ctx context.Context, key string, f casFunc, g ...kv.Guard) error {
			if err := holds(ctx, b, g); err != nil {
				return err
			}
			return b.Forward.CASGuarded(ctx, key, f)
		}
		b.delGuarded = func(ctx context.Context, key string, g ...kv.Guard) error {
			if err := holds(ctx, b, g); err != nil {
				return err
			}
			return b.Forward.DeleteGuarded(ctx, key)
		}
	})
}

// atVersion reads once whether guards hold.
func atVersion(ctx context.Context, b *broken, guards []kv.Guard) error {
	for _, g := range guards {
		_, version, err := b.Forward.GetVersion(ctx, g.Key)
		if err == nil && version != g.Version {
			err = kv.ErrFenced
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func guardMutants() []mutant {
	return []mutant{
		{"guards are ignored", "Guarded", "Guarded-fenced Guarded-turns Guarded-fenced-client", guardedBy(func(context.Context, *broken, []kv.Guard) error { return nil })},
		{"a guard is checked before the callback only", "Guarded", "Guarded-broken-meanwhile Guarded-turns", guardedBy(atVersion)},
		{"guards never hold", "Guarded", "Guarded-holds", guardedBy(func(context.Context, *broken, []kv.Guard) error { return kv.ErrFenced })},
		{"a guard is compared by its bytes", "Guarded", "Guarded-same-bytes", client(func(b *broken, _ kv.Options) {
			was := map[kv.Version]any{}
			b.getVersion = func(ctx context.Context, key string, g ...kv.Guard) (any, kv.Version, error) {
				value, version, err := b.Forward.GetVersion(ctx, key, g...)
				was[version] = value
				return value, version, err
			}
			b.getGuarded = func(ctx context.Context, key string, g ...kv.Guard) (any, error) {
				now, _, err := b.Forward.GetVersion(ctx, g[0].Key)
				if err == nil && now != was[g[0].Version] {
					err = kv.ErrFenced
				}
				if err != nil {
					return nil, err
				}
				return b.Forward.Get(ctx, key)
			}
		})},
		{"only the first of several guards is looked at", "Guarded", "Guarded-several", store(func(b *brokenStore) {
			b.get = func(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
				req.Guards = req.Guards[:min(1, len(req.Guards))]
				return b.Store.Get(ctx, req)
			}
			b.swap = func(ctx context.Context, s driver.Swap) (driver.Result, error) {
				s.Guards = s.Guards[:min(1, len(s.Guards))]
				return b.Store.Swap(ctx, s)
			}
		})},
		{"only a write's last guard is looked at", "Guarded", "Guarded-several Guarded-several-meanwhile", store(func(b *brokenStore) {
			b.swap = func(ctx context.Context, s driver.Swap) (driver.Result, error) {
				s.Guards = s.Guards[max(0, len(s.Guards)-1):]
				return b.Store.Swap(ctx, s)
			}
		})},
		{"one guard that holds is enough for a read", "Guarded", "Guarded-several", store(func(b *brokenStore) {
			b.get = func(ctx context.Context, req driver.GetRequest) (e driver.Entry, err error) {
				guards := req.Guards
				for i := range max(1, len(guards)) {
					req.Guards = guards[i:min(i+1, len(guards))]
					if e, err = b.Store.Get(ctx, req); !errors.Is(err, driver.ErrFenced) {
						break
					}
				}
				return e, err
			}
		})},
		{"guards over the limit are left out", "Guarded", "Guarded-too-many", client(func(b *broken, _ kv.Options) {
			b.casGuarded = func(ctx context.Context, key string, f casFunc, g ...kv.Guard) error {
				return b.Forward.CASGuarded(ctx, key, f, g[:min(8, len(g))]...)
			}
		})},
		{"a decision not to write asks for no guard", "Guarded", "Guarded-decline", client(func(b *broken, _ kv.Options) {
			b.casGuarded = func(ctx context.Context, key string, f casFunc, g ...kv.Guard) error {
				in, err := b.Forward.Get(ctx, key)
				if err != nil {
					return err
				}
				if out, retry, err := f(in); out == nil && !retry {
					return err
				}
				return b.Forward.CASGuarded(ctx, key, f, g...)
			}
		})},
		{"a guard must not be a reserved key", "Guarded", "Guarded-reserved", client(func(b *broken, _ kv.Options) {
			b.casGuarded = func(ctx context.Context, key string, f casFunc, g ...kv.Guard) error {
				for _, g := range g {
					if err := kv.CheckKey(g.Key); err != nil {
						return err
					}
				}
				return b.Forward.CASGuarded(ctx, key, f, g...)
			}
		})},
		{"a guarded value is cut to its limit", "Guarded", "Guarded-too-large", client(func(b *broken, _ kv.Options) {
			b.casGuarded = func(ctx context.Context, key string, f casFunc, g ...kv.Guard) error {
				return b.Forward.CASGuarded(ctx, key, func(in any) (any, bool, error) {
					out, retry, err := f(in)
					if s, ok := out.(string); ok {
						out = s[:min(len(s), 512<<10)]
					}
					return out, retry, err
				}, g...)
			}
		})},
	}
}

func versionMutants() []mutant {
	return []mutant{
		{"a version counts the writes since the key was created", "Versioned", "Versioned-never-again C1-aba-recreated", countingVersions()},
		{"SwapVersion does not compare", "Versioned", "Versioned-swap Versioned-one-winner", client(func(b *broken, _ kv.Options) {
			b.swapVersion = func(ctx context.Context, key string, _ kv.Version, value any, g ...kv.Guard) (kv.Version, error) {
				pauseForOthers()
				_, now, err := b.Forward.GetVersion(ctx, key)
				if err != nil {
					return 0, err
				}
				return b.Forward.SwapVersion(ctx, key, now, value, g...)
			}
		})},
		{"SwapVersion tells what the version is by now", "Versioned", "Versioned-own-version", client(func(b *broken, _ kv.Options) {
			b.swapVersion = func(ctx context.Context, key string, prev kv.Version, value any, g ...kv.Guard) (kv.Version, error) {
				version, err := b.Forward.SwapVersion(ctx, key, prev, value, g...)
				if err != nil || version == 0 {
					return version, err
				}
				pauseForOthers()
				_, version, err = b.Forward.GetVersion(ctx, key)
				return version, err
			}
		})},
		{"versions are each client's own", "Versioned", "Versioned-same-everywhere", clients(func() func(*broken, kv.Options) {
			opened := kv.Version(0)
			return func(b *broken, _ kv.Options) {
				opened++
				mine := opened
				b.getVersion = func(ctx context.Context, key string, g ...kv.Guard) (any, kv.Version, error) {
					value, version, err := b.Forward.GetVersion(ctx, key, g...)
					if version != 0 {
						version += mine
					}
					return value, version, err
				}
			}
		})},
		{"SwapVersion writes reserved keys", "Versioned", "Versioned-refused", client(func(b *broken, _ kv.Options) {
			b.swapVersion = func(ctx context.Context, key string, prev kv.Version, value any, g ...kv.Guard) (kv.Version, error) {
				version, err := b.Forward.SwapVersion(ctx, key, prev, value, g...)
				if errors.Is(err, kv.ErrInvalidKey) && strings.HasPrefix(key, kv.ReservedSegment) {
					return 1, nil
				}
				return version, err
			}
		})},
	}
}

// countingVersions is a driver whose versions begin with 1 for every new key.
func countingVersions() Harness {
	return stores(func() func(*brokenStore) {
		type count struct{ counted, real driver.Version }
		var counts cache[count]
		return func(b *brokenStore) {
			b.get = func(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
				entry, err := b.Store.Get(ctx, req)
				if c, ok := counts.get(req.Key); ok && entry.Exists() {
					entry.Version = c.counted
				}
				return entry, err
			}
			b.swap = func(ctx context.Context, s driver.Swap) (driver.Result, error) {
				wanted := s.Prev.Version
				if c, ok := counts.get(s.Key); ok && c.counted == wanted && wanted != 0 {
					s.Prev.Version = c.real
				}
				result, err := b.Store.Swap(ctx, s)
				result.Known = result.Known && result.Outcome == driver.Applied
				if result.Outcome == driver.Applied {
					c := count{wanted + 1, result.Entry.Version}
					if s.Remove {
						c = count{}
					}
					counts.put(s.Key, c)
					result.Entry.Version = c.counted
				}
				return result, err
			}
		}
	})
}
