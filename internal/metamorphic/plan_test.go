package metamorphic

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// step is one operation of one of two clients, and what goes wrong meanwhile.
type step struct {
	what   string // the name of a row of operations
	client int
	key    string // or prefix
	value  string // of a kind that no other step writes
	fault  string // the name of a row of faults; "": none
}

func (s step) String() string {
	return fmt.Sprintf("{%q, %d, %q, %q, %q}", s.what, s.client, s.key, s.value, s.fault)
}

// clients is how many there are of a store: what one remembers, the other makes
// untrue.
const clients = 2

var keys = []string{"a", "a/b", "a/c", "b", "b/ä", "c"}

var prefixes = []string{"", "a", "a/", "b/", "none"}

// draw makes the plan of a seed. A write whose answer, or which itself, is lost is
// followed by one that leaves no doubt, since its outcome is open.
func draw(seed uint64, length int) (plan []step) {
	rnd := rand.New(rand.NewPCG(seed, 2))
	weights := []string{
		"put", "put", "append", "append", "append", "crowd", "delete", "remove", "decline", "refuse", "again", "get", "get", "list", "entries", "bad key",
	}
	for i := range length {
		s := step{what: weights[rnd.IntN(len(weights))], client: rnd.IntN(clients), key: keys[rnd.IntN(len(keys))], value: fmt.Sprint("v", i)}
		if s.what == "list" || s.what == "entries" {
			s.key = prefixes[rnd.IntN(len(prefixes))]
		}
		writes := s.what == "put" || s.what == "append"
		switch n := rnd.IntN(20); {
		case n == 0 && writes:
			s.fault = "lost answer"
		case n == 1 && writes:
			s.fault = "lost write"
		case n == 2 && (writes || s.what == "crowd"):
			s.fault = "conflict"
		case n == 3:
			s.fault = "cut"
		case n == 4:
			s.fault = "forget"
		}
		plan = append(plan, s)
		if s.open() {
			plan = append(plan, step{what: "settle", client: s.client, key: s.key, value: s.value + " for certain"})
		}
	}
	return plan
}

// open reports whether the contract leaves open what comes of a step.
func (s step) open() bool { return s.fault == "lost answer" || s.fault == "lost write" }

// shrink leaves out of a plan that fails what it fails without.
func shrink(plan []step, fails func([]step) bool) []step {
	for part := len(plan) / 2; part >= 1; part /= 2 {
		for from := 0; from < len(plan); {
			to := min(from+part, len(plan))
			if to < len(plan) && plan[to-1].open() {
				to++ // what settles it goes, too
			}
			if shorter := slices.Delete(slices.Clone(plan), from, to); fails(shorter) {
				plan = shorter
			} else {
				from = to
			}
		}
	}
	return plan
}
