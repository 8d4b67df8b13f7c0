// Package coordination has locks and elections on any [kv.Client] that has guards:
// etcd, Consul, memory, bolt, and a client over two of them. On gossip they are
// refused when they are made, because there is no order of writes there that
// could decide. [Presence], who is there, works on every store.
//
// # Fences
//
// A lock alone protects nothing. Its holder may be stopped, by the scheduler, a
// garbage collector, a machine that sleeps, for longer than others wait, and go
// on writing when it wakes, as if nothing had happened. No clock helps, because
// any check of it may be the last thing before the stop. What helps is that the
// store refuses such a write, and for that each write must carry proof of the
// lock: the guard of [Held.Guard], which holds only as long as nobody else got
// the lock. [Held.Client] is a client whose every write carries it.
//
// A fence can't protect what doesn't go through the store: a file, a queue, an
// API of somebody else. There [Held.Done] is all there is, which closes before
// anybody else may take over, if the process runs and its clock goes as fast as
// that of others.
//
// # How it works
//
// Three kinds of keys lie below the name of a lock: name/holder, which is written
// when the lock changes hands and not in between, so that its version is the
// fence; name/queue, those that wait, in the order in which they came; and
// name/beats/, one key for each participant, which it writes every third of
// [Options.TTL].
//
// Whoever is gone is told by a beat that stands still for a TTL on the clock of
// who looks, which is confirmed by a linearizable read before anything follows
// from it. Wall clocks are never compared. One that was itself stopped, or cut
// off from the store, starts to count anew and declares nobody dead for that
// time. A holder counts from the moment at which it began to write its last beat,
// which is earlier than anybody saw it, and gives up a tenth of the TTL before.
//
// So a lock whose holder died is taken over within two TTLs, mostly little more
// than one, and a lock that is given back at once.
//
// # Presence
//
// A member has a record below name/members/, attached to a lease where the store
// has leases (kv.Leased) that are short enough for the TTL: then the store takes it
// away. Else it has a beat below name/beats/, too, both written by itself alone.
// Whoever observes takes it for gone when the beat stood
// still for a TTL and two looks into the store, a beat apart, confirm that: one
// would not do, because a store that was away answers it before the members
// could write again. On gossip, whose nodes know each other, there is no beat, and
// a member is gone when membership says so and another node has answered since.
//
// # Migrations
//
// A migration's cutover ends every lock, as it ends all versions: holders are
// told by their next beat, and what they write in between is refused.
package coordination
