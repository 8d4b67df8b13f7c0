package kv

import (
	"encoding/binary"
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// groupID tells which calls can share a swap: those on one key with the same
// guards and lease.
type groupID struct {
	key    string
	guards string // see guardsID, and the lease
}

// guardsID is a string that equal lists of guards have in common.
func guardsID(guards []Guard) string {
	var id []byte
	for _, g := range guards {
		id = binary.AppendUvarint(id, uint64(len(g.Key)))
		id = append(id, g.Key...)
		id = binary.AppendUvarint(id, uint64(g.Version))
	}
	return string(id)
}

// groups holds a group for every key that is under CAS right now, and on a
// local store the turns of those that are fought for.
type groups struct {
	seed   maphash.Seed
	shards [64]shard
}

type shard struct {
	mu     sync.Mutex
	groups map[groupID]*group
	used   atomic.Int32 // len(groups), for those who don't need the lock otherwise
	turns  map[string]*keyTurns
}

func (gs *groups) init() {
	gs.seed = maphash.MakeSeed()
	for i := range gs.shards {
		gs.shards[i].groups = make(map[groupID]*group)
	}
}

func (gs *groups) shard(key string) *shard {
	return &gs.shards[maphash.String(gs.seed, key)%uint64(len(gs.shards))]
}
