// Package inmemory is a key-value store inside the process: for one-process
// deployments, for development, and for tests that want a store that behaves
// as the real ones do.
//
// A [Store] is the data; every client has a handle of its own on it:
//
//	store := inmemory.NewStore()
//	a, b := store.Open(), store.Open() // two clients of the same data
//
// Closing a handle ends that client's watches and calls and leaves the data
// alone. A Store needs no closing: it has no goroutines, and is gone when
// nothing refers to it. [OpenNamed] gives components that only share a name a
// handle on the same Store.
//
// All writes of a Store are counted by one index, and the version of an entry
// is the index of its last write, so a key that is deleted and created again
// never has a version that it had before. Every read is linearizable, a whole
// listing shows one moment, and a watch sees every change that follows its
// snapshot; a watch that can't keep up sees the newest state of each key.
//
// Values are shared, not copied: a slice that was written must not be modified
// afterwards, nor one that was read.
package inmemory
