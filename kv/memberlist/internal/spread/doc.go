// Package spread carries changes between the nodes of a gossip cluster: it
// joins a store of package state to a network of package network.
//
// A change goes out three ways, each of which makes up for what the one before
// loses:
//
//   - Datagrams, at once, to every member: they are numbered by their origin, so
//     that a receiver notices a gap and asks for it again. What does not fit a
//     datagram is announced and pulled over a stream.
//   - Some time after the last datagram, and with every answer to a probe, a
//     node tells the number of its last datagram.
//   - With every answer to a probe, a node tells the digest of all that it holds.
//     Two nodes whose digests stay different compare what they hold, part by
//     part, and exchange what differs over a stream.
//
// Nothing here waits for a single peer but the goroutines that read or write a
// stream to it, and those only for Config.StreamTimeout.
package spread
