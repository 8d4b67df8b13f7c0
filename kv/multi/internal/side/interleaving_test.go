package side

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
)

// rules are what a modelled task obeys.
type rules struct {
	changes bool // the first call goes by what the write left
	any     bool // whatever the other store holds
	check   bool // after a swap it reads the primary again
}

// model is a state of two stores and of processes that each make one write to
// the first and then mirror it. Values are numbers, 0 for absence.
type model struct {
	from, to int
	version  int
	process  [3]modelled
}

// modelled is one process.
type modelled struct {
	at       step
	value    int // that it writes
	before   int // what it replaced
	in, inAt int // what the other store held, and its version
	wanted   int
	change   bool // it still goes by the change
}

type step int

const (
	toWrite step = iota
	toLook
	toDecide
	toDecline
	toSwap
	toCheck
	done
)

// next makes the next step of a process.
func (m model) next(i int, r rules) model {
	p := &m.process[i]
	switch p.at {
	case toWrite:
		p.before, m.from = m.from, p.value
		p.change, p.at = r.changes, toLook
	case toLook:
		p.in, p.inAt, p.at = m.to, m.version, toDecide
	case toDecide:
		p.wanted = m.from
		if p.change && (r.any || p.in == p.before || p.in == p.value) {
			p.wanted = p.value
		}
		if p.change, p.at = false, toSwap; p.wanted == p.in {
			p.at = toDecline
		}
	case toDecline:
		if p.at = done; m.version != p.inAt {
			p.at = toLook
		}
	case toSwap:
		if m.version != p.inAt {
			p.at = toLook
			break
		}
		m.to, m.version = p.wanted, m.version+1
		if p.at = done; r.check {
			p.at = toCheck
		}
	case toCheck:
		if p.at = done; m.from != p.wanted {
			p.at = toLook
		}
	}
	return m
}

// explore visits every state that can be reached and calls end with those in
// which everybody is done.
func explore(m model, r rules, seen map[model]bool, end func(model)) {
	if seen[m] {
		return
	}
	seen[m] = true
	over := true
	for i, p := range m.process {
		if p.at != done {
			over = false
			explore(m.next(i, r), r, seen, end)
		}
	}
	if over {
		end(m)
	}
}

// outcome is what exploring found.
type outcome struct{ states, ends, different int }

// exploreAll starts with both stores equal, and with all the writes of n
// processes that there are: of what there was, of one other value, of two. Which value is
// which, and which process, makes no difference.
func exploreAll(n int, r rules) (o outcome) {
	const values = 3
	for code := range values * values * values {
		var m model
		last, sorted := 0, true
		for i := range m.process {
			if m.process[i].at = done; i < n {
				m.process[i] = modelled{value: code % values}
				sorted = sorted && last <= code%values
				last, code = code%values, code/values
			}
		}
		if !sorted || code != 0 && n < len(m.process) {
			continue
		}
		seen := map[model]bool{}
		explore(m, r, seen, func(m model) {
			o.ends++
			if m.from != m.to {
				o.different++
			}
		})
		o.states += len(seen)
	}
	return o
}

// Every interleaving of two and of three processes that write a key and mirror
// it ends with equal stores, with changes as without, as long as each looks again
// after its swap.
func TestEveryInterleavingConverges(t *testing.T) {
	for _, n := range []int{2, 3} {
		for _, r := range []rules{{check: true}, {check: true, changes: true}, {check: true, changes: true, any: true}} {
			o := exploreAll(n, r)
			t.Logf("%d processes, %+v: %+v", n, r, o)
			if o.different > 0 || o.ends == 0 {
				t.Errorf("%d processes, %+v: %d of %d ends differ", n, r, o.different, o.ends)
			}
		}
		for _, r := range []rules{{}, {changes: true}} {
			if o := exploreAll(n, r); o.different == 0 {
				t.Errorf("%d processes without the second look, %+v: all of %d ends are equal, so this test proves nothing", n, r, o.ends)
			}
		}
	}
}

// A change that is used only where the other store holds what the write replaced,
// or left, never takes that store back from a later state to an earlier one.
// Here the primary goes from 0 to 1, 2 and 3.
func TestNoInterleavingGoesBack(t *testing.T) {
	var back int
	var walk func(m model, r rules, seen map[model]bool)
	walk = func(m model, r rules, seen map[model]bool) {
		if seen[m] {
			return
		}
		seen[m] = true
		for i, p := range m.process {
			if p.at == done || p.at == toWrite && i > 0 && m.process[i-1].at == toWrite {
				continue // the writes come in their order
			}
			next := m.next(i, r)
			if next.to < m.to {
				back++
			}
			walk(next, r, seen)
		}
	}
	m := model{process: [3]modelled{{value: 1}, {value: 2}, {value: 3}}}
	for _, r := range []rules{{check: true}, {check: true, changes: true}} {
		if walk(m, r, map[model]bool{}); back > 0 {
			t.Errorf("%+v: the other store went back %d times", r, back)
		}
	}
	if walk(m, rules{check: true, changes: true, any: true}, map[model]bool{}); back == 0 {
		t.Error("changes that are used wherever there are some never went back, so this test proves nothing")
	}
}

// stepped is a store each of whose requests waits for its turn.
type stepped struct {
	driver.Store
	turn func()
}

func (s stepped) Get(ctx context.Context, r driver.GetRequest) (driver.Entry, error) {
	s.turn()
	return s.Store.Get(ctx, r)
}

func (s stepped) Swap(ctx context.Context, w driver.Swap) (driver.Result, error) {
	s.turn()
	return s.Store.Swap(ctx, w)
}

// schedule runs processes one request at a time. choices says who goes on, by
// index among those that can; beyond its end the first one does. It returns
// how many could at each point.
func schedule(t *testing.T, choices []int, processes []func(turn func())) (width []int) {
	type arrival struct {
		process int
		over    bool
	}
	arrivals := make(chan arrival)
	turns := make([]chan struct{}, len(processes))
	var running sync.WaitGroup
	for i, process := range processes {
		turns[i] = make(chan struct{})
		running.Go(func() {
			process(func() {
				arrivals <- arrival{process: i}
				<-turns[i]
			})
			arrivals <- arrival{process: i, over: true}
		})
	}
	var waiting []int
	for moving := len(processes); ; {
		for ; moving > 0; moving-- {
			a := <-arrivals
			if !a.over {
				waiting = append(waiting, a.process)
			}
		}
		if len(waiting) == 0 {
			running.Wait()
			return width
		}
		slices.Sort(waiting)
		choice := 0
		if at := len(width); at < len(choices) {
			choice = choices[at]
		}
		width = append(width, len(waiting))
		if len(width) > 1000 {
			t.Fatal("it does not end")
		}
		next := waiting[choice]
		waiting = slices.Delete(waiting, choice, choice+1)
		moving = 1
		turns[next] <- struct{}{}
	}
}

// following returns the schedule after choices, nil after the last.
func following(choices, width []int) []int {
	choices = append(choices, make([]int, len(width)-len(choices))...)
	for i := len(width) - 1; i >= 0; i-- {
		if choices[i]+1 < width[i] {
			choices[i]++
			return choices[:i+1]
		}
	}
	return nil
}

// Two processes with stores of memory, in every order of their requests: the
// primary goes from B to A and back.
func TestEveryOrderOfRequestsConverges(t *testing.T) {
	runs := 0
	for choices := []int{}; choices != nil; runs++ {
		stores := [2]*inmemory.Store{inmemory.NewStore(), inmemory.NewStore()}
		open := func(i int, turn func()) *Side {
			s, err := New(fmt.Sprint(i), kv.New(stepped{stores[i].Open(), turn}, stringCodec, &fast), nil)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		put := func(s *Side, value string) (before []byte) {
			if err := s.CAS(t.Context(), "k", nil, func(in []byte, _ bool) ([]byte, kv.Action, error) {
				before = in
				return []byte(value), kv.Put, nil
			}); err != nil {
				t.Error(err)
			}
			return before
		}
		free := func() {}
		sides := [2]*Side{open(0, free), open(1, free)}
		put(sides[0], "B")
		put(sides[1], "B")
		var processes []func(turn func())
		for _, value := range []string{"A", "B"} {
			processes = append(processes, func(turn func()) {
				from, to := open(0, turn), open(1, turn)
				defer from.client.Close()
				defer to.client.Close()
				change := &Change{Before: put(from, value), After: []byte(value)}
				if _, err := (Task{From: from, To: to}).CopyChange(t.Context(), "k", change); err != nil {
					t.Error(err)
				}
			})
		}
		width := schedule(t, choices, processes)
		a, _, errA := sides[0].Get(t.Context(), "k", nil)
		b, _, errB := sides[1].Get(t.Context(), "k", nil)
		if err := errors.Join(errA, errB); err != nil || string(a) != string(b) {
			t.Fatalf("after %v the stores hold %q and %q, %v", choices, a, b, err)
		}
		if err := errors.Join(sides[0].client.Close(), sides[1].client.Close()); err != nil {
			t.Fatal(err)
		}
		choices = following(choices, width)
	}
	t.Logf("%d orders", runs)
	if runs < 100 {
		t.Errorf("only %d orders were tried", runs)
	}
}
