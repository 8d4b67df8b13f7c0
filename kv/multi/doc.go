// Package multi is one [kv.Client] over two stores: a primary, which serves
// every call, and a secondary, which is kept equal to it by mirroring. It is
// how data moves from one store to another while it is in use.
//
// There are two ways to move, told apart by Config.Coordinated.
//
// The simple switch is for one process, or for writers that tolerate a window:
// [Client.SetPrimary] stops the writes of this client, waits for those under
// way, drains what is left to mirror, and goes on with the other store. It
// works over any two clients.
//
// The coordinated migration is for a fleet: each store carries a record that
// says what it may be used for, and every write of every process is guarded by
// the version of the record of the store it goes to. Operators move the records
// by the commands "polykv migrate ..."; clients follow. It needs stores with
// guards (etcd, Consul, memory). docs/migration.md tells the protocol and what
// it can't do.
//
// # Mirroring
//
// After every write to the primary that succeeded, or may have, a mirror task
// makes the key in the secondary what it is in the primary. The write waits for
// it for at most Config.MirrorTimeout, or not at all, and never fails because
// of it. What could not be mirrored is kept, one task for each key, and tried
// again until it succeeds; a secondary that doesn't answer costs writes nothing
// from then on. A process that ends between a write and its mirror leaves a
// difference, which [Client.Repair], run now and then by itself, removes.
//
// # Gossip
//
// Where a store is spread by gossip (Backend.Gossip), one client of the fleet,
// the owner, mirrors for all: it follows the primary by a watch and runs the
// repairs. The clients agree on it by a key in the store with real
// compare-and-swap; when the owner is gone for ten seconds, another takes its
// place and repairs. So writes don't wait for their mirrors, except the owner's
// own, and what nodes wrote that are no clients of both stores is mirrored too.
// If both stores are gossip there is nowhere to agree, and each client mirrors
// what its own node shows. Until everything is quiet nothing is
// claimed of the secondary; docs/migration.md tells what can be lost.
package multi
