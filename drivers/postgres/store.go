package postgres

import (
	"context"
	"fmt"
	"log/slog"
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
	if log == nil {
		log = slog.New(slog.DiscardHandler)
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
	conn, err := s.pool.Acquire(ctx)
	return conn, s.wrap(ctx, err)
}

// Get implements driver.Store. Key, guards and counter are read by one statement,
// and so at one moment.
func (s *store) Get(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
	conn, err := s.acquire(ctx)
	if err != nil {
		return driver.Entry{}, err
	}
	defer conn.Release()
	m := s.history.Mark()
	var index uint64
	var hold bool
	var r row
	keys, versions := arrays(req.Guards)
	err = s.settled(ctx, conn.Conn(), func() (late bool, err error) {
		r = row{}
		return late, conn.QueryRow(ctx, s.names.in(`SELECT c.version, EXISTS (SELECT FROM {l} WHERE ends <= clock_timestamp()),
			NOT EXISTS (SELECT FROM unnest($2::bytea[], $3::bigint[]) AS g(gkey, gversion)
				WHERE NOT EXISTS (SELECT FROM {t} WHERE key = gkey AND version = gversion AND NOT removed)),
			e.value, e.version, e.write FROM {t} c LEFT JOIN {t} e ON e.key = $1 AND NOT e.removed WHERE c.key = ''`), []byte(req.Key), keys, versions).
			Scan(&index, &late, &hold, &r.value, &r.version, &r.write)
	})
	if err != nil {
		return driver.Entry{}, s.wrap(ctx, err)
	}
	gen, err := s.history.Observe(m, kit.Answer{Index: index, Evidence: kit.Current, Cluster: originOf(conn.Conn().PgConn()).cluster})
	if err == nil && !hold {
		err = driver.ErrFenced
	}
	return r.entry(req.Key, gen), err
}

// row is what there is of a key; its columns are null if the key is absent.
type row struct {
	key     []byte
	value   []byte
	version *int64
	write   *int64
	removed *bool
}

func (r row) entry(key string, generation uint64) driver.Entry {
	e := driver.Entry{Key: key, Generation: generation}
	if r.version != nil {
		e.Version, e.Value, e.Meta = driver.Version(*r.version), r.value, *r.write //nolint:gosec // versions count from 1
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
	conn, err := s.acquire(ctx)
	if err != nil {
		return driver.Page{}, err
	}
	defer conn.Release()
	m := s.history.Mark()
	q := query{columns: "value", where: "NOT e.removed AND e.key > $1", args: []any{[]byte(req.After)}, order: "e.key", limit: req.Limit}
	if req.KeysOnly {
		q.columns = "NULL::bytea"
	}
	q.within(driver.Range{Key: req.Prefix, IsPrefix: true})
	page := driver.Page{}
	rows, c, err := s.read(ctx, conn.Conn(), m, q)
	for _, r := range rows {
		e := r.entry(string(r.key), c.gen)
		if req.KeysOnly {
			e.Value = nil
		}
		page.Entries = append(page.Entries, e)
	}
	page.Generation = c.gen
	page.More = req.Limit > 0 && len(page.Entries) == req.Limit
	return page, s.wrap(ctx, err)
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
	value := w.Value
	if w.Remove || value == nil {
		value = []byte{}
	}
	var o int
	var r row
	id := int64(w.ID)                                                                                                 //nolint:gosec // the bits of it
	err = conn.QueryRow(ctx, s.names.in("SELECT outcome, v, now, nowwrite FROM {f}($1, $2, $3, $4, $5, $6, $7, $8)"), //
		[]byte(w.Key), int64(w.Prev.Version), value, w.Remove, id, keys, versions, leaseOf(w.Lease)).Scan(&o, &r.version, &r.value, &r.write) //nolint:gosec // as it came
	if err != nil {
		return driver.Result{Outcome: outcome(err)}, s.wrap(ctx, err)
	}
	if driver.Outcome(o) == driver.NotApplied {
		return driver.Result{Outcome: driver.NotApplied}, driver.ErrLeaseLost
	}
	answer := kit.Answer{Cluster: originOf(conn.Conn().PgConn()).cluster}
	if driver.Outcome(o) == driver.Applied {
		answer.Index, answer.Evidence = uint64(*r.version), kit.Written //nolint:gosec // versions count from 1
		if r.value, r.write = w.Value, &id; w.Remove {
			r.version = nil
		}
	}
	gen, err := s.history.Observe(m, answer)
	known := err == nil && driver.Outcome(o) != driver.GuardBroken
	return driver.Result{Outcome: driver.Outcome(o), Entry: r.entry(w.Key, gen), Known: known}, nil
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

// query selects rows.
type query struct {
	columns string // for the value
	where   string
	args    []any
	order   string
	limit   int // 0: none
}

// within adds the condition that the key is in a range.
func (q *query) within(r driver.Range) {
	q.args = append(q.args, []byte(r.Key))
	n := len(q.args)
	if r.IsPrefix {
		// Bytes after those of the prefix, up to where no key begins with it.
		q.where += fmt.Sprintf(" AND e.key >= $%d AND substring(e.key FOR length($%d)) = $%d", n, n, n)
		if last := after(r.Key); last != nil {
			q.args = append(q.args, last)
			q.where += fmt.Sprintf(" AND e.key < $%d", n+1)
		}
		return
	}
	q.where += fmt.Sprintf(" AND e.key = $%d", n)
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

// read reads what q selects, at one moment.
func (s *store) read(ctx context.Context, conn *pgx.Conn, m kit.Mark, q query) (found []row, c counter, err error) {
	sql := fmt.Sprintf("SELECT c.version, c.write, EXISTS (SELECT FROM {l} WHERE ends <= clock_timestamp()), "+
		"e.key, e.v, e.version, e.write, e.removed FROM {t} c LEFT JOIN LATERAL "+
		"(SELECT e.key, %s AS v, e.version, e.write, e.removed FROM {t} e WHERE e.key <> '' AND %s ORDER BY %s", q.columns, q.where, q.order)
	if q.limit > 0 {
		sql += fmt.Sprintf(" LIMIT %d", q.limit)
	}
	sql = s.names.in(sql + ") e ON true WHERE c.key = '' ORDER BY " + q.order)
	err = s.settled(ctx, conn, func() (late bool, _ error) {
		found = nil
		rows, err := conn.Query(ctx, sql, q.args...)
		if err != nil {
			return false, err
		}
		var r row
		_, err = pgx.ForEachRow(rows, []any{&c.now, &c.forgotten, &late, &r.key, &r.value, &r.version, &r.write, &r.removed}, func() error {
			if r.version != nil {
				found = append(found, r)
			}
			r = row{}
			return nil
		})
		return late, err
	})
	if err != nil {
		return nil, c, err
	}
	c.origin = originOf(conn.PgConn())
	c.gen, err = s.history.Observe(m, kit.Answer{Index: c.now, Evidence: kit.Current, Cluster: c.cluster})
	return found, c, err
}

// counter is the row of the empty key.
type counter struct {
	position
	forgotten uint64 // up to this version, rows of removed keys may be gone
}
