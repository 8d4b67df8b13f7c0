// Package memberlist is a key-value store without servers: the processes that
// use it are its nodes, each holds a copy of everything, and changes travel
// between them by gossip.
//
//	node, err := memberlist.Start(ctx, cfg, instances) // a codec, such as MapCodec
//	client, err := node.Client(instances, nil)
//
// A client reads and writes its node's copy, without waiting for anybody. What
// is written reaches the other nodes within milliseconds, and in the end all
// nodes have the same, whatever gets lost on the way, whoever was down or cut
// off meanwhile. So rules G1 and C1 of kv.Client hold per node, and across nodes
// only in the end:
//
//   - Values that are [Mergeable], such as a [Map], merge: writes on different
//     nodes all survive.
//   - Of any other values the last writer's wins, the same on every node.
//   - A deletion wins over writes that had not seen it; what is written
//     afterwards lives.
//
// [Open] makes a client with a node of its own; [Node.StatusHandler] is a page
// that shows what a node knows. docs/gossip.md tells how it works, when to
// choose it, and how to run it.
package memberlist
