// Package hostkv is what the adapters of dskit and Cortex have in common. Use it
// through one of them, adapters/dskit or adapters/cortex, or to write an adapter
// for another program whose key-value clients have the same six methods.
//
// A host is such a program. [NewView] hands a client of polykv to a host's code,
// [Use] makes a host's client one of polykv, and [Codec] lets values that merge
// by the host's own rules merge on polykv's gossip.
package hostkv

import "context"

// Client is the key-value client of a host: dskit's to the letter. What its
// methods promise is the host's affair.
type Client interface {
	List(ctx context.Context, prefix string) ([]string, error)
	Get(ctx context.Context, key string) (any, error)
	Delete(ctx context.Context, key string) error
	CAS(ctx context.Context, key string, f func(in any) (out any, retry bool, err error)) error
	WatchKey(ctx context.Context, key string, f func(any) bool)
	WatchPrefix(ctx context.Context, prefix string, f func(string, any) bool)
}
