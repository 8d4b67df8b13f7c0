// Package driver defines Store, the interface between the polykv engine and
// one kind of key-value store. It is for authors of drivers; applications use
// package kv.
//
// A driver moves versioned bytes and nothing else. What every backend has in
// common lives once, in package kv, above this interface: key rules, codecs,
// the CAS loop with its group commit, retries and backoff, resolving unknown
// outcomes, watch bookkeeping, metrics. A driver supplies a single attempt of
// each operation and tells the truth about how it ended.
//
// Three habits make a driver correct:
//
//   - Versions decide. A [Swap] holds only while the key is at exactly the
//     version it names. Delete and re-create must give a version never seen on
//     that key before, or writes are lost (the ABA problem).
//   - "Unknown" is the safe answer. The zero [Outcome] is Unknown. Answer
//     Applied, Conflict, GuardBroken or NotApplied only when the store said so,
//     or when the request provably never left this process. List the failures
//     that prove "not applied" one by one; every other failure of a write that
//     may have left is Unknown, and the engine finds out what became of it.
//   - Reads are linearizable unless the request allows otherwise.
//
// Prove a driver with package conformance.
package driver
