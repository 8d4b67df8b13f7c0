// Package network connects the nodes of a gossip cluster: who is a member,
// datagrams to members, streams to members.
//
// hashicorp/memberlist keeps the membership; its packets and streams, and those
// of the layer above, travel over one UDP and one TCP port that belong to this
// package, or over an in-memory [Fabric] in tests. Everything on the wire is
// labelled and, with keys, encrypted and authenticated here, before memberlist
// or anybody else looks at it, so that labels and keys can be exchanged while
// the cluster runs and that nobody without the key makes a node allocate.
package network
