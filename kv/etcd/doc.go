// Package etcd is the polykv driver for etcd (API v3).
//
// [Open] returns a [driver.Store] for kv.New. It contacts no server: a
// connection is made by the first call that needs one.
//
// # Consistency
//
// Reads are linearizable and writes are transactions that compare the
// ModRevision of the key, never its Version: a key that was deleted and created
// again has a higher ModRevision but may have the same Version. With
// Config.SerializableReads, reads for which the caller allows it are served
// by the member that receives them.
//
// # Failures
//
// Every call is sent once, and once more only if the server refused its token;
// the etcd client's own retries are switched off, since the engine above knows
// what it may repeat. A call fails at once, with the reason, when no endpoint
// can be reached. Calls carry etcd's "require leader"
// mark, so a member that has lost its leader refuses instead of waiting.
//
// A watch session ends with the first sign of trouble: a lost connection, a
// lost leader, compaction, or a store that was replaced. All watches of one
// handle share one stream to the server, and one more for each time the
// server had the handle log in again.
package etcd
