package consul

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/polykv/polykv/kv/driver"
)

func (c Config) op(verb api.KVOp, key string, version driver.Version) *api.TxnOp {
	return &api.TxnOp{KV: &api.KVTxnOp{
		Verb: verb, Key: c.Root.In(key), Index: uint64(version), Namespace: c.Namespace, Partition: c.Partition,
	}}
}

// transact runs a transaction. ok is false if it was rolled back. q says how
// it reads, if it does nothing else.
func (s *store) transact(ctx context.Context, ops api.TxnOps, q api.QueryOptions) (ok bool, resp *api.TxnResponse, err error) {
	ok, resp, _, err = s.txn.Txn(ops, q.WithContext(ctx))
	var status *statusError
	if errors.As(err, &status) && status.code == http.StatusNotFound {
		err = errNoTransactions
	}
	return ok, resp, err
}

// resultFor returns what the last of n operations left of its key, or nil:
// Consul leaves out of the results what the token may not read.
func (s *store) resultFor(resp *api.TxnResponse, n int, key string) *api.KVPair {
	if len(resp.Results) != n {
		return nil
	}
	if pair := resp.Results[n-1].KV; pair != nil && pair.Key == s.cfg.Root.In(key) {
		return pair
	}
	return nil
}

// Consul's words for the operations that fail as they should
// (agent/consul/state/kvs.go and txn.go). The key stands within them, quoted
// as the server's version of Go does it.
func isCheckFailure(what string) bool {
	return strings.HasPrefix(what, "failed index check for key ") ||
		strings.HasPrefix(what, "failed to check index, key ")
}

func isStale(what string) bool {
	return (strings.HasPrefix(what, "failed to set key ") || strings.HasPrefix(what, "failed to delete key ")) &&
		strings.HasSuffix(what, ", index is stale")
}

// maxGuards leaves the bytes of a transaction to values: its keys may be long.
// Consul's own limit is 64 operations.
const maxGuards = 8

// guardOps returns the operations that fail unless guards hold.
func (c Config) guardOps(guards []driver.Guard) api.TxnOps {
	var ops api.TxnOps
	for _, g := range guards {
		ops = append(ops, c.op(api.KVCheckIndex, g.Key, g.Version))
	}
	return ops
}

// guardBroken reports whether one of the first n operations, the guards, failed.
func guardBroken(errs api.TxnErrors, n int) bool {
	return slices.ContainsFunc(errs, func(op *api.TxnError) bool { return op.OpIndex < n && isCheckFailure(op.What) })
}

// bodySize returns the length of the request that carries ops, the last of
// them with value.
func bodySize(ops api.TxnOps, value []byte) int {
	const null, quotes, newline = len("null"), len(`""`), len("\n")
	bare := *ops[len(ops)-1].KV
	bare.Value = nil
	ops = append(ops[:len(ops)-1:len(ops)-1], &api.TxnOp{KV: &bare})
	text, _ := json.Marshal(ops) // of strings and numbers: never fails
	return len(text) - null + quotes + base64.StdEncoding.EncodedLen(len(value)) + newline
}

// limits follow from Consul's limits on values and on transactions. The keys
// are taken to be of full length and of characters that JSON escapes, so that
// a value's limit does not depend on its key.
func (c Config) limits() driver.Limits {
	key := strings.Repeat("&", maxKey)
	ops := c.swapOps(driver.Swap{
		Key: key, Prev: driver.Entry{Version: math.MaxUint64}, ID: math.MaxUint64, Lease: driver.LeaseID(strings.Repeat("-", len("00000000-0000-0000-0000-000000000000"))),
		Guards: slices.Repeat([]driver.Guard{{Key: key, Version: math.MaxUint64}}, maxGuards),
	})
	room := c.MaxValueSize - bodySize(ops, nil)
	return driver.Limits{Key: maxKey, Value: c.MaxValueSize, GuardedValue: base64.StdEncoding.DecodedLen(room), Guards: maxGuards}
}
