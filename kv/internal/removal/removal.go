// Package removal lets package kv/multi learn what a Delete found, which
// kv.Client doesn't tell, without a read for it.
package removal

import "context"

// Note is what the last look of a Delete at its key found.
type Note struct {
	Known  bool   // false: nothing was looked at, or the value isn't bytes
	Before []byte // a copy of the stored value; nil: the key was absent
}

type noteKey struct{}

// WithNote returns a ctx for a Delete that is to fill in n, on the caller's
// goroutine, before it returns.
func WithNote(ctx context.Context, n *Note) context.Context {
	return context.WithValue(ctx, noteKey{}, n)
}

// NoteOf returns the Note to be filled in, nil if nobody wants one.
func NoteOf(ctx context.Context) *Note {
	n, _ := ctx.Value(noteKey{}).(*Note)
	return n
}
