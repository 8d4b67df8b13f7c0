// Package kv is one interface to key-value stores, [Client], with the same
// semantics on every backend, and the engine that gives it those semantics.
//
// A program usually gets its client from package factory, which chooses the
// backend by configuration, or makes one of a driver's store:
//
//	store, err := etcd.Open(cfg, logger)
//	client := kv.New(store, codec.String{}, nil)
//
// [Typed] gives a client values of a Go type, [Prefix] a namespace of its own,
// and [SkipDeletes] the watches that code for Cortex or dskit expects.
package kv
