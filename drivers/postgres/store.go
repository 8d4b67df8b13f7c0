package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/kit"
)

// store is one client's handle on a table.
type store struct {
	cfg       Config
	names     names
	tls       *config.Renewing // nil: none
	password  *kit.Secret
	history   *kit.History
	pool      *pgxpool.Pool
	listeners *kit.Shared[*listener]
	closed    atomic.Bool
}

var (
	_ driver.Store    = (*store)(nil)
	_ driver.Resolver = (*store)(nil)
	_ driver.Epocher  = (*store)(nil)
)

// Open returns a handle on a table for one client. It contacts no server. log may
// be nil.
func Open(cfg Config, log *slog.Logger) (driver.Store, error) {
	addresses, tls, err := cfg.check()
	if err != nil {
		return nil, err
	}
	s := &store{
		cfg: cfg, names: namesOf(cfg.Table), tls: tls, history: kit.NewHistory(),
		password: kit.NewSecret(cfg.Password, cfg.PasswordFile, "the file with the password of PostgreSQL can't be read; the last one stays in use", log),
	}
	pool, err := s.poolConfig(cfg, addresses)
	if err != nil {
		return nil, err
	}
	if s.pool, err = pgxpool.NewWithConfig(context.Background(), pool); err != nil {
		return nil, err
	}
	s.listeners = kit.NewShared(s.listen, func(l *listener) bool { return l.ctx.Err() == nil })
	return s, nil
}

// acquire returns a connection, which the caller releases.
func (s *store) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.closed.Load() {
		return nil, driver.ErrClosed
	}
	conn, err := kit.Use(s.password, isLogin, func(string) (*pgxpool.Conn, error) { return s.pool.Acquire(ctx) })
	return conn, s.wrap(ctx, err)
}

// Get implements driver.Store.
func (s *store) Get(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
	found, c, err := s.read(ctx, query{where: "NOT e.removed", order: "e.key", guards: req.Guards}.within(driver.Range{Key: req.Key}))
	if err != nil || len(found) == 0 {
		return driver.Entry{Key: req.Key, Generation: c.gen}, err
	}
	return found[0].entry(c.gen), nil
}

// row is what there is of a key; its version is 0 if there is nothing.
type row struct {
	key     []byte
	value   []byte
	version uint64
	write   int64
	removed bool
}

func (r row) entry(generation uint64) driver.Entry {
	e := driver.Entry{Key: string(r.key), Generation: generation}
	if r.version > 0 && !r.removed {
		e.Version, e.Value, e.Meta = driver.Version(r.version), r.value, r.write
		if e.Value == nil {
			e.Value = []byte{}
		}
	}
	return e
}

// arrays returns the guards as two columns.
func arrays(guards []driver.Guard) (keys [][]byte, versions []int64) {
	keys, versions = [][]byte{}, []int64{}
	for _, g := range guards {
		keys, versions = append(keys, []byte(g.Key)), append(versions, int64(g.Version)) //nolint:gosec // as they came
	}
	return keys, versions
}

// Scan implements driver.Store. Pages are a moment each: a snapshot would keep a
// transaction open.
func (s *store) Scan(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
	q := query{keysOnly: req.KeysOnly, where: "NOT e.removed AND e.key > $1", args: []any{[]byte(req.After)}, order: "e.key", limit: req.Limit}
	found, c, err := s.read(ctx, q.within(driver.Range{Key: req.Prefix, IsPrefix: true}))
	page := driver.Page{Generation: c.gen, More: req.Limit > 0 && len(found) == req.Limit}
	for _, r := range found {
		e := r.entry(c.gen)
		if req.KeysOnly {
			e.Value = nil
		}
		page.Entries = append(page.Entries, e)
	}
	return page, err
}

// Swap implements driver.Store: one statement, which is a transaction.
func (s *store) Swap(ctx context.Context, w driver.Swap) (driver.Result, error) {
	conn, err := s.acquire(ctx)
	if err != nil {
		return driver.Result{Outcome: driver.NotApplied}, err
	}
	defer conn.Release()
	m := s.history.Mark()
	if w.Prev.Generation != 0 && w.Prev.Generation != m.Gen {
		return driver.Result{Outcome: driver.Conflict}, nil // versions of another history
	}
	keys, versions := arrays(w.Guards)
	var o int
	r := row{key: []byte(w.Key)}
	id := int64(w.ID) //nolint:gosec // the bits of it
	sql := s.names.in("SELECT outcome, coalesce(v, 0), now, coalesce(nowwrite, 0) FROM {f}($1, $2, coalesce($3, ''::bytea), $4, $5, $6, $7, $8)")
	err = conn.QueryRow(ctx, sql, r.key, int64(w.Prev.Version), w.Value, w.Remove, id, keys, versions, leaseOf(w.Lease)).Scan(&o, &r.version, &r.value, &r.write) //nolint:gosec // as it came
	if err != nil {
		return driver.Result{Outcome: outcome(err)}, s.wrap(ctx, err)
	}
	if driver.Outcome(o) == driver.NotApplied {
		return driver.Result{Outcome: driver.NotApplied}, driver.ErrLeaseLost
	}
	answer := kit.Answer{Cluster: originOf(conn.Conn().PgConn()).cluster}
	if driver.Outcome(o) == driver.Applied {
		answer.Index, answer.Evidence = r.version, kit.Written
		r.value, r.write, r.removed = w.Value, id, w.Remove
	}
	gen, err := s.history.Observe(m, answer)
	known := err == nil && driver.Outcome(o) != driver.GuardBroken
	return driver.Result{Outcome: driver.Outcome(o), Entry: r.entry(gen), Known: known}, nil
}

// Resolve implements driver.Resolver. A row has the id of the write that made it,
// so an entry tells if that was w; if another wrote since, nothing tells.
func (s *store) Resolve(w driver.Swap, now driver.Entry) driver.Outcome {
	if id, ok := now.Meta.(int64); ok && id == int64(w.ID) { //nolint:gosec // the bits of it
		return driver.Applied
	}
	return driver.Unknown
}

// maxGuards is how many guards a write or read may carry.
const maxGuards = 100

// Limits implements driver.Store. A page of the index takes a key of 2,704 bytes.
func (s *store) Limits() driver.Limits {
	return driver.Limits{Key: 2048, Value: s.cfg.MaxValueSize, GuardedValue: s.cfg.MaxValueSize, Guards: maxGuards}
}

// Epoch implements driver.Epocher.
func (s *store) Epoch() uint64 { return s.history.Epoch() }

// Close implements driver.Store.
func (s *store) Close() error {
	s.closed.Store(true)
	s.listeners.Close()
	s.pool.Close()
	return nil
}

// query selects rows, in an order.
type query struct {
	keysOnly bool
	where    string
	args     []any
	order    string
	limit    int // 0: none
	guards   []driver.Guard
}

// arg adds an argument and returns its place.
func (q *query) arg(v any) string {
	q.args = append(q.args, v)
	return "$" + strconv.Itoa(len(q.args))
}

// within adds the condition that the key is in a range.
func (q query) within(r driver.Range) query {
	first := q.arg([]byte(r.Key))
	if !r.IsPrefix {
		q.where += " AND e.key = " + first
		return q
	}
	q.where += " AND e.key >= " + first
	if end := after(r.Key); end != nil {
		q.where += " AND e.key < " + q.arg(end)
	}
	return q
}

// after returns the first bytes after all that begin with prefix, nil if there are
// none.
func after(prefix string) []byte {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i]++; b[i] != 0 {
			return b[:i+1]
		}
	}
	return nil
}

// sql returns the statement: the counter, whether leases are overdue and guards
// hold, and the rows, if there are any. One statement sees one moment.
func (q *query) sql() string {
	value, hold, limit := "e.value", "true", ""
	if q.keysOnly {
		value = "NULL::bytea"
	}
	if len(q.guards) > 0 {
		keys, versions := arrays(q.guards)
		hold = fmt.Sprintf(`NOT EXISTS (SELECT FROM unnest(%s::bytea[], %s::bigint[]) AS g(gkey, gversion)
			WHERE NOT EXISTS (SELECT FROM {t} WHERE key = gkey AND version = gversion AND NOT removed))`, q.arg(keys), q.arg(versions))
	}
	if q.limit > 0 {
		limit = "LIMIT " + strconv.Itoa(q.limit)
	}
	return fmt.Sprintf(`SELECT c.version, c.write, EXISTS (SELECT FROM {l} WHERE ends <= clock_timestamp()), %s,
		e.key, e.value, coalesce(e.version, 0), coalesce(e.write, 0), coalesce(e.removed, true)
		FROM {t} c LEFT JOIN LATERAL (SELECT e.key, %s AS value, e.version, e.write, e.removed FROM {t} e
			WHERE e.key <> '' AND %s ORDER BY %s %s) e ON true
		WHERE c.key = '' ORDER BY %s`, hold, value, q.where, q.order, limit, q.order)
}

// read reads what q selects, at one moment. It is driver.ErrFenced if a guard
// doesn't hold.
func (s *store) read(ctx context.Context, q query) (found []row, c counter, err error) {
	conn, err := s.acquire(ctx)
	if err != nil {
		return nil, c, err
	}
	defer conn.Release()
	m := s.history.Mark()
	sql, hold := s.names.in(q.sql()), true
	err = s.settled(ctx, conn.Conn(), func() (late bool, _ error) {
		found = nil
		rows, err := conn.Query(ctx, sql, q.args...)
		if err != nil {
			return false, err
		}
		var r row
		_, err = pgx.ForEachRow(rows, []any{&c.now, &c.forgotten, &late, &hold, &r.key, &r.value, &r.version, &r.write, &r.removed}, func() error {
			if r.version > 0 {
				found = append(found, r)
			}
			r = row{}
			return nil
		})
		return late, err
	})
	if err == nil {
		c.origin = originOf(conn.Conn().PgConn())
		c.gen, err = s.history.Observe(m, kit.Answer{Index: c.now, Evidence: kit.Current, Cluster: c.cluster})
	}
	if err == nil && !hold {
		err = driver.ErrFenced
	}
	if err != nil {
		return nil, c, s.wrap(ctx, err)
	}
	return found, c, nil
}

// counter is the row of the empty key.
type counter struct {
	position
	forgotten uint64 // up to this version, rows of removed keys may be gone
}
