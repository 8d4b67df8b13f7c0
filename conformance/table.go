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

// requirement is what a need stands for.
type requirement struct {
	bit need
	why string // what needs it can't be checked
	met func(hooks []Hook, f Features) bool
}

func requirements() []requirement {
	hook := func(n need, h Hook) requirement {
		return requirement{n, "the harness offers no " + string(h), func(hooks []Hook, _ Features) bool { return slices.Contains(hooks, h) }}
	}
	extra := func(n need, e Extra) requirement {
		return requirement{n, "the client refuses kv." + string(e) + " (Features.Lacks)", func(_ []Hook, f Features) bool { return !slices.Contains(f.Lacks, e) }}
	}
	return []requirement{
		hook(needLine, HookOpenLine), hook(needDriver, HookOpenDriver), hook(needPlant, HookPlant), hook(needRestart, HookRestart),
		hook(needLeader, HookChangeLeader), hook(needCompact, HookCompact), hook(needSnapshot, HookSnapshot), hook(needFull, HookFull),
		hook(needLease, HookLeases),
		{needOptions, "the client heeds no options (Features.FixedOptions)", func(_ []Hook, f Features) bool { return !f.FixedOptions }},
		{needDeletes, "the client hides deletions (Features.HidesDeletes)", func(_ []Hook, f Features) bool { return !f.HidesDeletes }},
		{needOneStore, "the rule holds per node (Features.PerNode)", func(_ []Hook, f Features) bool { return !f.PerNode }},
		{needManyNodes, "the harness offers no nodes among which the rule converges", func(hooks []Hook, f Features) bool {
			return f.PerNode && slices.Contains(hooks, HookOpenElsewhere)
		}},
		extra(needWatch, Watch), extra(needEntries, Entries), extra(needPing, Ping), extra(needGuarded, Guarded),
		extra(needVersioned, Versioned), extra(needRaw, Raw), extra(needLimits, Limits), extra(needViews, Views),
	}
}

// why says what a case is lacking without n.
func (n need) why() string {
	for _, r := range requirements() {
		if n&r.bit != 0 {
			return r.why
		}
	}
	return ""
}

// offers is what stores with these hooks and clients with these features can be
// asked for.
func offers(hooks []Hook, f Features) (n need) {
	for _, r := range requirements() {
		if r.met(hooks, f) {
			n |= r.bit
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
