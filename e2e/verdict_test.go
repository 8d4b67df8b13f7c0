package e2e

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// keyState is the model of one key: its value, and how much of it one watch
// has seen.
type keyState struct {
	value string
	seen  int
	maybe int // how many of the deletions that may have happened did
	ended bool
}

// step reports whether o can have happened in s, and what it left behind.
//
// What may have happened is only ever put where it has an effect, or behind
// the end: each place where it has none is as good as any other. Of deletions
// that may have happened, the one that was called first goes first: it could
// take the place of any other.
func (s keyState) step(o op) (bool, keyState) {
	switch o.kind {
	case opSeen:
		if s.value != o.saw || s.seen != o.nth {
			return false, s
		}
		s.seen++
		return true, s
	case opListed:
		return (s.value == "") == (o.saw == ""), s
	case opEnd:
		s.ended = true
		return true, s
	case opRestore:
		s.value = o.wrote
		return true, s
	}
	if o.fate == maybe && (s.ended || s.value == "") {
		return s.ended, s
	}
	switch {
	case o.kind == opDelete && o.fate == maybe && o.nth != s.maybe:
		return false, s
	case o.kind == opDelete:
		if o.fate == maybe {
			s.maybe++
		}
		s.value = ""
		return true, s
	case s.value != o.saw:
		return false, s
	case o.kind == opWrite || o.kind == opRemove:
		s.value = o.wrote
	}
	return true, s
}

func keyModel() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return keyState{} },
		Step: func(state, input, _ any) (bool, any) {
			ok, after := state.(keyState).step(input.(op))
			if !ok {
				return false, state // saves an allocation
			}
			return true, after
		},
	}
}

func forPorcupine(ops []op) (input []porcupine.Operation) {
	for _, o := range ops {
		input = append(input, porcupine.Operation{ClientId: o.client, Input: o, Call: int64(o.call), Return: int64(o.ret)})
	}
	return input
}

// check returns what is wrong with the history, which ended at end: what was
// seen and was never written, states that were told twice, operations that are
// not linearizable, and watches that don't fit them. It also returns how many
// operations and states it looked at.
func (h *history) check(end, patience time.Duration) (checked int, err error) {
	ops, watches, err := h.settle(end)
	if err == nil {
		checked, err = h.fit(ops, watches, patience)
	}
	if err != nil {
		return checked, fmt.Errorf("%q: %w", h.key, err)
	}
	return checked, nil
}

func (h *history) fit(ops []op, watches [][]op, patience time.Duration) (checked int, err error) {
	verdict, info := porcupine.CheckOperationsVerbose(keyModel(), forPorcupine(ops), patience)
	switch verdict {
	case porcupine.Illegal:
		at, why := stuck(ops, info)
		return len(ops), fmt.Errorf("the operations are not linearizable:\n%s  around that time:\n%s", why, h.around(at, -1))
	case porcupine.Unknown:
		return len(ops), fmt.Errorf("the operations could not be checked within %v", patience)
	}
	var order []op
	for _, o := range info.PartialLinearizationsOperations()[0][0] {
		order = append(order, o.Input.(op))
	}
	checked = len(ops)
	for i, seen := range watches {
		checked += len(seen)
		n := fits(order, seen)
		if n == len(seen) {
			continue
		}
		// Operations that ran at the same time may have happened in another
		// order. Looking for one costs time.
		switch porcupine.CheckOperationsTimeout(keyModel(), forPorcupine(slices.Concat(ops, seen)), patience) {
		case porcupine.Illegal:
			return checked, fmt.Errorf("what watch %d delivered does not fit what was done, from about number %d on:\n%s", i, n, h.around(seen[n].ret, i))
		case porcupine.Unknown:
			return checked, fmt.Errorf("watch %d could not be checked within %v", i, patience)
		}
	}
	return checked, nil
}

// stuck shows how far the operations can be put in order, and what can't come
// next.
func stuck(ops []op, info porcupine.LinearizationInfo) (at time.Duration, why string) {
	var longest []porcupine.Operation
	for _, order := range info.PartialLinearizationsOperations()[0] {
		if len(order) > len(longest) {
			longest = order
		}
	}
	var state keyState
	placed := map[op]bool{}
	var b strings.Builder
	for i, o := range longest {
		placed[o.Input.(op)] = true
		_, state = state.step(o.Input.(op))
		if i >= len(longest)-10 {
			fmt.Fprintf(&b, "  %v\n", o.Input)
		}
	}
	fmt.Fprintf(&b, "  now it is %q, and nothing of what began before the first of these ended can come next:\n", state.value)
	rest := slices.DeleteFunc(slices.Clone(ops), func(o op) bool { return placed[o] })
	for _, o := range rest[:min(len(rest), 15)] {
		fmt.Fprintf(&b, "  %v\n", o)
	}
	if len(rest) > 0 {
		at = rest[0].ret
	}
	return at, b.String()
}

// A span is a state of the key with the times between which it was current at
// some moment, in one order of the operations.
type span struct {
	value    string
	earliest time.Duration // at which it can have begun
	latest   time.Duration // at which it can have ended
}

// spans returns the states that operations in this order make.
func spans(order []op) []span {
	const ever = time.Duration(math.MaxInt64)
	ends := make([]time.Duration, len(order)+1) // the latest time of each operation: that of the next, or its own end
	ends[len(order)] = ever
	for i, o := range slices.Backward(order) {
		ends[i] = min(o.ret, ends[i+1])
	}
	var state keyState
	var began time.Duration
	all := []span{{latest: ever}}
	for i, o := range order {
		_, state = state.step(o)
		began = max(began, o.call)
		if last := &all[len(all)-1]; state.value != last.value {
			last.latest = ends[i]
			all = append(all, span{value: state.value, earliest: began, latest: ever})
		}
	}
	return all
}

// fits returns how many of its states a watch can have delivered if the
// operations happened in this order.
func fits(order, seen []op) int {
	all := spans(order)
	for i, o := range seen {
		for len(all) > 0 && (all[0].value != o.saw || all[0].latest < o.call) {
			all = all[1:]
		}
		if len(all) == 0 || all[0].earliest > o.ret {
			return i
		}
	}
	return len(seen)
}

// settle decides what can be decided about operations that may have happened,
// by who saw the values that they would have written, and narrows down when
// watches saw what they delivered. Without it, a dozen operations of unknown
// outcome make a history impossible to check.
func (h *history) settle(end time.Duration) (ops []op, watches [][]op, err error) {
	writer, err := h.writers()
	if err != nil {
		return nil, nil, err
	}
	happened := h.evidence(writer)
	gone := map[string]bool{} // values that are known to have been replaced or removed
	for _, o := range h.ops {
		if (o.kind == opWrite || o.kind == opRemove) && (o.fate == done || o.kind == opWrite && happened[o.wrote]) {
			gone[o.saw] = true
		}
	}
	slices.SortStableFunc(h.ops, func(a, b op) int { return int(a.call - b.call) })
	deletions := 0
	for _, o := range h.ops {
		switch {
		case o.fate == done:
		case o.fate == never:
			if happened[o.wrote] {
				return nil, nil, fmt.Errorf("%q is there, but the call that would have written it ended with %w", o.wrote, o.err)
			}
			continue
		case o.kind == opWrite && happened[o.wrote]:
			o.fate, o.ret = done, end
		case o.kind == opRemove:
			o = unseen(o, writer, happened)
			if o.saw == "" || gone[o.saw] && !h.restored {
				continue
			}
			o.ret = end + 2
		case o.kind == opDelete:
			o.ret, o.nth = end+2, deletions
			deletions++
		default: // nobody saw what it wrote, or it would have written nothing
			continue
		}
		ops = append(ops, o)
	}
	for i, seen := range h.seen {
		seen, err = narrow(seen, writer)
		if err != nil {
			return nil, nil, fmt.Errorf("watch %d %w", i, err)
		}
		watches = append(watches, seen)
	}
	return append(ops, op{kind: opEnd, fate: done, call: end, ret: end + 1}), watches, nil
}

// unseen returns a removal that may have happened as one of what was there
// before writes that nobody else saw: if those happened at all, it was with
// it, in the swap of their group.
func unseen(o op, writer map[string]op, happened map[string]bool) op {
	for o.saw != "" && !happened[o.saw] && writer[o.saw].fate == maybe {
		w := writer[o.saw]
		o.saw, o.call = w.saw, max(o.call, w.call)
	}
	return o
}

// narrow returns the states of one watch, none earlier than what it saw before
// and the call that wrote it.
func narrow(seen []op, writer map[string]op) ([]op, error) {
	var since time.Duration
	var narrowed []op
	for i, o := range seen {
		switch {
		case i == 0 && o.saw == "":
			return nil, errors.New("was told of a deletion before anything else")
		case i > 0 && seen[i-1].saw == o.saw:
			return nil, fmt.Errorf("was told %q twice in a row", o.saw)
		}
		since = max(since, o.call)
		if o.saw != "" {
			since = max(since, writer[o.saw].call)
		}
		if since > o.ret {
			return nil, fmt.Errorf("was told %q at %v, before it was written", o.saw, o.ret)
		}
		o.call = since
		narrowed = append(narrowed, o)
	}
	return narrowed, nil
}

// writers returns by value who wrote it, or would have. It fails if something
// was seen that nobody can have written: the value of an earlier run of a
// callback, for example, whose swap had been declared lost.
func (h *history) writers() (map[string]op, error) {
	writer := map[string]op{}
	for _, o := range h.ops {
		if o.kind == opWrite {
			writer[o.wrote] = o
		}
	}
	for _, o := range slices.Concat(append(slices.Clone(h.seen), h.ops)...) {
		if _, ok := writer[o.saw]; !ok && o.saw != "" && o.kind != opListed && o.fate == done {
			return nil, fmt.Errorf("%q was seen and never written by a call that can have done so:\n  %v", o.saw, o)
		}
	}
	return writer, nil
}

// evidence returns the values that somebody saw whose word counts: an
// operation that was done, a watch, or one that must have happened for its
// own value was seen. A callback whose call was not done may have seen what
// only its group would have written.
func (h *history) evidence(writer map[string]op) map[string]bool {
	seen := map[string]bool{}
	var note func(value string)
	note = func(value string) {
		if value == "" || seen[value] {
			return
		}
		seen[value] = true
		note(writer[value].saw)
	}
	for _, o := range slices.Concat(append(slices.Clone(h.seen), h.ops)...) {
		if o.fate == done && o.kind != opListed {
			note(o.saw)
		}
		if o.kind == opRestore {
			note(o.wrote)
		}
	}
	return seen
}
