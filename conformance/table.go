package conformance

import (
	"cmp"
	"slices"
)

// testCase checks one thing that a rule says.
type testCase struct {
	rule  string // the id of the rule
	name  string // unique within the rule
	says  string // what must hold, in one line
	needs need
	run   func(*trial)
}

func (c testCase) id() string { return c.rule + "-" + c.name }

// table is the suite, in the order of rules. The first case of a rule that
// needs nothing is the one that stands for it in a brief run.
func table() []testCase {
	return slices.Concat(
		keyCases(), foreignKeyCases(), availabilityCases(),
		getCases(), sharedValueCases(), listCases(), deleteCases(),
		atomicityCases(), declineCases(), removeCases(),
		callbackErrorCases(), contentionCases(), cancelCases(), unknownOutcomeCases(), valueCases(), fullCases(),
		watchStartCases(), slowWatchCases(), watchDeleteCases(), watchOrderCases(), watchEndCases(),
		watchFaultCases(), watchServerCases(), watchValueCases(), watchEventCases(),
		closeCases(), sharingCases(), followCases(),
		entriesCases(), leftCases(), pingCases(), guardedCases(), versionedCases(), rawCases(), limitsCases(), viewCases(), typedCases(),
		leaseCases(), driverCases(), resumeCases(),
	)
}

// need is a set of things that a case can't do without.
type need uint32

const (
	needLine need = 1 << iota
	needDriver
	needPlant
	needRestart
	needLeader
	needCompact
	needSnapshot
	needFull
	needLease
	needOptions   // the client heeds kv.Options
	needDeletes   // watches show deletions
	needOneStore  // the clients see one linearizable store
	needManyNodes // they don't: rules hold per node
	needWatch
	needEntries
	needPing
	needGuarded
	needVersioned
	needRaw
	needLimits
	needViews
)

// why says for each need what a case without it is lacking.
func (n need) why() string {
	for _, w := range []struct {
		n   need
		why string
	}{
		{needLine, "the harness offers no OpenLine"},
		{needDriver, "the harness offers no OpenDriver"},
		{needPlant, "the harness offers no Plant"},
		{needRestart, "the harness offers no Restart"},
		{needLeader, "the harness offers no ChangeLeader"},
		{needCompact, "the harness offers no Compact"},
		{needSnapshot, "the harness offers no Snapshot"},
		{needFull, "the harness offers no Full"},
		{needLease, "the store has no leases"},
		{needOptions, "the client heeds no options (Features.FixedOptions)"},
		{needDeletes, "the client hides deletions (Features.HidesDeletes)"},
		{needOneStore, "the rule holds per node (Features.PerNode)"},
		{needManyNodes, "the harness offers no nodes among which the rule converges"},
		{needWatch, "the client refuses kv.Watch (Features.Lacks)"},
		{needEntries, "the client has Entries only as List and Get give them (Features.Lacks)"},
		{needPing, "the client refuses kv.Ping (Features.Lacks)"},
		{needGuarded, "the client refuses guards (Features.Lacks)"},
		{needVersioned, "the client refuses versions (Features.Lacks)"},
		{needRaw, "the client refuses kv.Raw (Features.Lacks)"},
		{needLimits, "the client refuses kv.LimitsOf (Features.Lacks)"},
		{needViews, "the client refuses kv.WithCodec (Features.Lacks)"},
	} {
		if n&w.n != 0 {
			return w.why
		}
	}
	return ""
}

// extraNeeds are the needs that stand for the optional interfaces.
func extraNeeds() map[Extra]need {
	return map[Extra]need{
		Watch: needWatch, Entries: needEntries, Ping: needPing, Guarded: needGuarded,
		Versioned: needVersioned, Raw: needRaw, Limits: needLimits, Views: needViews,
	}
}

// hookNeeds are the needs that stand for the optional functions of a Store.
func hookNeeds() map[Hook]need {
	return map[Hook]need{
		HookOpenLine: needLine, HookOpenDriver: needDriver, HookPlant: needPlant, HookRestart: needRestart, HookChangeLeader: needLeader,
		HookCompact: needCompact, HookSnapshot: needSnapshot, HookFull: needFull, HookLeases: needLease,
	}
}

// offers is what stores with these hooks and clients with these features can be
// asked for.
func offers(hooks []Hook, f Features) need {
	var n need
	for bit, offered := range map[need]bool{
		needOptions:   !f.FixedOptions,
		needDeletes:   !f.HidesDeletes,
		needOneStore:  !f.PerNode,
		needManyNodes: f.PerNode && slices.Contains(hooks, HookOpenElsewhere),
	} {
		if offered {
			n |= bit
		}
	}
	for _, hook := range hooks {
		n |= hookNeeds()[hook]
	}
	for extra, bit := range extraNeeds() {
		if !slices.Contains(f.Lacks, extra) {
			n |= bit
		}
	}
	return n
}

// applies reports whether c is about clients with these features. Fallbacks are
// not, for those that need none.
func (c testCase) applies(f Features) bool { return f.PerNode || c.needs&needManyNodes == 0 }

// selected returns the cases to run and those that can't be.
func (h Harness) selected(offered need) (run, unchecked []testCase) {
	done := map[string]bool{}
	for _, c := range table() {
		switch {
		case len(h.Rules) > 0 && !slices.Contains(h.Rules, c.rule), !c.applies(h.Features):
		case c.needs&^offered != 0:
			unchecked = append(unchecked, c)
		case !h.Brief || !done[c.rule]:
			done[c.rule] = true
			run = append(run, c)
		}
	}
	return run, unchecked
}

// longestFirst has the cases that wait for the end of a lease begin, which takes
// tens of seconds where the shortest is long, so that the others run meanwhile.
func longestFirst(cases []testCase) []testCase {
	return slices.SortedStableFunc(slices.Values(cases), func(a, b testCase) int { return cmp.Compare(b.needs&needLease, a.needs&needLease) })
}

// has reports whether the clients of a trial offer an optional interface.
func (t *trial) has(e Extra) bool { return !slices.Contains(t.features.Lacks, e) }
