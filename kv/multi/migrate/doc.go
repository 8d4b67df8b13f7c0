// Package migrate is the operator's side of a coordinated migration: it moves a
// fleet of clients from one store to another, while they write, without losing
// a write and without a moment at which two stores take writes.
//
// A migration is a [Migration] of a source and a target store, whose commands
// are, in the order of use, [Migration.Plan], [Migration.Start],
// [Migration.Copy], [Migration.Verify], [Migration.Cutover] and
// [Migration.Finish]; [Migration.Status] shows at any time where it stands,
// [Migration.Abort] undoes a cutover that has not come to its end, and
// [Migration.Rollback] goes back after one that has. The command line offers
// the same as "polykv migrate"; docs/migration.md is the runbook.
//
// What is under way is written in the two stores alone: in a record that each
// carries under a reserved key. So every command may be interrupted or killed
// anywhere and run again, by anybody, and may run several times at once:
// each pass of a command reads both records, decides from these two, and
// changes them only from exactly the versions that it read. Whoever finds work
// half done goes on from there.
package migrate
