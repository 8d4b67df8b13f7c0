package postgres

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/kit"
)

var _ driver.Leaser = (*store)(nil)

const (
	minLease = 500 * time.Millisecond

	// spare is by how much a lease outlasts its TTL, for the clock of a server that
	// takes the primary's place.
	spare = time.Second
	// overdue is how long a handle that watches may take to end a lease.
	overdue = 2 * time.Second
)

// MinLease implements driver.Leaser.
func (s *store) MinLease() time.Duration { return minLease }

// Grant implements driver.Leaser. Listeners are told, since one may wait for a
// later end; where there are none, it removes what is over.
func (s *store) Grant(ctx context.Context, ttl time.Duration) (driver.Grant, error) {
	ttl = max(ttl, minLease)
	id := rand.Int64N(1<<63-1) + 1
	_, err := s.exec(ctx, "WITH l AS (INSERT INTO {l} VALUES ($1, $2, clock_timestamp() + $2) RETURNING id) SELECT pg_notify(encode(value, 'hex'), ''), {e}() FROM {t}, l WHERE key = ''", id, ttl+spare)
	return driver.Grant{ID: driver.LeaseID(strconv.FormatInt(id, 10)), TTL: ttl, Bound: ttl + spare + overdue}, err
}

// Renew implements driver.Leaser.
func (s *store) Renew(ctx context.Context, id driver.LeaseID) error {
	n, err := s.exec(ctx, "UPDATE {l} SET ends = clock_timestamp() + ttl WHERE id = $1 AND ends > clock_timestamp()", leaseOf(id))
	if err == nil && n == 0 {
		err = driver.ErrLeaseLost
	}
	return err
}

// Revoke implements driver.Leaser.
func (s *store) Revoke(ctx context.Context, id driver.LeaseID) error {
	_, err := s.exec(ctx, "UPDATE {l} SET ends = 'epoch' WHERE id = $1", leaseOf(id))
	if err == nil {
		_, err = s.exec(ctx, "SELECT {e}()")
	}
	return err
}

// leaseOf returns the number of a lease, 0 for none; that of another store has one
// that no lease has.
func leaseOf(id driver.LeaseID) int64 {
	if id == "" {
		return 0
	}
	n, err := strconv.ParseInt(string(id), 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// exec runs a statement and returns how many rows it is about.
func (s *store) exec(ctx context.Context, sql string, args ...any) (rows int64, err error) {
	conn, err := s.acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Release()
	tag, err := conn.Exec(ctx, s.names.Replace(sql), args...)
	return tag.RowsAffected(), s.wrap(ctx, err)
}

// tend ends the leases whose time is up and returns for how long there is nothing
// to do. It looks whether the table is still that of the connection, and was not set back:
// then nobody tells.
func (s *store) tend(ctx context.Context, l *listener, conn *pgx.Conn) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, answer)
	defer cancel()
	next, now, m := 0.0, uint64(0), s.history.Mark()
	err := conn.QueryRow(ctx, s.names.Replace("SELECT coalesce({e}(), 'infinity'), version FROM {t} WHERE key = '' AND encode(value, 'hex') = $1"), l.origin.table).Scan(&next, &now)
	if errors.Is(err, pgx.ErrNoRows) {
		err = s.another()
	}
	if err != nil {
		return 0, err
	}
	if gen, err := s.history.Observe(m, kit.Answer{Index: now, Evidence: kit.Current, Cluster: l.origin.cluster}); err != nil || gen != m.Gen {
		return 0, kit.ErrHistoryChanged
	}
	return time.Duration(min(next, quiet.Seconds())*float64(time.Second)) + time.Millisecond, nil
}
