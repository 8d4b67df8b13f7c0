package conformance

import "fmt"

// declaration is what one of polykv's own drivers says of itself. The table of
// docs/semantics.md is made of it, and the driver's own test is held to it.
type declaration struct {
	driver   string
	features Features
	hooks    []Hook
}

func declarations() []declaration {
	return []declaration{
		{driver: "inmemory", hooks: []Hook{HookOpenLine, HookPlant}},
		{driver: "etcd", hooks: []Hook{HookOpenLine, HookPlant, HookRestart, HookCompact, HookSnapshot}},
	}
}

// Declared is h with the features and hooks that docs/semantics.md shows for
// one of polykv's own drivers. It panics on any other name.
func (h Harness) Declared(driver string) Harness {
	for _, d := range declarations() {
		if d.driver == driver {
			h.Features, h.Hooks = d.features, d.hooks
			return h
		}
	}
	panic(fmt.Sprintf("conformance: no driver %q is declared", driver))
}
