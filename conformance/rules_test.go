package conformance

import (
	"slices"
	"strings"
	"testing"
)

// rule is one rule of the contract, for the documentation.
type rule struct {
	id   string
	says string
}

// rules lists every rule in the order of the contract. Those after X2 have no
// id there: they are the optional interfaces, by name.
func rules() []rule {
	return []rule{
		{"K1", "Which keys are valid; the others are refused before any request"},
		{"K2", "A prefix is a byte prefix, not a folder"},
		{"K3", "Foreign and reserved keys are hidden; prefixes compose"},
		{"A1", "Retries until the store answers, then ErrUnavailable; opening contacts nobody"},
		{"G1", "Get is linearizable; an absent key is nil without an error"},
		{"G2", "Values are shared for reading; a CAS callback gets a private copy"},
		{"L1", "List is complete, sorted and without deleted keys"},
		{"D1", "Delete of an absent key is no error; a key that was created again lives on"},
		{"C1", "CAS is atomic, ABA included"},
		{"C2", "A decision not to write writes nothing and rests on a current value"},
		{"C3", "Remove deletes in the same atomic way"},
		{"C4", "The callback's error comes back; retries are bounded"},
		{"C5", "A conflict calls again; no contender fails for being unlucky"},
		{"C6", "An ended ctx returns promptly; a running callback is never interrupted"},
		{"C7", "No write is applied twice; an unknown outcome is resolved or told"},
		{"C8", "A value that can't be stored or read fails at once, with nothing written"},
		{"W1", "A watch starts with the current state, and there is no gap after it"},
		{"W2", "Final states always arrive; a slow callback costs no memory per change"},
		{"W3", "A deletion is a call with nil"},
		{"W4", "States arrive in order, none twice in a row, none that never was"},
		{"W5", "Callbacks run on the caller's goroutine; the watch ends promptly and leaves none"},
		{"W6", "A watch survives its server: lost lines, restarts, compaction, restores"},
		{"W7", "A value that can't be decoded is skipped, and the watch goes on"},
		{"W8", "Watch returns ErrClosed and ErrInvalidKey, and tells everything else as events"},
		{"X1", "Close is idempotent, ends what runs with ErrClosed, leaves no goroutine"},
		{"X2", "Close leaves data and other clients alone; wrappers close what they wrap"},
		{"F1", "A followed range is in step, or says since when it is not"},
		{"F2", "Who waits for the version of a write reads it from the copy"},
		{"F3", "A copy never goes back"},
		{"E1", "What is attached to a lease stays while the lease is kept alive"},
		{"E2", "It vanishes with the lease, neither too early nor too late"},
		{"E3", "A write without the lease detaches"},
		{"E4", "The owner of a lease is told that it is lost before its keys vanish"},
		{"E5", "Nothing is attached to a lease that is over"},
		{string(Entries), "A prefix with its values, page by page"},
		{string(Ping), "One honest round trip"},
		{string(Guarded), "Operations that hold only while another key is at a version"},
		{string(Versioned), "The single compare-and-swap, by version"},
		{string(Raw), "The stored bytes, exactly the codec's"},
		{string(Limits), "The sizes that are accepted"},
		{string(Views), "Another codec's view of the same client"},
		{"Linearizable", "Whether the store is one for all its clients"},
		{"Typed", "The typed view of a client"},
		{"Driver", "What the engine relies on in a driver.Store"},
	}
}

// TestTable wants the table to be well formed: every rule has a case that any
// harness can run, every case a rule, a unique name and an explanation.
func TestTable(t *testing.T) {
	var ids []string
	for _, r := range rules() {
		ids = append(ids, r.id)
	}
	seen := map[string]bool{}
	basic := map[string]bool{}
	for _, c := range table() {
		if !slices.Contains(ids, c.rule) {
			t.Errorf("%s belongs to no rule", c.id())
		}
		if seen[c.id()] {
			t.Errorf("there are two cases %s", c.id())
		}
		seen[c.id()] = true
		if c.says == "" || strings.ContainsAny(c.says, "\n") || strings.ContainsAny(c.name, " /") {
			t.Errorf("%s needs an explanation in one line, and a name that is one word", c.id())
		}
		basic[c.rule] = basic[c.rule] || c.needs&^offers([]Hook{HookOpenLine, HookOpenDriver, HookLeases}, Features{}) == 0
	}
	for _, id := range ids {
		if !basic[id] {
			t.Errorf("rule %s has no case for a driver without a server's hooks", id)
		}
	}
	if len(seen) < 80 {
		t.Errorf("there are %d cases", len(seen))
	}
}

// TestHooks wants every hook to be needed by a case, or it would be asked of
// harnesses for nothing.
func TestHooks(t *testing.T) {
	var needed need
	for _, c := range table() {
		needed |= c.needs
	}
	for _, r := range requirements() {
		if needed&r.bit == 0 {
			t.Errorf("nothing is left unchecked because %s", r.why)
		}
	}
	for bit := needLine; bit <= needViews; bit <<= 1 {
		if bit.why() == "" {
			t.Errorf("need %b says nothing of itself", bit)
		}
	}
}
