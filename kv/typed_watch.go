package kv

import (
	"context"
	"iter"
)

// TypedEvent is one event of [TypedClient.Watch].
type TypedEvent[T any] struct {
	Type  EventType // 0 in the last item, beside the error that ended the watch
	Key   string    // of Put, Delete and Undecodable
	Value T         // of Put; shared: read, don't modify
}

// Watch follows r, under the rules of [Client].WatchKey: first a [Put] for
// every key that exists, sorted, then [Synced], then a Put or [Delete] for
// each change.
//
//	for event, err := range users.Watch(ctx, kv.PrefixRange("users/")) {
//
// An item with an error is one of two kinds.
//
//   - Its Type is [Interrupted] or [Undecodable]: the loop may go on. After an
//     interruption the watch finds back by itself, delivers what changed
//     meanwhile and says Synced again. A value that can't be decoded or has
//     another type than T is skipped, Key tells whose.
//   - Its Type is 0: the watch has ended and this is its last item. The error
//     matches ctx's error, [ErrClosed], [ErrInvalidKey], or [ErrNotSupported]
//     if the client has no [Watcher].
//
// So a loop that nobody leaves always ends with an error that says why. One
// that is left ends the watch; no goroutine stays. The loop's body runs on the
// caller's goroutine and may use the client. States are conflated, not queued,
// while it is busy. Each loop over the result is a watch of its own.
func (t TypedClient[T]) Watch(ctx context.Context, r Range) iter.Seq2[TypedEvent[T], error] {
	return func(yield func(TypedEvent[T], error) bool) {
		left := false
		err := Watch(ctx, t.c, r, func(e Event) bool {
			left = left || !yield(typedEvent[T](e))
			return !left
		})
		// Leaving the loop may coincide with the end of ctx or of the client,
		// and a client may call once too often, but an iterator must not yield
		// after it was left.
		if err != nil && !left {
			yield(TypedEvent[T]{}, err)
		}
	}
}

func typedEvent[T any](e Event) (TypedEvent[T], error) {
	out, err := TypedEvent[T]{Type: e.Type, Key: e.Key}, e.Err
	if e.Type == Put {
		if out.Value, err = typed[T]("Watch", e.Key, e.Value); err != nil {
			out.Type = Undecodable
		}
	}
	return out, err
}
