package conformance

import (
	"context"
	"slices"

	"github.com/polykv/polykv/kv"
)

func watchStateMutants() []mutant {
	return slices.Concat(watchDeleteMutants(), watchOrderMutants())
}

func watchDeleteMutants() []mutant {
	return []mutant{
		{"deletions are not told", "W3", "W3-nil W3-all-clients", filtering(func(_ kv.Range, f valuesFunc) valuesFunc {
			return func(key string, value any) bool { return value == nil || f(key, value) }
		})},
		{"a deletion is told as an empty value", "W3", "W3-nil W3-prefix", filtering(func(_ kv.Range, f valuesFunc) valuesFunc {
			return func(key string, value any) bool {
				if value == nil {
					value = ""
				}
				return f(key, value)
			}
		})},
		{"a deletion is told with the old value", "W3", "W3-nil", filtering(func(_ kv.Range, f valuesFunc) valuesFunc {
			last := map[string]any{}
			return func(key string, value any) bool {
				if value == nil {
					return f(key, last[key])
				}
				last[key] = value
				return f(key, value)
			}
		})},
		{"a deletion is told under the prefix", "W3", "W3-prefix", filtering(func(r kv.Range, f valuesFunc) valuesFunc {
			return func(key string, value any) bool {
				if value == nil {
					key = r.Key
				}
				return f(key, value)
			}
		})},
		{"a key is not followed after its deletion", "W3", "W3-created-again W3-skip-deletes", filtering(func(_ kv.Range, f valuesFunc) valuesFunc {
			gone := map[string]bool{}
			return func(key string, value any) bool {
				if gone[key] {
					return true
				}
				gone[key] = value == nil
				return f(key, value)
			}
		})},
	}
}

func watchOrderMutants() []mutant {
	return []mutant{
		{"every other event comes one too late", "W4", "W4-in-order W4-history W4-contended-history", filtering(func(_ kv.Range, f valuesFunc) valuesFunc {
			var held *seen
			calls := 0
			return func(key string, value any) bool {
				if calls++; calls%2 == 0 && held == nil {
					held = &seen{key, value}
					return true
				}
				more := f(key, value)
				if held != nil {
					more = more && f(held.key, held.value)
					held = nil
				}
				return more
			}
		})},
		{"the first state comes again in the end", "W4", "W4-in-order", filtering(func(_ kv.Range, f valuesFunc) valuesFunc {
			var first *seen
			calls := 0
			return func(key string, value any) bool {
				if first == nil {
					first = &seen{key, value}
				}
				if calls++; calls == 5 && !f(first.key, first.value) {
					return false
				}
				return f(key, value)
			}
		})},
		{"every state is told twice", "W4", "W4-no-repeats W4-no-double-nil", filtering(func(_ kv.Range, f valuesFunc) valuesFunc {
			return func(key string, value any) bool {
				if !f(key, value) {
					return false
				}
				return f(key, value)
			}
		})},
		{"a deletion is told twice", "W4", "W4-no-double-nil", filtering(func(_ kv.Range, f valuesFunc) valuesFunc {
			return func(key string, value any) bool { return f(key, value) && (value != nil || f(key, value)) }
		})},
		{"states are told that never were", "W4", "W4-history", filtering(func(_ kv.Range, f valuesFunc) valuesFunc {
			last := map[string]any{}
			return func(key string, value any) bool {
				before, _ := last[key].(string)
				now, _ := value.(string)
				last[key] = value
				return (before == "" || now == "" || f(key, before+now)) && f(key, value)
			}
		})},
		{"a key watch tells of the keys below", "W4", "W4-own-key-only", client(func(b *broken, _ kv.Options) {
			b.values = func(ctx context.Context, r kv.Range, f func(string, any) bool) {
				r.IsPrefix = true
				b.inside(ctx, r, f)
			}
		})},
	}
}
