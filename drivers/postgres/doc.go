// Package postgres is a polykv driver over a table of PostgreSQL, 13 or newer. The
// command polykv has it built in.
//
// # The table
//
// A row is the state of a key: its value, the version, and the id of the write that
// made it. The row of the empty key counts the writes. A function beside the table
// makes a write, in one transaction that holds the counter's row locked: so versions
// become visible in their order, and whoever has read up to a version has missed
// nothing. The price is that writes of a table commit one after another.
//
// A removed key leaves a row until [keep] more writes were made, for watches that
// catch up.
//
// # Watches
//
// A handle has one connection that listens; a notification names the key, and a
// session whose range has it reads what was written since. PgBouncer passes
// notifications on in its session mode only, and must be in that mode anyway: a
// connection stays with the server that it came to. A session whose connection broke goes
// on from its position, as long as the server was not stopped since: a version of a
// server that was set back may stand for something else.
//
// # Leases
//
// A lease is a row of a second table, with the time of its end, and a row of the
// first names the lease that it is attached to. What is attached to a lease that is over
// is gone for readers and writers, by the server's clock. A function removes it, as a
// write that watches are told of: listeners call it when a lease is over, and who grants
// one does.
//
// # What a table can't give
//
// A write is as durable as synchronous_commit and the replication make it, but waits
// for the server's own log in any case. After a
// fail-over to a replica that lagged, acknowledged writes are gone; clients notice
// another history by the timeline.
package postgres
