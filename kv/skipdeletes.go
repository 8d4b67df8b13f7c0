package kv

import "context"

// SkipDeletes returns a client whose WatchKey and WatchPrefix never call f with
// nil, for code written for the clients of Cortex and dskit, which take every
// value that they are given for a present one. A key that is deleted and
// created again shows as a second call with a value, even if it is the same
// value as before.
//
// Everything else, [Watch] with its Delete events included, is that of c, and
// the [Raw] view skips deletions likewise. Closing it closes c.
func SkipDeletes(c Client) Client { return &skipDeletes{Views{Forward{c}, SkipDeletes}} }

type skipDeletes struct{ Views }

func (s *skipDeletes) WatchKey(ctx context.Context, key string, f func(any) bool) {
	s.Forward.WatchKey(ctx, key, func(value any) bool {
		return value == nil || f(value)
	})
}

func (s *skipDeletes) WatchPrefix(ctx context.Context, prefix string, f func(key string, value any) bool) {
	s.Forward.WatchPrefix(ctx, prefix, func(key string, value any) bool {
		return value == nil || f(key, value)
	})
}
