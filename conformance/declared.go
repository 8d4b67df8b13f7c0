package conformance

import "fmt"

// declaration is what one of polykv's own drivers says of itself. The table of
// docs/semantics.md is made of it, and the driver's own test is held to it.
// Consul keeps no history that could be compacted away, so it offers no
// Compact.
type declaration struct {
	driver   string
	features Features
	hooks    []Hook
	rules    []string // the only ones that are run; nil: all
}

func declarations() []declaration {
	return []declaration{
		{driver: "inmemory", hooks: []Hook{HookOpenLine, HookOpenDriver, HookPlant, HookLeases}},
		{driver: "etcd", hooks: []Hook{HookOpenLine, HookOpenDriver, HookPlant, HookRestart, HookCompact, HookSnapshot, HookLeases, HookFull}},
		{
			driver: "etcd, three nodes",
			hooks:  []Hook{HookOpenLine, HookOpenDriver, HookPlant, HookRestart, HookChangeLeader, HookCompact, HookLeases, HookFull},
			rules:  []string{"G1", "C1", "C7", "W6", "E1"},
		},
		{driver: "consul", hooks: []Hook{HookOpenLine, HookOpenDriver, HookPlant, HookRestart, HookSnapshot, HookLeases}},
		{
			driver: "consul, three nodes",
			hooks:  []Hook{HookOpenLine, HookOpenDriver, HookPlant, HookRestart, HookChangeLeader, HookSnapshot, HookLeases},
			rules:  []string{"G1", "C1", "C7", "W6", "E1"},
		},
		{
			driver: "nats",
			hooks:  []Hook{HookOpenLine, HookOpenDriver, HookPlant, HookRestart, HookCompact, HookSnapshot, HookFull},
		},
		{
			driver: "nats, three nodes",
			hooks:  []Hook{HookOpenLine, HookOpenDriver, HookPlant, HookChangeLeader, HookCompact},
			rules:  []string{"G1", "C1", "C7", "W6"},
		},
		{driver: "postgres", hooks: []Hook{HookOpenLine, HookOpenDriver, HookPlant, HookRestart, HookCompact, HookSnapshot, HookLeases}},
		{
			driver:   "memberlist",
			features: Features{PerNode: true, Lacks: []Extra{Guarded}},
			hooks:    []Hook{HookOpenElsewhere, HookPlant},
		},
	}
}

// Declared is h with the features, hooks and rules that docs/semantics.md shows for
// one of polykv's own drivers. It panics on any other name.
func (h Harness) Declared(driver string) Harness {
	for _, d := range declarations() {
		if d.driver == driver {
			h.Features, h.Hooks, h.Rules = d.features, d.hooks, d.rules
			return h
		}
	}
	panic(fmt.Sprintf("conformance: no driver %q is declared", driver))
}
