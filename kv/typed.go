package kv

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
)

// TypedClient is a view of a [Client] whose values all have the type T, which
// must be the type that the client's codec decodes to: *pb.Ring for a codec of
// that message, for example, or an interface that the values implement. Make
// one with [Typed]. It is safe for concurrent use, needs no closing, and its
// methods return the client's errors.
//
// A value of another type is an error that names the wanted and the found
// type. Such errors, like every other, are an [*Error].
type TypedClient[T any] struct{ c Client }

// Typed returns a view of c with values of type T. Any number of views, of the
// same or of different types, can be made of one client.
func Typed[T any](c Client) TypedClient[T] { return TypedClient[T]{c} }

// Client returns the client that t is a view of.
func (t TypedClient[T]) Client() Client { return t.c }

// Action is what the callback of [TypedClient.Update] decides: [Put], [Keep]
// or [Remove].
//
// It is an interface because Put is also an [EventType] and Remove also an
// answer of CAS callbacks. The other event types, and nil, are no actions:
// Update fails when it gets one, and writes nothing.
type Action interface{ action() }

type keepKey string

// Keep is the [Action] of writing nothing.
const Keep keepKey = "polykv: keep this key as it is"

func (EventType) action() {}
func (keepKey) action()   {}
func (remove) action()    {}

// Retry marks the error of a callback of [TypedClient.Update] so that the
// callback is called again after a backoff, at most Options.MaxAttempts times;
// then Update returns err. It returns nil for nil.
func Retry(err error) error {
	if err == nil {
		return nil
	}
	return &retryError{err}
}

type retryError struct{ err error }

func (e *retryError) Error() string { return e.err.Error() }
func (e *retryError) Unwrap() error { return e.err }

// askedAgain tells whether err asks for another attempt, and takes the mark
// off. What Update returns in the end must not carry it any more, or an Update
// around this one would take it for its own.
func askedAgain(err error) (retry bool, cause error) {
	var marked *retryError
	if !errors.As(err, &marked) {
		return false, err
	}
	return true, &unmarked{err}
}

// unmarked hides the mark that is somewhere inside err and nothing else.
type unmarked struct{ err error }

func (e *unmarked) Error() string        { return e.err.Error() }
func (e *unmarked) Is(target error) bool { return errors.Is(e.err, target) }

func (e *unmarked) As(target any) bool {
	if _, mark := target.(**retryError); mark {
		return false
	}
	return errors.As(e.err, target)
}

// Get returns the value of key and whether it exists; if it doesn't, the value
// is T's zero value and the error nil. The value may be shared with others:
// read it, don't modify it.
func (t TypedClient[T]) Get(ctx context.Context, key string) (value T, exists bool, err error) {
	in, err := t.c.Get(ctx, key)
	if err != nil || in == nil {
		return value, false, err
	}
	value, err = typed[T]("Get", key, in)
	return value, err == nil, err
}

// Update changes key atomically, by [Client].CAS and under its rules. f gets
// the current value, which is its own copy to modify, or T's zero value and
// false if the key is absent. With a nil error the Action decides:
//
//   - [Put] writes the value that f returned. A nil pointer or interface is an
//     error.
//   - [Keep] writes nothing. The value that f returned is ignored, and Update
//     returns nil.
//   - [Remove] deletes the key, likewise.
//
// An error of f ends Update with that error, unless it was made by [Retry].
// f runs on the goroutine that called Update, possibly many times, and should
// have no effects besides its result.
func (t TypedClient[T]) Update(ctx context.Context, key string, f func(old T, exists bool) (T, Action, error)) error {
	return t.c.CAS(ctx, key, func(in any) (out any, retry bool, err error) {
		var old T
		if in != nil {
			if old, err = typed[T]("Update", key, in); err != nil {
				return nil, false, err
			}
		}
		value, action, err := f(old, in != nil)
		if err != nil {
			retry, err = askedAgain(err)
			return nil, retry, err
		}
		out, err = outOf(value, action)
		return out, false, err
	})
}

// outOf translates an Action to what a CAS callback returns.
func outOf(value any, action Action) (out any, err error) {
	switch action {
	case Put:
		v := reflect.ValueOf(value)
		if !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
			return nil, errors.New("the callback of Update returned kv.Put with a nil value; kv.Remove deletes a key")
		}
		return value, nil
	case Keep:
		return nil, nil
	case Remove:
		return Remove, nil
	default:
		return nil, fmt.Errorf("the callback of Update returned the action %v; it must be kv.Put, kv.Keep or kv.Remove", action)
	}
}

// Delete removes key; deleting an absent key is no error.
func (t TypedClient[T]) Delete(ctx context.Context, key string) error { return t.c.Delete(ctx, key) }

// List returns the full keys that begin with prefix, sorted, whatever the type
// of their values.
func (t TypedClient[T]) List(ctx context.Context, prefix string) ([]string, error) {
	return t.c.List(ctx, prefix)
}

// TypedEntry is one key with its value.
type TypedEntry[T any] struct {
	Key     string
	Value   T // shared: read, don't modify
	Version Version
}

// Entries is [Entries] with values of type T. A value that can't be decoded or
// has another type yields its Key with an error, and the iteration may go on.
func (t TypedClient[T]) Entries(ctx context.Context, prefix string) iter.Seq2[TypedEntry[T], error] {
	return func(yield func(TypedEntry[T], error) bool) {
		for e, err := range Entries(ctx, t.c, prefix) {
			out := TypedEntry[T]{Key: e.Key, Version: e.Version}
			if err == nil {
				out.Value, err = typed[T]("Entries", e.Key, e.Value)
			}
			if !yield(out, err) {
				return
			}
		}
	}
}

// typed asserts the type of a value that is present.
func typed[T any](op, key string, value any) (T, error) {
	v, ok := value.(T)
	if !ok {
		err := fmt.Errorf("wanted a value of type %v, got %T", reflect.TypeFor[T](), value)
		return v, &Error{Op: op, Key: key, Err: err}
	}
	return v, nil
}
