// Package consul is the polykv driver for Consul's key-value store.
//
// [Open] returns a [driver.Store] for kv.New. It contacts no server: a
// connection is made by the first call that needs one.
//
// # Consistency
//
// Reads are made in Consul's "consistent" mode, which is linearizable; with
// Config.Consistency, reads for which the caller allows it may be cheaper. A
// write is a transaction (https://developer.hashicorp.com/consul/api-docs/txn)
// that compares the ModifyIndex of the key, so a key that was deleted and
// created again is another key. It leaves the write's ID in the key's Flags,
// by which a write with a lost answer is recognised later; who needs Flags for
// something else can't share these keys. A value too large for a transaction
// goes by "PUT ?cas=", which answers without the new index.
//
// # Watches
//
// Listings with values are read in transactions of at most 64 keys, or 8 MiB,
// once the names are known: an agent puts each answer together in its memory.
// Each of these is of one moment, all of them together are not.
//
// Watches are blocking queries and follow the rules of
// https://developer.hashicorp.com/consul/api-docs/features/blocking. Consul
// answers a blocking query with all keys of the watched range, however small
// the change, so a session pauses in proportion to what one answer cost; it
// does not pause while the range is quiet. An answer may take its time as long as
// it doesn't stand still for 10 s. Every session holds a connection, and a
// Consul agent by default allows 200 of one client address
// (limits.http_max_conns_per_client); watches of one client and range share a
// session. After an outage a session reads the range once more and tells what
// changed, since Consul has no answer that says that nothing did.
//
// # Failures
//
// Every request is sent once. A write counts as not applied only if nothing
// was sent or Consul's answer proves it; everything else is of unknown
// outcome. Redirects are not followed, and HTTP proxies are passed only if
// Config.Proxy says so, since either might send a write again. Behind a proxy,
// a conflict is believed only after a look at whose write the key holds; a
// write that the proxy repeated after another had overwritten it is taken for
// one that lost, and made again.
//
// Consul leaves out of listings, without an error, what an ACL token may not
// read. Such an answer is driver.ErrPermission here, never a shorter listing.
// One case can't be told: a client without a token, where anonymous access is
// allowed to a range but denied to a part of it.
//
// Consul names keys in JSON, so a key that is not valid UTF-8, which only
// other tools can have written, is listed under another name.
package consul
