package memberlist

import "github.com/polykv/polykv/kv/memberlist/internal/state"

// Mergeable is a value that merges, so that writes on different nodes all
// survive. A codec whose Decode returns one makes its keys merge; values of
// all other codecs replace each other, and the last writer's wins. [Map] is
// one; package mergetest checks the laws for others.
type Mergeable = state.Mergeable

// Digester, DeltaSource and Stamped are optional interfaces of a [Mergeable].
// Without them it works as well; with them large values cost less, and clocks
// that were wrong can be repaired.
type (
	Digester    = state.Digester
	DeltaSource = state.DeltaSource
	Stamped     = state.Stamped
)

// Version names one write in the whole cluster and orders all of them: a
// hybrid of the wall clock, a counter and the node that wrote.
type Version = state.Version

// Digest stands for the content of a value, see [Digester].
type Digest = state.Digest
