package conformance

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/polykv/polykv/kv"
)

// opKind is what an operation of a history did in the end.
type opKind uint8

const (
	opGet     opKind = iota // returned saw
	opWrite                 // replaced saw by wrote
	opRemove                // removed saw
	opDecline               // wrote nothing, having seen saw
	opDelete                // deleted whatever was there
)

// op is one operation on one key. Values are never empty: "" is absence.
type op struct {
	kind  opKind
	saw   string
	wrote string
	maybe bool // ErrIndeterminate: it happened once, or not at all
}

func (o op) String() string {
	name := [...]string{"get", "write", "remove", "decline", "delete"}[o.kind]
	if o.maybe {
		name = "maybe " + name
	}
	return fmt.Sprintf("%s(saw %q wrote %q)", name, o.saw, o.wrote)
}

// step applies o to the value of a key and reports whether it can have been
// applied there.
//
// An operation that perhaps did not happen may always be put where it has no
// effect, and since it stays open to the end of the history, behind everything
// that could show an effect.
func (o op) step(value string) (ok bool, after string) {
	switch o.kind {
	case opDelete:
		return true, ""
	case opWrite, opRemove:
		if value == o.saw {
			return true, o.wrote // "" for opRemove
		}
		return o.maybe, value
	default:
		return o.maybe || value == o.saw, value
	}
}

// registerModel is one key.
func registerModel() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return "" },
		Step: func(state, input, _ any) (bool, any) {
			return input.(op).step(state.(string))
		},
		DescribeOperation: func(input, _ any) string { return input.(op).String() },
		DescribeState:     func(state any) string { return fmt.Sprintf("%q", state) },
	}
}

// history collects the operations on one key.
type history struct {
	start time.Time

	mu  sync.Mutex
	ops []porcupine.Operation
}

func newHistory() *history { return &history{start: time.Now()} }

// record runs one operation, which returns what it did; done is false if it
// provably did nothing.
func (h *history) record(client int, run func() (o op, done bool)) {
	call := time.Since(h.start)
	o, done := run()
	ret := time.Since(h.start)
	if !done {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: o, Call: int64(call), Return: int64(ret)})
}

// check wants the history to be linearizable.
func (h *history) check(t *trial, key string) {
	t.Helper()
	end := int64(time.Since(h.start)) + 1
	for i, o := range h.ops {
		if o.Input.(op).maybe {
			h.ops[i].Return = end
		}
	}
	switch porcupine.CheckOperationsTimeout(registerModel(), h.ops, t.patience) {
	case porcupine.Illegal:
		t.Errorf("the history of %q is not linearizable:\n%s", key, h.dump())
	case porcupine.Unknown:
		t.Errorf("the history of %q could not be checked within %v", key, t.patience)
	}
}

func (h *history) dump() string {
	var b strings.Builder
	for _, o := range h.ops {
		fmt.Fprintf(&b, "  %9d to %9d  client %d  %v\n", o.Call, o.Return, o.ClientId, o.Input)
	}
	return b.String()
}

// mix is how often an operation is drawn.
type mix map[opKind]int

// The mixes of histories, one for each rule that they are about.
func mixWrites() mix   { return mix{opWrite: 1} }
func mixReads() mix    { return mix{opWrite: 1, opGet: 2} }
func mixDeletes() mix  { return mix{opWrite: 3, opGet: 1, opDelete: 2} }
func mixDeclines() mix { return mix{opWrite: 2, opDecline: 2} }
func mixRemoves() mix  { return mix{opWrite: 3, opRemove: 2, opGet: 1} }
func mixAll() mix      { return mix{opWrite: 4, opGet: 2, opDelete: 1, opDecline: 2, opRemove: 1} }

func (m mix) draw() opKind {
	sum := 0
	for _, n := range m {
		sum += n
	}
	n := rand.IntN(sum)
	for _, kind := range []opKind{opGet, opWrite, opRemove, opDecline, opDelete} {
		if n -= m[kind]; n < 0 {
			return kind
		}
	}
	return opGet
}

func historyOf(m func() mix) func(*trial) {
	return func(t *trial) { t.runHistory(t.openN(3), m(), 18) }
}

// runHistory has 3 goroutines per client run so many operations each on two
// keys, and checks both keys' histories.
func (t *trial) runHistory(clients []kv.Client, m mix, each int) {
	t.Helper()
	keys := []string{"k", "l"}
	histories := []*history{newHistory(), newHistory()}
	t.each(3*len(clients), func(g int) {
		for i := range each {
			k := rand.IntN(len(keys))
			histories[k].record(g, func() (op, bool) {
				return t.operate(clients[g%len(clients)], keys[k], m.draw(), fmt.Sprintf("%d.%d", g, i))
			})
		}
	})
	for k, h := range histories {
		h.check(t, keys[k])
	}
}

// operate runs one operation.
func (t *trial) operate(c kv.Client, key string, kind opKind, value string) (op, bool) {
	o := op{kind: kind}
	var err error
	switch kind {
	case opGet:
		var got any
		got, err = c.Get(t.ctx(), key)
		o.saw, _ = got.(string)
	case opDelete:
		err = c.Delete(t.ctx(), key)
	default:
		err = c.CAS(t.ctx(), key, func(in any) (any, bool, error) {
			o.saw, _ = in.(string)
			return o.answer(value)
		})
	}
	switch {
	case err == nil:
	case errors.Is(err, kv.ErrIndeterminate):
		o.maybe = true
	case errors.Is(err, kv.ErrUnavailable):
		return o, false
	default:
		t.Errorf("an operation of the history failed: %v", err)
		return o, false
	}
	return o, true
}

// answer is what the callback of a CAS returns.
func (o *op) answer(value string) (any, bool, error) {
	switch o.kind {
	case opWrite:
		o.wrote = value
		return value, false, nil
	case opRemove:
		return kv.Remove, false, nil
	default:
		return nil, false, nil
	}
}
