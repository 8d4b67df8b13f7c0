package consul

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/kit"
)

// refusals are the status codes that prove that a write was not applied and
// won't be: Consul (paths are those of its sources, version 1.13) answers with
// them before a write enters the Raft log (agent/http.go, handleErr).
var refusals = []int{
	http.StatusBadRequest,
	http.StatusUnauthorized, // by a proxy in front of Consul
	http.StatusForbidden,
	http.StatusNotFound, // no such endpoint
	http.StatusMethodNotAllowed,
	http.StatusRequestEntityTooLarge,
	http.StatusTooManyRequests,
}

// notProposed are texts of errors, sent with 500 or 503, that prove the same.
// Missing on purpose: "leadership lost while committing log", "snapshot
// restored while committing log", "raft is already shutdown" and a call to
// another server that was made and failed ("rpc error making call: EOF"),
// since the write may be in the log by then.
var notProposed = []string{
	// By a server that can't forward it (agent/consul/rpc.go, forwardRPC;
	// agent/structs/errors.go).
	"No cluster leader",
	"Raft leader not found in server lookup mapping",
	"No path to datacenter",
	"Remote DC has no server currently reachable",
	// By an agent that knows no server (agent/consul/client.go, RPC).
	"No known Consul servers",
	"RPC rate limit exceeded",
	// By Raft on a server that isn't the leader any more, or when the queue
	// before the log stayed full (github.com/hashicorp/raft, ApplyLog,
	// runFollower, leaderLoop).
	"raft apply failed: node is not the leader",
	"raft apply failed: leadership transfer in progress",
	"raft apply failed: timed out enqueuing operation",
}

// notProposedPrefixes are how other such texts begin.
var notProposedPrefixes = []string{
	"rpc error getting client: ", // no connection to another server (agent/pool/pool.go, rpc)
	"rate limit exceeded",        // of Consul 1.15 and later (agent/consul/rate)
}

// notStored are how the error of a leader begins that could not write to its log.
// Its log then is what it was, and it has shown the write to nobody
// (github.com/hashicorp/raft, dispatchLogs; LogCache.StoreLogs). Any other
// failure, such as one to sync what was written, may leave it in the log.
var notStored = []string{
	`raft apply failed: unable to store logs within log store, err: "write `,
	`raft apply failed: unable to store logs within log store, err: "file resize error: `,
}

// full reports whether e says that a server's disk is full.
func (e *statusError) full() bool {
	return e.code >= http.StatusInternalServerError && kit.NoRoom(e.text)
}

// forwarded precedes, once for each server passed through, what the server
// that was called answered (agent/pool/pool.go, rpc).
const forwarded = "rpc error making call: "

// errFiltered: the answer lacks keys that the token may not read.
var errFiltered = errors.New("there are keys that the ACL token may not read")

// errNoTransactions: the server is older than transactions with keys.
var errNoTransactions = errors.New("this server has no transactions (/v1/txn); Consul 0.7 or newer is needed")

// txnError is a transaction that was rolled back for reasons other than those
// that this driver's transactions have.
type txnError struct{ api.TxnErrors }

func (e *txnError) Error() string {
	var b strings.Builder
	b.WriteString("Consul rolled the transaction back")
	for i, op := range e.TxnErrors {
		b.WriteString([]string{": ", "; "}[min(i, 1)] + op.What)
	}
	return b.String()
}

func (e *txnError) denied() bool {
	return slices.ContainsFunc(e.TxnErrors, func(op *api.TxnError) bool { return isDenial(op.What) })
}

func (e *txnError) unknownVerb() bool {
	return slices.ContainsFunc(e.TxnErrors, func(op *api.TxnError) bool { return strings.HasPrefix(op.What, "unknown KV verb") })
}

// isDenial recognises the errors of package acl of Consul by their text, as
// its own HTTP handlers do.
func isDenial(text string) bool {
	return strings.HasPrefix(text, "Permission denied") || strings.HasPrefix(text, "ACL not found")
}

// refusesToken reports whether another token may cure err. Such an err proves
// that nothing was written.
func refusesToken(err error) bool {
	var status *statusError
	var txn *txnError
	return errors.As(err, &status) && (status.code == http.StatusForbidden || status.code == http.StatusUnauthorized) ||
		errors.As(err, &txn) && txn.denied() ||
		errors.Is(err, errFiltered)
}

// notApplied reports whether err, the end of a write that was sent, proves
// that it was not applied and won't be.
func notApplied(err error) bool {
	var txn *txnError
	var status *statusError
	switch {
	case errors.As(err, &txn), errors.Is(err, errNoTransactions):
		return true
	case errors.As(err, &status):
		return slices.Contains(refusals, status.code) || status.code >= 500 && isNotProposed(status.text)
	}
	return kit.RefusedCertificate(err)
}

func isNotProposed(text string) bool {
	for strings.HasPrefix(text, forwarded) {
		text = text[len(forwarded):]
	}
	begins := func(p string) bool { return strings.HasPrefix(text, p) }
	return slices.Contains(notProposed, text) || slices.ContainsFunc(notProposedPrefixes, begins) ||
		kit.NoRoom(text) && slices.ContainsFunc(notStored, begins)
}

// wrap gives err, the end of a request that ran under ctx, a form the engine
// can match: a sentinel where one fits, the error of ctx, and the cause.
func (s *store) wrap(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if s.base.Err() != nil {
		return driver.ErrClosed
	}
	var status *statusError
	if errors.As(err, &status) {
		err = status // without the URL
	}
	var txn *txnError
	switch {
	case refusesToken(err):
		return fmt.Errorf("%w: %w", driver.ErrPermission, err)
	case errors.Is(err, errNoTransactions), errors.As(err, &txn) && txn.unknownVerb():
		return fmt.Errorf("%w: %w", driver.ErrNotSupported, err)
	case status != nil && status.full():
		return fmt.Errorf("%w: %w", driver.ErrFull, err)
	case status != nil:
		return status.classified()
	case ctx.Err() != nil:
		return kit.JoinContext(ctx.Err(), err)
	case kit.RefusedCertificate(err), errors.Is(err, http.ErrSchemeMismatch), errors.As(err, new(tls.RecordHeaderError)):
		return driver.Permanent(err)
	}
	return err
}

// enterpriseOnly is what servers without namespaces and partitions say
// (agent/http_oss.go).
const enterpriseOnly = "Consul Enterprise feature"

func (e *statusError) classified() error {
	switch e.code {
	case http.StatusRequestEntityTooLarge:
		return fmt.Errorf("%w: %w", driver.ErrTooLarge, e)
	case http.StatusBadRequest:
		if strings.Contains(e.text, enterpriseOnly) {
			return fmt.Errorf("%w: this server is not Consul Enterprise, and namespace or partition is set: %w", driver.ErrNotSupported, e)
		}
		return driver.Permanent(e) // also a server that wants TLS
	}
	return e
}
