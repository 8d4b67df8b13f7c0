// Package bolt is a polykv driver over bbolt: a durable store in one file,
// inside the process, with guards, snapshots and watches. It is a module of its
// own, and an example of how a driver is written: docs/writing-a-driver.md walks
// through it. The command polykv has it built in.
//
// bbolt locks its file, so one process has it open at a time. In that process
// any number of clients share it, each with a handle of its own:
//
//	var files bolt.Files
//	cfg := bolt.Config{Path: "data.db", Timeout: time.Second}
//	a, err := files.Open(cfg)
//	b, err := files.Open(cfg) // the same file, which closes with the last handle
//
// # The file
//
// One bucket holds the entries. Its sequence, which bbolt keeps in the file,
// counts the writes, and the version of an entry is the number of its last
// write. So versions go on rising when the file is opened again, and a key
// that is deleted and created again never has a version that it had before.
// A stored entry is its version and the id of the write that made it, eight
// bytes each, and then the value.
//
// # Durability
//
// A write that succeeded is on the disk, unless Config.NoSync is set. If the
// disk fails in the last step of a commit, nobody can tell whether the write
// is on it: that write is of unknown outcome, and every later call on the file
// fails until all of its handles are closed and it is opened again.
package bolt
