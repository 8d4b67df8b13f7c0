package kv

import (
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/internal/removal"
)

// decisionKind says what a callback decided.
type decisionKind uint8

const (
	keep   decisionKind = iota // write nothing
	write                      // write decision.value
	erase                      // delete the key
	refuse                     // fail with decision.err
	again                      // fail with decision.err, but try again first
)

// decision is what a callback made of a state.
type decision struct {
	kind  decisionKind
	value stored
	err   error
}

func (d decision) writes() bool { return d.kind == write || d.kind == erase }

// state is the value of a key that a callback sees.
type state struct {
	value  stored
	exists bool
}

func stateOf(entry driver.Entry) state { return state{storedIn(entry), entry.Exists()} }

// after is the state that d leaves behind.
func (s state) after(d *decision) state {
	switch d.kind {
	case write:
		return state{d.value, true}
	case erase:
		return state{value: d.value}
	default:
		return s
	}
}

// decide runs the callback on s, on the caller's goroutine.
func (c *casCall) decide(s state) decision {
	c.callbacks++
	if c.f == nil {
		c.note(s)
		if s.exists {
			return c.erasure(s)
		}
		return decision{kind: keep}
	}
	var in any
	if s.exists {
		value, err := c.client.open(s.value, true)
		if err != nil {
			return decision{kind: refuse, err: err}
		}
		in = value
	}
	out, retry, err := c.f(in)
	switch {
	case err != nil && retry:
		return decision{kind: again, err: err}
	case err != nil:
		return decision{kind: refuse, err: err}
	case out == nil, out == Remove && !s.exists:
		return decision{kind: keep}
	case out == Remove:
		return c.erasure(s)
	}
	value, err := c.client.seal(c.id.key, s.value, out, len(c.guards) > 0 || c.lease != "")
	if err != nil {
		return decision{kind: refuse, err: err}
	}
	return decision{kind: write, value: value}
}

// note tells who asked for it what a Delete found.
func (c *casCall) note(s state) {
	n := removal.NoteOf(c.ctx)
	if n == nil {
		return
	}
	*n = removal.Note{Known: c.client.values == nil}
	if s.exists && n.Known {
		n.Before = append([]byte{}, s.value.bytes...)
	}
}

// erasure is the decision to delete what s shows.
func (c *casCall) erasure(s state) decision {
	value, err := c.client.sealRemoval(c.id.key, s.value)
	if err != nil {
		return decision{kind: refuse, err: err}
	}
	return decision{kind: erase, value: value}
}

// errAgain ends one round of a call whose callback asked for a retry.
type errAgain struct{ error }

// result is how a call ends whose decision counts.
func (d decision) result() error {
	if d.kind == again {
		return errAgain{d.err}
	}
	return d.err
}
