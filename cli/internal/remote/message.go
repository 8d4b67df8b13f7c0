package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/polykv/polykv/kv"
)

// Kinds of messages. The parent begins a call by naming the operation; the
// child calls back any number of times, each of which the parent answers, and
// ends the call.
const (
	kindGet    = "get"
	kindList   = "list"
	kindCAS    = "cas"
	kindDelete = "delete"
	kindWatch  = "watch" // of a prefix

	kindAnswer = "answer" // of the parent, to a callback
	kindCancel = "cancel" // of the parent: the call's context has ended

	kindCallback = "callback" // of the child
	kindEnd      = "end"      // of the child: the result
)

// opening is the first message to the child.
type opening struct {
	Config json.RawMessage `json:"config"`
}

// message is any other one, a line of JSON. Keys and values are bytes, so that
// what is not UTF-8 arrives as it was sent.
type message struct {
	Call    uint64     `json:"call"`
	Kind    string     `json:"kind"`
	Key     []byte     `json:"key,omitempty"`
	Keys    [][]byte   `json:"keys,omitempty"`
	Value   []byte     `json:"value,omitempty"`
	Present bool       `json:"present,omitempty"` // there is a value
	Remove  bool       `json:"remove,omitempty"`  // an answer of CAS: delete the key
	Go      bool       `json:"go,omitempty"`      // an answer of CAS: call again; of a watch: go on
	Error   *wireError `json:"error,omitempty"`
	Seen    *seen      `json:"seen,omitempty"` // by the engine since the last message
}

// setValue fills in what is nil or a string.
func (m *message) setValue(value any) error {
	switch v := value.(type) {
	case nil:
	case string:
		m.Value, m.Present = []byte(v), true
	default:
		return fmt.Errorf("a value of type %T; only strings go to another process", value)
	}
	return nil
}

// value is what setValue was given.
func (m *message) value() any {
	if !m.Present {
		return nil
	}
	return string(m.Value)
}

// sentinels are the errors whose identity survives the way to the parent.
var sentinels = map[string]error{
	"conflict":      kv.ErrConflict,
	"unavailable":   kv.ErrUnavailable,
	"indeterminate": kv.ErrIndeterminate,
	"fenced":        kv.ErrFenced,
	"permission":    kv.ErrPermission,
	"closed":        kv.ErrClosed,
	"invalid key":   kv.ErrInvalidKey,
	"too large":     kv.ErrTooLarge,
	"full":          kv.ErrFull,
	"not supported": kv.ErrNotSupported,
	"canceled":      context.Canceled,
	"deadline":      context.DeadlineExceeded,
}

// wireError is an error as text, with the sentinels that it matches.
type wireError struct {
	Text     string   `json:"text"`
	Matches  []string `json:"matches,omitempty"`
	Callback bool     `json:"callback,omitempty"` // it matches the callback's

	// Of a kv.Error, whose Err the rest is then.
	Op      string `json:"op,omitempty"`
	Backend string `json:"backend,omitempty"`
	Key     []byte `json:"key,omitempty"`
}

// callbackError is an error of the parent's callback while it is in the child.
type callbackError struct{ text string }

func (e *callbackError) Error() string { return e.text }

func toWire(err error) *wireError {
	if err == nil {
		return nil
	}
	w := &wireError{Callback: errors.As(err, new(*callbackError))}
	for name, sentinel := range sentinels {
		if errors.Is(err, sentinel) {
			w.Matches = append(w.Matches, name)
		}
	}
	if e, ok := err.(*kv.Error); ok { //nolint:errorlint // an error around it has a text of its own
		w.Op, w.Backend, w.Key, err = e.Op, e.Backend, []byte(e.Key), e.Err
	}
	w.Text = err.Error()
	return w
}

// fromWire returns the error, which matches the callback's if it came from it.
func fromWire(w *wireError, callback error) error {
	if w == nil {
		return nil
	}
	e := &restated{text: w.Text}
	for _, name := range w.Matches {
		if sentinel := sentinels[name]; sentinel != nil {
			e.causes = append(e.causes, sentinel)
		}
	}
	if w.Callback && callback != nil {
		e.causes = append(e.causes, callback)
	}
	if w.Op == "" {
		return e
	}
	return &kv.Error{Op: w.Op, Backend: w.Backend, Key: string(w.Key), Err: e}
}

// restated is an error of another process: a text, and what it matches.
type restated struct {
	text   string
	causes []error
}

func (e *restated) Error() string   { return e.text }
func (e *restated) Unwrap() []error { return e.causes }
