package conformance

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/polykv/polykv/kv"
)

// pauseForOthers makes it likely that others get in between.
func pauseForOthers() { time.Sleep(time.Millisecond) }

// blindly writes whatever the key holds by now.
func blindly(ctx context.Context, l *loop, key string, out any) error {
	for {
		_, version, err := l.GetVersion(ctx, key)
		if err != nil || out == kv.Remove && version == 0 {
			return err
		}
		if _, err = l.SwapVersion(ctx, key, version, out); !errors.Is(err, kv.ErrConflict) {
			return err
		}
	}
}

func atomicityMutants() []mutant {
	return []mutant{
		{"values are compared, not versions", "C1", "C1-aba-recreated C1-aba-changed-back", looping(func(l *loop) {
			l.write = func(ctx context.Context, key string, prev kv.Version, in, out any) error {
				now, version, err := l.GetVersion(ctx, key)
				if err != nil || out == kv.Remove && version == 0 {
					return err
				}
				if now != in {
					return kv.ErrConflict
				}
				_, err = l.SwapVersion(ctx, key, version, out)
				return err
			}
		})},
		{"nothing is compared", "C1", "C1-counter C1-little-memory C1-created-meanwhile C1-history", looping(func(l *loop) {
			l.write = func(ctx context.Context, key string, _ kv.Version, _, out any) error {
				pauseForOthers()
				return blindly(ctx, l, key, out)
			}
		})},
		{"callers of one client are kept apart, clients are not", "C1", "C1-chain C1-mixed-history", client(func(b *broken, o kv.Options) {
			var mu sync.Mutex
			l := newLoop(b.Forward, o)
			l.write = func(ctx context.Context, key string, _ kv.Version, _, out any) error {
				pauseForOthers()
				return blindly(ctx, l, key, out)
			}
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				mu.Lock()
				defer mu.Unlock()
				return l.CAS(ctx, key, f)
			}
		})},
		{"the version of the first attempt is kept", "C1", "C1-changed-meanwhile", client(func(b *broken, o kv.Options) {
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				l := newLoop(b.Forward, o)
				l.conflicts = 10
				var first kv.Version
				l.read = func(ctx context.Context, key string, attempt int) (any, kv.Version, error) {
					value, version, err := l.GetVersion(ctx, key)
					if attempt == 1 {
						first = version
					}
					return value, first, err
				}
				return l.CAS(ctx, key, f)
			}
		})},
		{"creating does not look whether the key is absent", "C1", "C1-created-meanwhile C1-one-creator", looping(func(l *loop) {
			sound := l.write
			l.write = func(ctx context.Context, key string, prev kv.Version, in, out any) error {
				if prev == 0 {
					pauseForOthers()
					return blindly(ctx, l, key, out)
				}
				return sound(ctx, key, prev, in, out)
			}
		})},
		{"a deletion in between is no conflict", "C1", "C1-deleted-meanwhile", looping(func(l *loop) {
			sound := l.write
			l.write = func(ctx context.Context, key string, prev kv.Version, in, out any) error {
				if _, version, err := l.GetVersion(ctx, key); err == nil && version == 0 {
					prev = 0
				}
				return sound(ctx, key, prev, in, out)
			}
		})},
		{"what was remembered is written over", "C1", "C1-overtaken-memory", client(func(b *broken, o kv.Options) {
			var seen cache[any]
			l := newLoop(b.Forward, o)
			l.read = func(ctx context.Context, key string, attempt int) (any, kv.Version, error) {
				if value, ok := seen.get(key); ok && attempt == 1 {
					return value, 0, nil
				}
				return l.GetVersion(ctx, key)
			}
			l.write = func(ctx context.Context, key string, _ kv.Version, _, out any) error {
				seen.put(key, out)
				return blindly(ctx, l, key, out)
			}
			b.cas = l.CAS
		})},
		{"keys of one name in different folders are one", "C1", "C1-keys-apart", keysBy(func(key string) string {
			if key == "k/x" {
				return path.Dir(key)
			}
			return key
		})},
	}
}

// recallingDeclines decides on what this client saw last. A swap confirms that,
// and so does a read if the decision was not to write, unless unconfirmed says
// otherwise of it.
func recallingDeclines(unconfirmed func(err error) bool) Harness {
	return client(func(b *broken, o kv.Options) {
		var seen cache[versioned]
		b.cas = func(ctx context.Context, key string, f casFunc) error {
			l := newLoop(b.Forward, o)
			var decided error
			l.read = func(ctx context.Context, key string, attempt int) (any, kv.Version, error) {
				if v, ok := seen.get(key); ok && attempt == 1 {
					return v.value, v.version, nil
				}
				value, version, err := l.GetVersion(ctx, key)
				seen.put(key, versioned{value, version})
				return value, version, err
			}
			l.write = func(ctx context.Context, key string, prev kv.Version, _, out any) error {
				if out == kv.Remove && prev == 0 {
					return nil
				}
				version, err := l.SwapVersion(ctx, key, prev, out)
				if err == nil && out != kv.Remove {
					seen.put(key, versioned{out, version})
				}
				return err
			}
			l.declined = func(ctx context.Context, key string, _ any, version kv.Version) (bool, error) {
				if unconfirmed(decided) {
					return true, nil
				}
				_, now, err := l.GetVersion(ctx, key)
				return now == version, err
			}
			return l.CAS(ctx, key, func(in any) (any, bool, error) {
				out, retry, err := f(in)
				decided = err
				return out, retry, err
			})
		}
	})
}

func decisionMutants() []mutant {
	return slices.Concat(declineMutants(), removeMutants())
}

func declineMutants() []mutant {
	return []mutant{
		{"declines rest on what is remembered", "C2", "C2-current-decline C2-history", recallingDeclines(func(err error) bool { return err == nil })},
		{"errors rest on what is remembered", "C2", "C2-current-error", recallingDeclines(func(err error) bool { return err != nil })},
		{"declining writes the value back", "C2", "C2-writes-nothing", looping(func(l *loop) {
			l.declined = func(ctx context.Context, key string, in any, version kv.Version) (bool, error) {
				if version == 0 {
					return true, nil
				}
				_, err := l.SwapVersion(ctx, key, version, in)
				return err == nil, nil
			}
		})},
		{"declining makes an absent key", "C2", "C2-absent", looping(func(l *loop) {
			l.declined = func(ctx context.Context, key string, _ any, version kv.Version) (bool, error) {
				if version == 0 {
					_, err := l.SwapVersion(ctx, key, 0, "")
					return err == nil, nil
				}
				return true, nil
			}
		})},
		{"what could not be written is handed on", "C2", "C2-group", client(func(b *broken, _ kv.Options) {
			var proposed cache[any]
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				err := b.Forward.CAS(ctx, key, func(in any) (any, bool, error) {
					if value, ok := proposed.get(key); ok && value != nil {
						in = value
					}
					out, retry, err := f(in)
					if out != nil {
						proposed.put(key, out)
					}
					return out, retry, err
				})
				if err == nil {
					proposed.put(key, nil)
				}
				return err
			}
		})},
	}
}

func removeMutants() []mutant {
	return []mutant{
		{"removing writes an empty value", "C3", "C3-deletes", looping(func(l *loop) {
			l.write = func(ctx context.Context, key string, prev kv.Version, _, out any) error {
				if out == kv.Remove {
					out = ""
				}
				_, err := l.SwapVersion(ctx, key, prev, out)
				return err
			}
		})},
		{"removing does not look what it removes", "C3", "C3-atomic C3-taken-once C3-history", looping(func(l *loop) {
			sound := l.write
			l.write = func(ctx context.Context, key string, prev kv.Version, in, out any) error {
				if out == kv.Remove {
					pauseForOthers()
					return l.Forward.Delete(ctx, key)
				}
				return sound(ctx, key, prev, in, out)
			}
		})},
		{"a removed key can't be created again", "C3", "C3-created-again", client(func(b *broken, o kv.Options) {
			var gone cache[bool]
			l := newLoop(b.Forward, o)
			sound := l.write
			l.write = func(ctx context.Context, key string, prev kv.Version, in, out any) error {
				if out == kv.Remove {
					gone.put(key, true)
				}
				if _, ok := gone.get(key); ok && out != kv.Remove {
					return nil
				}
				return sound(ctx, key, prev, in, out)
			}
			b.cas = l.CAS
		})},
		{"removing an absent key is an error", "C3", "C3-absent", looping(func(l *loop) {
			l.write = func(ctx context.Context, key string, prev kv.Version, _, out any) error {
				if out == kv.Remove && prev == 0 {
					return errors.New("no such key")
				}
				_, err := l.SwapVersion(ctx, key, prev, out)
				return err
			}
		})},
	}
}

func callbackMutants() []mutant {
	withOptions := func(change func(*kv.Options)) Harness { return settings(memory(), change) }
	return []mutant{
		{"the callback's error is flattened to text", "C4", "C4-error-comes-back", looping(func(l *loop) {
			l.failed = func(err error) error { return errors.New(err.Error()) }
		})},
		{"the error does not say which key", "C4", "C4-error-comes-back", client(func(b *broken, _ kv.Options) {
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				err := b.Forward.CAS(ctx, key, f)
				var named *kv.Error
				if errors.As(err, &named) {
					return named.Err
				}
				return err
			}
		})},
		{"an error is retried that did not ask for it", "C4", "C4-not-retried", client(func(b *broken, _ kv.Options) {
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				return b.Forward.CAS(ctx, key, func(in any) (any, bool, error) {
					out, _, err := f(in)
					return out, err != nil, err
				})
			}
		})},
		{"retry is ignored", "C4", "C4-retried", client(func(b *broken, _ kv.Options) {
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				return b.Forward.CAS(ctx, key, func(in any) (any, bool, error) {
					out, _, err := f(in)
					return out, false, err
				})
			}
		})},
		{"MaxAttempts is ignored", "C4", "C4-bounded", withOptions(func(o *kv.Options) { o.MaxAttempts = 10 })},
		{"the default of MaxAttempts is another", "C4", "C4-ten-by-default", withOptions(func(o *kv.Options) {
			if o.MaxAttempts == 0 {
				o.MaxAttempts = 9
			}
		})},
		{"the first error comes back instead of the last", "C4", "C4-bounded", client(func(b *broken, _ kv.Options) {
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				var first error
				err := b.Forward.CAS(ctx, key, func(in any) (any, bool, error) {
					out, retry, err := f(in)
					if first == nil {
						first = err
					}
					return out, retry, err
				})
				if err != nil && first != nil {
					return fmt.Errorf("gave up: %w", first)
				}
				return err
			}
		})},
		{"a retry gets the value of the first call", "C4", "C4-fresh", client(func(b *broken, _ kv.Options) {
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				var first any
				calls := 0
				return b.Forward.CAS(ctx, key, func(in any) (any, bool, error) {
					if calls++; calls == 1 {
						first = in
					}
					return f(first)
				})
			}
		})},
		{"retries follow each other at once", "C4", "C4-backs-off", withOptions(func(o *kv.Options) { o.MinBackoff, o.MaxBackoff = 1, 1 })},
		{"a value beside an error is written", "C4", "C4-error-wins", client(func(b *broken, _ kv.Options) {
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				var failed error
				err := b.Forward.CAS(ctx, key, func(in any) (any, bool, error) {
					out, retry, err := f(in)
					if out != nil && err != nil {
						failed = err
						return out, retry, nil
					}
					return out, retry, err
				})
				return errors.Join(err, failed)
			}
		})},
		{"retry means retry, error or not", "C4", "C4-retry-without-error", client(func(b *broken, _ kv.Options) {
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				return b.Forward.CAS(ctx, key, func(in any) (any, bool, error) {
					out, retry, err := f(in)
					for range 9 {
						if !retry || err != nil {
							break
						}
						out, retry, err = f(in)
					}
					return out, retry, err
				})
			}
		})},
	}
}
