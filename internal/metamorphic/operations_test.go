package metamorphic

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/polykv/polykv/kv"
)

// operations are what a step can do. Each returns its answer, what a callback saw
// last included.
var operations = map[string]func(ctx context.Context, r *run, s step) string{
	"put": func(ctx context.Context, r *run, s step) string { return r.cas(ctx, s, always(s.value)) },
	"settle": func(ctx context.Context, r *run, s step) string {
		answer, saw, _ := strings.Cut(r.cas(ctx, s, always(s.value)), ",") // what it saw is open
		if open, _, _ := strings.Cut(s.value, " "); strings.Count(saw, open) > 1 {
			return "C7: applied twice:" + saw
		}
		return answer
	},
	"append": func(ctx context.Context, r *run, s step) string { return r.cas(ctx, s, appended(s.value)) },
	"remove": func(ctx context.Context, r *run, s step) string {
		return r.cas(ctx, s, func(old string) (any, bool, error) {
			if old == "" {
				return nil, false, nil
			}
			return kv.Remove, false, nil
		})
	},
	"decline": func(ctx context.Context, r *run, s step) string {
		return r.cas(ctx, s, func(string) (any, bool, error) { return nil, false, nil })
	},
	"refuse": func(ctx context.Context, r *run, s step) string {
		return r.cas(ctx, s, func(string) (any, bool, error) { return nil, false, errRefused })
	},
	"again": func(ctx context.Context, r *run, s step) string {
		first := true
		return r.cas(ctx, s, func(old string) (any, bool, error) {
			if first {
				first = false
				return nil, true, errAgain
			}
			return appended(s.value)(old)
		})
	},
	"crowd": crowd,
	"delete": func(ctx context.Context, r *run, s step) string {
		return describe(r.clients[s.client].Delete(ctx, s.key))
	},
	"get": func(ctx context.Context, r *run, s step) string {
		value, err := r.clients[s.client].Get(ctx, s.key)
		return fmt.Sprint(describe(err), " ", value)
	},
	"list": func(ctx context.Context, r *run, s step) string {
		found, err := r.clients[s.client].List(ctx, s.key)
		return fmt.Sprintf("%s %q", describe(err), found)
	},
	"entries": func(ctx context.Context, r *run, s step) string { return r.all(ctx, r.clients[s.client], s.key) },
	"bad key": func(ctx context.Context, r *run, s step) string {
		s.key += "//"
		return r.cas(ctx, s, always(s.value))
	},
}

type callback = func(old string) (out any, retry bool, err error)

func always(value string) callback {
	return func(string) (any, bool, error) { return value, false, nil }
}

func appended(value string) callback {
	return func(old string) (any, bool, error) { return strings.TrimPrefix(old+"+"+value, "+"), false, nil }
}

// cas is a CAS whose answer has what the callback saw last.
func (r *run) cas(ctx context.Context, s step, f callback) string {
	saw := ""
	err := r.clients[s.client].CAS(ctx, s.key, func(in any) (any, bool, error) {
		saw, _ = in.(string)
		return f(saw)
	})
	return fmt.Sprintf("%s, saw %q", describe(err), saw)
}

// crowd has several callers of both clients add a word each to one key, at once.
func crowd(ctx context.Context, r *run, s step) string {
	const callers = 6
	answers := make([]string, callers)
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			err := r.clients[(s.client+i/4)%clients].CAS(ctx, s.key, func(in any) (any, bool, error) {
				old, _ := in.(string)
				words := append(strings.FieldsFunc(old, func(c rune) bool { return c == '+' }), fmt.Sprint(s.value, "/", i))
				slices.Sort(words)
				return strings.Join(words, "+"), false, nil
			})
			answers[i] = describe(err)
		})
	}
	all.Wait()
	return strings.Join(answers, " ")
}
