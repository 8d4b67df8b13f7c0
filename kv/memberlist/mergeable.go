package memberlist

import "github.com/polykv/polykv/kv/memberlist/internal/state"

// Mergeable is a value that merges, so that writes on different nodes all
// survive. A codec whose Decode returns one makes its keys merge; values of
// all other codecs replace each other, and the last writer's wins. [Map] is
// one; package mergetest checks the laws for others.
type Mergeable = state.Mergeable

// Digester is an optional interface of a [Mergeable] that knows a hash of its
// content, so that a large one is compared at no cost.
type Digester = state.Digester

// DeltaSource is an optional interface of a [Digester] that can tell what of it
// is newer than a version, so that not the whole has to be sent.
type DeltaSource = state.DeltaSource

// Causal is an optional interface of a [Mergeable] whose parts carry versions of
// the store's own clock: what was removed from it then stays so, whoever comes
// back however late.
type Causal = state.Causal

// Stamped is an optional interface of a [Mergeable] whose parts carry versions
// of the store's own clock, which can be repaired when the clock was wrong.
type Stamped = state.Stamped

// Version names one write in the whole cluster and orders all of them: a
// hybrid of the wall clock, a counter and the node that wrote.
type Version = state.Version

// Digest stands for the content of a value, see [Digester].
type Digest = state.Digest
