package driver

// Resolver is an optional interface of a Store that can tell more about an
// Unknown swap than its version alone.
//
// The engine calls Resolve after a Swap was Unknown, with the entry that a
// linearizable read found afterwards, and only if that entry is not at
// s.Prev.Version. Resolve does no I/O. It returns
//
//   - Applied if now is provably what s wrote (the store keeps s.ID, say);
//   - NotApplied if s provably was not applied and can't be any more (etcd:
//     exactly one write happened since Prev and it wrote other bytes);
//   - Unknown otherwise.
type Resolver interface {
	Resolve(s Swap, now Entry) Outcome
}

// NonBlocking is an optional interface of a Store whose methods never wait
// for anything outside this process (Watch excepted). The engine then spends
// no timer and no derived context on a call.
type NonBlocking interface {
	NonBlocking() bool
}
