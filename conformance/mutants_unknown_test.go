package conformance

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// takenFor is a driver that tells another outcome for an unknown one.
func takenFor(o driver.Outcome) Harness {
	return store(func(b *brokenStore) {
		b.swap = func(ctx context.Context, s driver.Swap) (driver.Result, error) {
			result, err := b.Store.Swap(ctx, s)
			if result.Outcome != driver.Unknown {
				return result, err
			}
			if o != driver.NotApplied {
				err = nil
			}
			return driver.Result{Outcome: o}, err
		}
	})
}

func unknownMutants() []mutant {
	return []mutant{
		{"an unknown outcome is taken for a write that did not happen", "C7", "C7-deleted-after-create C7-lost-answers C7-created-after-delete", takenFor(driver.NotApplied)},
		{"an unknown outcome is taken for a conflict", "C7", "C7-changed-back-after-update C7-history C7-swap-version C7-unresolvable", takenFor(driver.Conflict)},
		{"an unknown outcome is taken for a broken guard", "C7", "C7-guarded", takenFor(driver.GuardBroken)},
		{"an unknown outcome is taken for success", "C7", "C7-lost-requests C7-resolved-by-versions C7-delete-once", takenFor(driver.Applied)},
		{"an indeterminate write is made again", "C7", "C7-deleted-after-create", client(func(b *broken, _ kv.Options) {
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				err := b.Forward.CAS(ctx, key, f)
				if errors.Is(err, kv.ErrIndeterminate) {
					return b.Forward.CAS(ctx, key, f)
				}
				return err
			}
		})},
		{"an indeterminate Delete is made again", "C7", "C7-created-after-delete", client(func(b *broken, _ kv.Options) {
			b.delete = func(ctx context.Context, key string) error {
				err := b.Forward.Delete(ctx, key)
				if errors.Is(err, kv.ErrIndeterminate) {
					return b.Forward.Delete(ctx, key)
				}
				return err
			}
		})},
		{"a broken connection ends calls", "C7", "C7-among-restarts", settings(remote(), func(o *kv.Options) { o.RetryTimeout = time.Nanosecond })},
	}
}

func valueMutants() []mutant {
	return []mutant{
		{"what can't be encoded is retried", "C8", "C8-unencodable", client(func(b *broken, _ kv.Options) {
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				err := b.Forward.CAS(ctx, key, f)
				for range 9 {
					if errors.Is(err, errPicky) {
						err = b.Forward.CAS(ctx, key, f)
					}
				}
				return err
			}
		})},
		{"what can't be encoded removes the key", "C8", "C8-unencodable", client(func(b *broken, _ kv.Options) {
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				err := b.Forward.CAS(ctx, key, f)
				if errors.Is(err, errPicky) {
					err = errors.Join(err, b.Forward.Delete(ctx, key))
				}
				return err
			}
		})},
		{"what can't be decoded is an absent key", "C8", "C8-undecodable C8-decodes-to-nil", codecs(func(c codec.Codec) codec.Codec { return forgiving{c} })},
		{"encoding another type panics", "C8", "C8-wrong-type", codecs(func(c codec.Codec) codec.Codec { return asserting{c} })},
		{"what is too large is cut", "C8", "C8-too-large", client(func(b *broken, _ kv.Options) {
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				return b.Forward.CAS(ctx, key, func(in any) (any, bool, error) {
					out, retry, err := f(in)
					if s, ok := out.(string); ok {
						out = s[:min(len(s), 512<<10)]
					}
					return out, retry, err
				})
			}
		})},
		{"MaxValueSize is ignored", "C8", "C8-max-value-size", settings(memory(), func(o *kv.Options) { o.MaxValueSize = 0 })},
		{"the size is looked at after writing", "C8", "C8-before-sending", lateSizeCheck()},
		{"a value that can't be stored fails later callers too", "C8", "C8-alone", client(func(b *broken, _ kv.Options) {
			var failed cache[error]
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				if err, _ := failed.get(key); err != nil {
					return err
				}
				err := b.Forward.CAS(ctx, key, f)
				if errors.Is(err, errPicky) {
					failed.put(key, err)
				}
				return err
			}
		})},
	}
}

// lateSizeCheck takes back what was too large.
func lateSizeCheck() Harness {
	unlimited := settings(memory(), func(o *kv.Options) { o.MaxValueSize = 0 })
	return clientsOf(unlimited, func() func(*broken, kv.Options) {
		return func(b *broken, o kv.Options) {
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				var before, wrote any
				err := b.Forward.CAS(ctx, key, func(in any) (any, bool, error) {
					out, retry, err := f(in)
					before, wrote = in, out
					return out, retry, err
				})
				if s, ok := wrote.(string); ok && err == nil && o.MaxValueSize > 0 && len(s) > o.MaxValueSize {
					return &kv.Error{Op: "CAS", Key: key, Err: errors.Join(kv.ErrTooLarge, tryPut(ctx, b.Forward, key, before))}
				}
				return err
			}
		}
	})
}

// forgiving decodes to an empty value what can't be decoded.
type forgiving struct{ codec.Codec }

func (f forgiving) Decode(data []byte) (any, error) {
	value, err := f.Codec.Decode(data)
	if err != nil || value == nil {
		return "", nil //nolint:nilerr // that is what is wrong with it
	}
	return value, nil
}

// asserting panics on another type than string.
type asserting struct{ codec.Codec }

func (a asserting) Encode(value any) ([]byte, error) {
	return a.Codec.Encode(strings.Clone(value.(string)))
}
