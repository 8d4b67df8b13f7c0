package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// opKind is what an operation of a history did in the end.
type opKind string

const (
	opGet     opKind = "get"     // returned saw
	opListed  opKind = "listed"  // a listing showed that the key exists, or, if saw is "", that it doesn't
	opWrite   opKind = "write"   // replaced saw by wrote
	opRemove  opKind = "remove"  // removed saw
	opDecline opKind = "decline" // wrote nothing, having seen saw
	opDelete  opKind = "delete"  // deleted whatever was there
	opRestore opKind = "restore" // a backup: set the key to wrote, whatever was there

	opSeen opKind = "seen" // a watch delivered saw, as it was then or had been, but after what it delivered last
	opEnd  opKind = "end"  // what may have happened and has not, has not
)

// fate is how an operation ended.
type fate string

const (
	done  fate = "done"
	maybe fate = "maybe" // ErrIndeterminate: it happened once, or not at all
	never fate = "never" // an error that proves that it did not happen
)

// op is one operation on one key. Values are never empty: "" is absence. No
// two operations, nor two runs of one's callback, write the same value.
type op struct {
	kind  opKind
	saw   string
	wrote string
	fate  fate
	err   error // why it is maybe or never

	client    int
	call, ret time.Duration // since the round began

	watch, nth int // of opSeen: which watch, and its how many-eth state of this key; of a maybe opDelete: its number
}

func (o op) String() string {
	s := fmt.Sprintf("%12v to %12v  client %d  %-5s %s(saw %q wrote %q)", o.call, o.ret, o.client, o.fate, o.kind, o.saw, o.wrote)
	if o.kind == opSeen {
		s = fmt.Sprintf("%12v to %12v  watch %d saw %q as number %d", o.call, o.ret, o.watch, o.saw, o.nth)
	}
	if o.err != nil {
		s += ": " + o.err.Error()
	}
	return s
}

// history is what was done to one key and what was seen of it.
type history struct {
	key string

	mu       sync.Mutex
	ops      []op
	seen     [][]op // by watch
	restored bool
}

func (h *history) add(o op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, o)
	h.restored = h.restored || o.kind == opRestore
}

// begin notes a new watch and returns its number.
func (h *history) begin() (watch int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen = append(h.seen, nil)
	return len(h.seen) - 1
}

// saw notes that a watch which began at since delivered a state.
func (h *history) saw(watch int, value string, since, at time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.seen[watch]
	h.seen[watch] = append(before, op{kind: opSeen, saw: value, fate: done, call: since, ret: at, watch: watch, nth: len(before)})
}

// String shows all that was done, then what each watch saw.
func (h *history) String() string {
	var b strings.Builder
	for _, o := range slices.Concat(append([][]op{h.ops}, h.seen...)...) {
		fmt.Fprintln(&b, o)
	}
	return b.String()
}

// around shows what was done around a moment, and what one watch saw of it.
func (h *history) around(at time.Duration, watch int) string {
	ops := slices.Clone(h.ops)
	if watch >= 0 {
		ops = append(ops, h.seen[watch]...)
	}
	slices.SortStableFunc(ops, func(a, b op) int { return int(a.ret - b.ret) })
	var b strings.Builder
	for _, o := range ops {
		if o.ret > at-2*time.Second && o.call < at+time.Second && o.ret < at+2*time.Second || o.fate == maybe {
			fmt.Fprintf(&b, "  %v\n", o)
		}
	}
	return b.String()
}

// sortedKeys returns the keys of a map in order.
func sortedKeys[K ~string, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
