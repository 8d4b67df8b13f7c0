package consul

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/polykv/polykv/kv/driver"
)

var _ driver.Leaser = (*store)(nil)

// Sessions' TTLs (agent/consul/session_endpoint.go). A server ends a session
// after twice its TTL (agent/structs, SessionTTLMultiplier), and a new leader
// begins them anew.
const (
	minLease   = 10 * time.Second
	maxLease   = 24 * time.Hour
	multiplier = 2
	leaseLag   = 2 * time.Second
)

// MinLease implements driver.Leaser.
func (s *store) MinLease() time.Duration { return minLease }

// Grant implements driver.Leaser by a session that depends on nothing but its
// TTL, and not on the health of the agent's node as sessions do by default. Its
// keys can be written again at once: that is what a lock-delay would forbid.
func (s *store) Grant(ctx context.Context, ttl time.Duration) (driver.Grant, error) {
	ttl = min(max(ttl, minLease), maxLease).Truncate(time.Millisecond)
	body := map[string]any{
		"Name": "polykv", "Behavior": api.SessionBehaviorDelete, "TTL": ttl.String(), "LockDelay": "0s", "NodeChecks": []string{},
	}
	id, _, err := do(ctx, s, func(ctx context.Context) (string, error) {
		var out struct{ ID string }
		_, err := s.raw.Write("/v1/session/create", body, &out, (&api.WriteOptions{}).WithContext(ctx))
		return out.ID, err
	})
	if err != nil {
		return driver.Grant{}, s.wrap(ctx, err)
	}
	return driver.Grant{ID: driver.LeaseID(id), TTL: ttl, Bound: multiplier*ttl + leaseLag}, nil
}

// Renew implements driver.Leaser.
func (s *store) Renew(ctx context.Context, id driver.LeaseID) error {
	session, _, err := do(ctx, s, func(ctx context.Context) (*api.SessionEntry, error) {
		session, _, err := s.leases.Renew(string(id), (&api.WriteOptions{}).WithContext(ctx))
		return session, err
	})
	var status *statusError
	if err == nil && session == nil || errors.As(err, &status) && status.code == http.StatusNotFound {
		return driver.ErrLeaseLost
	}
	return s.wrap(ctx, err)
}

// Revoke implements driver.Leaser.
func (s *store) Revoke(ctx context.Context, id driver.LeaseID) error {
	_, _, err := do(ctx, s, func(ctx context.Context) (struct{}, error) {
		_, err := s.leases.Destroy(string(id), (&api.WriteOptions{}).WithContext(ctx))
		return struct{}{}, err
	})
	return s.wrap(ctx, err)
}

// sessionOf is the session of an entry, as far as it is known.
func sessionOf(e driver.Entry) (id string, known bool) {
	if m, ok := e.Meta.(*meta); ok {
		return m.session, true
	}
	return "", !e.Exists()
}

// detaches reports whether w must make its key anew. A write keeps the session of
// a key, and a lock is refused if another session has it; of what was never read
// it isn't known.
func detaches(w driver.Swap) bool {
	id, known := sessionOf(w.Prev)
	return !known || id != "" && id != string(w.Lease)
}

// writeOps appends those of a write, in one transaction of which others see the
// end only.
func (c Config) writeOps(ops api.TxnOps, w driver.Swap) api.TxnOps {
	set := c.op(api.KVCAS, w.Key, w.Prev.Version) // at index 0: of an absent key
	if detaches(w) {
		ops = append(ops, c.op(api.KVCheckIndex, w.Key, w.Prev.Version), c.op(api.KVDelete, w.Key, 0))
		set.KV.Index = 0
	}
	ops = append(ops, set)
	if w.Lease != "" {
		lock := c.op(api.KVLock, w.Key, 0)
		lock.KV.Session = string(w.Lease)
		ops = append(ops, lock)
	}
	last := ops[len(ops)-1].KV
	last.Value, last.Flags = w.Value, w.ID
	return ops
}

// results is how many of ops are answered with a key.
func results(ops api.TxnOps) int {
	n := 0
	for _, op := range ops {
		if op.KV.Verb != api.KVDelete {
			n++
		}
	}
	return n
}

// mayPut reports whether w can be made by "PUT ?cas=", which keeps the session of
// a key.
func (s *store) mayPut(ctx context.Context, w driver.Swap) (bool, error) {
	id, known := sessionOf(w.Prev)
	if !known {
		now, err := s.Get(ctx, driver.GetRequest{Key: w.Key})
		if err != nil {
			return false, err
		}
		if now.Version == w.Prev.Version {
			id, _ = sessionOf(now)
		}
	}
	return len(w.Guards) == 0 && w.Lease == "" && id == "" && s.inPath(w.Key), nil
}

// Consul's words for locks that fail (agent/consul/state/kvs.go and txn.go).
func isLeaseLost(errs api.TxnErrors) bool {
	return slices.ContainsFunc(errs, func(op *api.TxnError) bool { return strings.HasPrefix(op.What, "invalid session ") })
}

func isLockFailure(what string) bool {
	return strings.HasPrefix(what, "invalid session ") || strings.HasPrefix(what, "failed to lock key ")
}
