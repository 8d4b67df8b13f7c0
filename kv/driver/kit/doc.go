// Package kit is what drivers of servers have in common: addresses and how to
// dial them, certificates and secrets that are read again, the history of a
// store, and its root. A driver takes what it needs; the engine knows nothing
// of this package.
package kit
