package e2e

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// script makes a history. Each operation takes the time of its turn, unless it
// says otherwise.
type script []op

func write(saw, wrote string) op { return op{kind: opWrite, saw: saw, wrote: wrote, fate: done} }
func get(saw string) op          { return op{kind: opGet, saw: saw, fate: done} }
func remove(saw string) op       { return op{kind: opRemove, saw: saw, fate: done} }
func erase() op                  { return op{kind: opDelete, fate: done} }
func listed(saw string) op       { return op{kind: opListed, saw: saw, fate: done} }
func backup(value string) op     { return op{kind: opRestore, wrote: value, fate: done} }
func told(value string) op       { return op{kind: opSeen, saw: value, fate: done} }

func perhaps(o op) op { o.fate, o.err = maybe, errors.New("no answer"); return o }
func refused(o op) op { o.fate, o.err = never, errors.New("unavailable"); return o }

// beside says that o began when the operation before it did.
func beside(o op) op { o.ret = -1; return o }

func (s script) history() *history {
	h := &history{key: "k"}
	watch := h.begin()
	for i, o := range s {
		o.call, o.client = time.Duration(10*i), i
		if o.ret < 0 {
			o.call -= 10
		}
		o.ret = time.Duration(10*i + 5)
		if o.kind == opSeen {
			h.saw(watch, o.saw, 0, o.ret)
		} else {
			h.add(o)
		}
	}
	return h
}

func TestJudge(t *testing.T) {
	for name, test := range map[string]struct {
		script script
		wrong  string // what the error says; empty: none
	}{
		"in order":               {script{write("", "a"), get("a"), write("a", "b"), listed("b"), remove("b"), listed(""), get("")}, ""},
		"a stale read":           {script{write("", "a"), write("a", "b"), get("a")}, "not linearizable"},
		"a lost write":           {script{write("", "a"), write("a", "b"), write("a", "c")}, "not linearizable"},
		"a lost removal":         {script{write("", "a"), remove("a"), get("a")}, "not linearizable"},
		"a deletion undone":      {script{write("", "a"), erase(), listed("a")}, "not linearizable"},
		"a write beside a read":  {script{write("", "a"), write("a", "b"), beside(get("a"))}, ""},
		"of nobody":              {script{write("", "a"), get("b")}, "never written"},
		"refused, yet there":     {script{write("", "a"), refused(write("a", "b")), get("b")}, "ended with"},
		"refused, seen later on": {script{refused(write("", "a")), told("a")}, "ended with"},

		"perhaps, and was":             {script{perhaps(write("", "a")), get("a")}, ""},
		"perhaps, and was not":         {script{perhaps(write("", "a")), get(""), write("", "b"), get("b")}, ""},
		"perhaps, late":                {script{perhaps(write("", "a")), get(""), get("a")}, ""},
		"perhaps, twice":               {script{perhaps(write("", "a")), get("a"), erase(), get(""), get("a")}, "not linearizable"},
		"perhaps, too late":            {script{write("", "x"), perhaps(write("x", "a")), write("x", "b"), get("a")}, "not linearizable"},
		"perhaps, in a chain":          {script{perhaps(write("", "a")), perhaps(write("a", "b")), get("b")}, ""},
		"perhaps, first of a chain":    {script{perhaps(write("", "a")), perhaps(write("a", "b")), get("b"), get("a")}, "not linearizable"},
		"perhaps written and removed":  {script{write("", "a"), perhaps(write("a", "b")), perhaps(write("b", "c")), perhaps(remove("c")), get("a"), get("")}, ""},
		"perhaps both, not one":        {script{write("", "a"), perhaps(write("a", "b")), perhaps(remove("b")), get(""), get("a")}, "not linearizable"},
		"perhaps made and removed":     {script{perhaps(write("", "b")), perhaps(remove("b")), write("", "a"), get("a"), get("")}, "not linearizable"},
		"perhaps removed":              {script{write("", "a"), perhaps(remove("a")), get("a"), get("")}, ""},
		"perhaps removed, resurrected": {script{write("", "a"), perhaps(remove("a")), get(""), get("a")}, "not linearizable"},
		"perhaps removed another":      {script{write("", "a"), perhaps(remove("a")), write("a", "b"), get("b"), get("")}, "not linearizable"},
		"perhaps deleted another":      {script{write("", "a"), perhaps(erase()), write("a", "b"), get("b"), get("")}, ""},
		"perhaps deleted twice":        {script{write("", "a"), perhaps(erase()), get(""), write("", "b"), get("")}, "not linearizable"},

		"watched":                     {script{write("", "a"), told("a"), write("a", "b"), write("b", "c"), told("c"), remove("c"), told("")}, ""},
		"watched late":                {script{write("", "a"), write("a", "b"), remove("b"), told("a"), told("b"), told("")}, ""},
		"watched backwards":           {script{write("", "a"), write("a", "b"), told("b"), told("a")}, "does not fit"},
		"watched a deletion too many": {script{write("", "a"), told("a"), write("a", "b"), told(""), told("b")}, "does not fit"},
		"watched before it was":       {script{write("", "a"), told("b"), write("a", "b")}, "before it was written"},
		"watched twice":               {script{write("", "a"), told("a"), told("a")}, "twice in a row"},
		"watched nothing go":          {script{told(""), write("", "a")}, "before anything else"},

		"set back":              {script{write("", "a"), write("a", "b"), backup("a"), get("a"), write("a", "c")}, ""},
		"not set back":          {script{write("", "a"), write("a", "b"), backup("a"), get("b")}, "not linearizable"},
		"watched set back":      {script{write("", "a"), told("a"), write("a", "b"), told("b"), backup("a"), told("a")}, ""},
		"watched back too soon": {script{write("", "a"), told("a"), write("a", "b"), told("b"), told("a"), backup("a")}, "does not fit"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := test.script.history().check(1000, time.Minute)
			switch {
			case test.wrong == "" && err != nil:
				t.Error(err)
			case test.wrong != "" && (err == nil || !strings.Contains(err.Error(), test.wrong)):
				t.Errorf("got %v; want an error with %q", err, test.wrong)
			}
		})
	}
}

// A watch that begins late delivers nothing older than its beginning.
func TestJudgeOfLateWatch(t *testing.T) {
	for since, wrong := range map[time.Duration]bool{8: false, 12: false, 18: true} {
		h := script{write("", "a"), write("a", "b")}.history()
		watch := h.begin()
		h.saw(watch, "a", since, 30)
		if _, err := h.check(1000, time.Minute); (err != nil) != wrong {
			t.Errorf("a watch since %d that delivers what was there from 5 to 15: %v", since, err)
		}
	}
}

// A watch counts for which of two orders it was.
func TestJudgeOfOverlaps(t *testing.T) {
	for _, seen := range [][]string{{"a", "", "b"}, {"b", "", "a", ""}, {"a", "b"}, {"b", "", "b"}, {"b", "a", "b"}} {
		h := &history{key: "k"}
		for i, o := range []op{write("", "a"), write("", "b"), erase(), erase()} {
			o.client, o.ret = i, 100
			h.add(o)
		}
		watch := h.begin()
		for i, value := range seen {
			h.saw(watch, value, 0, time.Duration(50+i))
		}
		_, err := h.check(1000, time.Minute)
		if wrong := len(seen) > 2 && seen[0] == seen[2]; (err != nil) != wrong {
			t.Errorf("watched %q: %v", seen, err)
		}
	}
}

// Operations that may have happened must not make a check take for ever.
func TestJudgeManyPerhaps(t *testing.T) {
	var s script
	last := ""
	value := func(i, j int) string { return string(rune('a'+j)) + string(rune('0'+i%10)) + string(rune('A'+i/10)) }
	for i := range 150 {
		v := value(i, 0)
		s = append(s, write(last, v), perhaps(write(v, value(i, 1))), get(v))
		last = v
		if i%5 < 3 || i%50 == 4 {
			s = append(s, perhaps(remove(v)))
		}
		if i%5 == 4 {
			s = append(s, told(v), perhaps(erase()), erase(), told(""))
			last = ""
		} else {
			s = append(s, told(v))
		}
	}
	if _, err := s.history().check(100_000, time.Minute); err != nil {
		t.Error(err)
	}
	s = append(s, get(value(3, 0)))
	if _, err := s.history().check(100_000, time.Minute); err == nil || !strings.Contains(err.Error(), "not linearizable") {
		t.Errorf("got %v; want an error", err)
	}
}

func TestPlanFollowsFromSeed(t *testing.T) {
	a, b := draw(7, serverChoices(), networkChoices(), time.Minute), draw(7, serverChoices(), networkChoices(), time.Minute)
	if a.String() != b.String() || len(a.Servers) == 0 || len(a.Network) == 0 {
		t.Errorf("one seed, two plans:\n%s\n%s", a, b)
	}
	if c := draw(8, serverChoices(), networkChoices(), time.Minute); a.String() == c.String() {
		t.Errorf("two seeds, one plan:\n%s", a)
	}
	kinds := map[kind]bool{}
	for seed := range uint64(20) {
		p := draw(seed, serverChoices(), networkChoices(), time.Minute)
		for _, f := range append(p.Servers, p.Network...) {
			kinds[f.What] = true
		}
	}
	if want := 3 + 12; len(kinds) != want {
		t.Errorf("of %d kinds of faults %d were drawn: %v", want, len(kinds), sortedKeys(kinds))
	}
}
