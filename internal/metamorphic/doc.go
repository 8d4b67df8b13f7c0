// Package metamorphic has one list of random operations and faults carried out on
// stores and options of every kind: whatever lies below a client, and however it
// is tuned, what comes of the list must be the same. The list follows from a seed.
// There is nothing in it but its tests.
package metamorphic
