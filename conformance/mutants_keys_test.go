package conformance

import (
	"context"
	"errors"
	"iter"
	"net/url"
	"path"
	"slices"
	"strings"
	"unicode"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// keysBy is the in-memory store with each client putting f(key) for a key.
func keysBy(f func(string) string) Harness {
	return client(func(b *broken, _ kv.Options) {
		in := b.Forward
		b.get = func(ctx context.Context, key string) (any, error) { return in.Get(ctx, f(key)) }
		b.delete = func(ctx context.Context, key string) error { return in.Delete(ctx, f(key)) }
		b.cas = func(ctx context.Context, key string, cb casFunc) error { return in.CAS(ctx, f(key), cb) }
		b.getVersion = func(ctx context.Context, key string, g ...kv.Guard) (any, kv.Version, error) {
			return in.GetVersion(ctx, f(key), g...)
		}
		b.swapVersion = func(ctx context.Context, key string, prev kv.Version, value any, g ...kv.Guard) (kv.Version, error) {
			return in.SwapVersion(ctx, f(key), prev, value, g...)
		}
	})
}

// prefixesBy is the in-memory store with clients that show the keys for which
// shown is true.
func prefixesBy(wider func(prefix string) string, shown func(prefix, key string) bool) Harness {
	return client(func(b *broken, _ kv.Options) {
		in := b.Forward
		b.list = func(ctx context.Context, prefix string) ([]string, error) {
			keys, err := in.List(ctx, wider(prefix))
			return slices.DeleteFunc(keys, func(key string) bool { return !shown(prefix, key) }), err
		}
		b.values = func(ctx context.Context, r kv.Range, f func(string, any) bool) {
			if r.IsPrefix {
				prefix := r.Key
				r.Key = wider(prefix)
				b.inside(ctx, r, func(key string, value any) bool { return !shown(prefix, key) || f(key, value) })
				return
			}
			b.inside(ctx, r, f)
		}
		b.entries = func(ctx context.Context, prefix string) iter.Seq2[kv.Entry, error] {
			return func(yield func(kv.Entry, error) bool) {
				for e, err := range in.Entries(ctx, wider(prefix)) {
					if (err != nil || shown(prefix, e.Key)) && !yield(e, err) {
						return
					}
				}
			}
		}
	})
}

func same(s string) string { return s }

// inFolder takes prefix for the name of a folder or of a key.
func inFolder(prefix, key string) bool {
	rest := strings.TrimPrefix(key, prefix)
	return prefix == "" || rest == "" || strings.HasSuffix(prefix, "/") || strings.HasPrefix(rest, "/")
}

// renaming is the in-memory store with a driver that shows some keys under
// another name, by which the engine takes them for ordinary ones.
func renaming(f func(string) string) Harness {
	return store(func(b *brokenStore) {
		in := b.Store
		b.scan = func(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
			page, err := in.Scan(ctx, req)
			page.Entries = slices.Clone(page.Entries)
			for i := range page.Entries {
				page.Entries[i].Key = f(page.Entries[i].Key)
			}
			return page, err
		}
		b.watch = func(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
			return in.Watch(ctx, req, func(e driver.Event) {
				e.Entry.Key = f(e.Entry.Key)
				emit(e)
			})
		}
	})
}

func presentable(key string) string {
	return path.Clean(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, key))
}

func keyMutants() []mutant {
	unescape := func(key string) string {
		if s, err := url.PathUnescape(key); err == nil {
			return s
		}
		return key
	}
	all := func(_, _ string) bool { return true }
	return []mutant{
		{"keys are cleaned like paths", "K1", "K1-invalid-refused", keysBy(func(key string) string {
			if key == "" {
				return key
			}
			return strings.TrimPrefix(path.Clean(key), "/")
		})},
		{"keys are unescaped like URLs", "K1", "K1-odd-keys-work", keysBy(unescape)},
		{"keys are folded to lower case", "K1", "K1-odd-keys-work", keysBy(strings.ToLower)},
		{"spaces around keys are trimmed", "K1", "K1-odd-keys-work", keysBy(strings.TrimSpace)},
		{"keys are cut to 255 bytes", "K1", "K1-longest-key", keysBy(func(key string) string { return key[:min(len(key), 255)] })},
		{"keys of more than 255 bytes are refused", "K3", "K1-longest-key K3-prefix-composes", client(func(b *broken, _ kv.Options) {
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				if len(key) > 255 {
					return kv.ErrInvalidKey
				}
				return b.Forward.CAS(ctx, key, f)
			}
		})},
		{"keys are checked by asking the store", "K1", "K1-before-any-request", client(func(b *broken, _ kv.Options) {
			b.get = func(ctx context.Context, key string) (any, error) {
				_ = b.Forward.Ping(ctx)
				return b.Forward.Get(ctx, key)
			}
		})},
		{"a prefix is a folder", "K2", "K2-bytes-not-folders", prefixesBy(same, inFolder)},
		{"the prefix is forgotten", "K2", "K2-bytes-not-folders", prefixesBy(func(string) string { return "" }, all)},
		{"a prefix is made valid UTF-8", "K2", "K2-ends-anywhere", prefixesBy(
			func(prefix string) string { return strings.ToValidUTF8(prefix, "\ufffd") }, all)},
		{"the empty prefix is refused", "K2", "K2-empty", client(func(b *broken, _ kv.Options) {
			b.list = func(ctx context.Context, prefix string) ([]string, error) {
				if prefix == "" {
					return nil, errors.New("the prefix must not be empty")
				}
				return b.Forward.List(ctx, prefix)
			}
		})},
		{"reserved keys are open to users", "K3", "K3-reserved-refused", client(func(b *broken, _ kv.Options) {
			b.get = func(ctx context.Context, key string) (any, error) {
				if strings.HasPrefix(key, kv.ReservedSegment) {
					raw, err := b.Forward.Raw()
					if err != nil {
						return nil, err
					}
					return raw.Get(ctx, key)
				}
				return b.Forward.Get(ctx, key)
			}
		})},
		{"reserved keys are shown", "K3", "K3-reserved-hidden", renaming(func(key string) string {
			return strings.ReplaceAll(key, kv.ReservedSegment, "x"+kv.ReservedSegment)
		})},
		{"foreign keys are shown under a valid name", "K3", "K3-foreign-skipped", renaming(presentable)},
		{"nobody is told what was skipped", "K3", "K3-foreign-counted", settings(memory(), func(o *kv.Options) { o.Observer = nil })},
		{"keys lose their prefix", "K3", "K3-prefix-separates", keysBy(path.Base)},
	}
}

func availabilityMutants() []mutant {
	ignoring := func(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }
	return []mutant{
		{"nothing is retried", "A1", "A1-read-retried", settings(memory(), func(o *kv.Options) { o.RetryTimeout = 1 })},
		{"retries never end", "A1", "A1-unavailable", settings(memory(), func(o *kv.Options) { o.RetryTimeout = 1 << 60 })},
		{"retries don't pause", "A1", "A1-not-hot", settings(memory(), func(o *kv.Options) { o.MinBackoff, o.MaxBackoff = 1, 1 })},
		{"a lost answer is waited for", "A1", "A1-no-answer", settings(memory(), func(o *kv.Options) { o.AttemptTimeout = 1 << 60 })},
		{"opening a client asks the store", "A1", "A1-open-contacts-nobody", client(func(b *broken, _ kv.Options) {
			_ = b.Forward.Ping(context.Background())
		})},
		{"a store that is away looks empty", "A1", "A1-unavailable", client(func(b *broken, _ kv.Options) {
			b.get = func(ctx context.Context, key string) (any, error) {
				value, err := b.Forward.Get(ctx, key)
				if errors.Is(err, kv.ErrUnavailable) {
					return nil, nil
				}
				return value, err
			}
		})},
		{"a write that went nowhere is told as indeterminate", "A1", "A1-unavailable", client(func(b *broken, _ kv.Options) {
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				err := b.Forward.CAS(ctx, key, f)
				if errors.Is(err, kv.ErrUnavailable) {
					return kv.ErrIndeterminate
				}
				return err
			}
		})},
		{"a write is lost while the store is away", "A1", "A1-write-retried", client(func(b *broken, _ kv.Options) {
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				if err := b.Forward.Ping(ctx); errors.Is(err, kv.ErrUnavailable) {
					return nil
				}
				return b.Forward.CAS(ctx, key, f)
			}
		})},
		{"reads ignore their ctx", "A1", "A1-ctx-first A1-cancelled-read", client(func(b *broken, _ kv.Options) {
			b.get = func(ctx context.Context, key string) (any, error) { return b.Forward.Get(ignoring(ctx), key) }
			b.list = func(ctx context.Context, prefix string) ([]string, error) {
				return b.Forward.List(ignoring(ctx), prefix)
			}
		})},
	}
}
