// Package side is what mirroring and migrating are built of: one store seen as
// bytes ([Side]), its record that says what it may be used for ([Record]), the
// mirror task that converges ([Task.Copy]), and the comparison ([Compare]) and
// copying ([Copy]) of whole prefixes.
//
// The rules of the protocol stand in docs/migration.md. In short: a store is
// primary if and only if its own record says so, everybody's writes are
// guarded by the version of the record of the store they go to, and two stores
// are proven equal only by a comparison made while both are fenced.
package side
