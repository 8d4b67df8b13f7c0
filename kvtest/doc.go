// Package kvtest is for tests of programs that keep data in polykv: a store that loses an answer, meets a conflict, is cut
// off, hangs, is slow, forgets its history or is set back to a backup, when the test says so.
//
// It stands between the engine and any driver: over memory a test needs no server, over a real one everything else is as
// in production. The program under test gets an ordinary client:
//
//	store := kvtest.Wrap(inmemory.NewStore().Open())
//	client := kv.New(store, codec.JSON[Account]{}, nil)
//	store.LoseNextAnswer()
//
// Package conformance makes use of it for the faults that drivers and wrappers are tested with.
package kvtest
