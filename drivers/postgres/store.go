package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/kit"
)

// store is one client's handle on a table.
type store struct {
	cfg       Config
	names     *strings.Replacer
	tls       *config.Renewing // nil: none
	password  *kit.Secret
	history   *kit.History
	pool      *pgxpool.Pool
	listeners *kit.Shared[*listener]

	open  context.Context // done when the handle is closed; ends connections
	close context.CancelFunc
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
	s.open, s.close = context.WithCancel(context.Background())
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
	if s.open.Err() != nil {
		return nil, driver.ErrClosed
	}
	conn, err := kit.Use(s.password, isLogin, func(string) (*pgxpool.Conn, error) { return s.pool.Acquire(context.WithValue(ctx, connects{}, true)) })
	return conn, s.wrap(ctx, err)
}

// Get implements driver.Store.
func (s *store) Get(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
	v, err := s.read(ctx, query{rng: driver.Range{Key: req.Key}, guards: req.Guards})
	if err != nil || len(v.found) == 0 {
		return driver.Entry{Key: req.Key, Generation: v.at.gen}, err
	}
	return v.found[0], nil
}

// entry returns a state of a key, which is absent at version 0.
func entry(key string, value []byte, version uint64, write int64, generation uint64) driver.Entry {
	if version == 0 {
		return driver.Entry{Key: key, Generation: generation}
	}
	if value == nil {
		value = []byte{}
	}
	return driver.Entry{Key: key, Value: value, Version: driver.Version(version), Meta: write, Generation: generation}
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
	q := query{rng: driver.Range{Key: req.Prefix, IsPrefix: true}, after: req.After, keysOnly: req.KeysOnly, limit: req.Limit}
	v, err := s.read(ctx, q)
	return driver.Page{Entries: v.found, Generation: v.at.gen, More: req.Limit > 0 && len(v.found) == req.Limit}, err
}

// swap calls the function if the table is still that of the connection. What it is given
// depends on the row, or the server might call it before it looks.
const swap = `SELECT outcome, coalesce(v, 0), now, coalesce(nowwrite, 0)
	FROM {t} c, {f}($1, $2, coalesce($3, ''::bytea), $4 AND c.removed, $5, $6, $7, $8) WHERE c.key = '' AND encode(c.value, 'hex') = $9`

// another has all calls look for the table anew, by other connections.
func (s *store) another() error {
	s.pool.Reset()
	return errors.New("the table is another than before")
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
	var o driver.Outcome
	var now uint64
	var value []byte
	id, by := int64(w.ID), int64(0) //nolint:gosec // the bits of it
	to := originOf(conn.Conn().PgConn())
	err = conn.QueryRow(ctx, s.names.Replace(swap), []byte(w.Key), int64(w.Prev.Version), w.Value, w.Remove, id, keys, versions, leaseOf(w.Lease), to.table).Scan(&o, &now, &value, &by) //nolint:gosec // as it came
	if errors.Is(err, pgx.ErrNoRows) {
		return driver.Result{Outcome: driver.NotApplied}, s.another()
	}
	if err != nil {
		return driver.Result{Outcome: outcome(err)}, s.wrap(ctx, err)
	}
	answer := kit.Answer{Cluster: to.cluster}
	switch o {
	case driver.NotApplied:
		return driver.Result{Outcome: o}, driver.ErrLeaseLost
	case driver.Applied:
		answer.Index, answer.Evidence = now, kit.Written
		value, by = w.Value, id
		if w.Remove {
			now = 0
		}
	}
	gen, err := s.history.Observe(m, answer)
	return driver.Result{Outcome: o, Entry: entry(w.Key, value, now, by, gen), Known: err == nil && o != driver.GuardBroken}, nil
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
	s.close()
	s.listeners.Close()
	s.pool.Close()
	return nil
}

// query selects rows of a range: those of keys that exist, in their order, or those
// written after a version, in the order of writes.
type query struct {
	rng      driver.Range
	after    string // keys after this one
	newer    bool
	since    uint64 // the version, if newer is set
	last     bool   // from the last one on
	keysOnly bool
	limit    int // 0: none
	guards   []driver.Guard
}

// after returns the end of the keys that begin with prefix. No key begins with a byte
// of 255, since no text in UTF-8 has one.
func after(prefix string) []byte {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i]++; b[i] != 0 {
			return b[:i+1]
		}
	}
	return []byte{255}
}

// sql returns the statement and its arguments: the counter, whether the guards hold,
// and the rows, if there are any. One statement sees one moment. What is attached to
// a lease that is over is gone, also while nobody has removed it yet. What isn't needed
// is left out, or the server would plan each call anew.
func (q *query) sql(table string) (sql string, args []any) {
	value, hold := "value", "true"
	if q.keysOnly {
		value = "NULL::bytea"
	}
	first, end, within := q.rng.Key, []byte{255}, "key = $1"
	if q.rng.IsPrefix {
		first, end, within = max(first, "\x00"), after(first), "key >= $1"
	}
	var cut any = []byte(q.after)
	where, order, gone := "key > $4 AND NOT {gone}", "key", "false"
	if q.newer {
		where, order, gone, cut = "version > $4", "version", "{gone}", int64(q.since) //nolint:gosec // as it came
	}
	if q.last {
		order += " DESC"
	}
	args = []any{[]byte(first), end, cmp.Or(q.limit, math.MaxInt), cut, table}
	if len(q.guards) > 0 {
		keys, versions := arrays(q.guards)
		args = append(args, keys, versions)
		hold = `NOT EXISTS (SELECT FROM unnest($6::bytea[], $7::bigint[]) AS g(gkey, gversion)
			WHERE NOT EXISTS (SELECT FROM {t} WHERE key = gkey AND version = gversion AND NOT {gone}))`
	}
	return fmt.Sprintf(`SELECT c.version, c.write, %s, coalesce(e.key, ''), e.value, coalesce(e.version, 0), coalesce(e.write, 0), coalesce(e.gone, true)
		FROM {t} c LEFT JOIN LATERAL (SELECT key, %s AS value, version, write, %s AS gone FROM {t}
			WHERE %s AND key < $2 AND %s ORDER BY %s LIMIT $3) e ON true
		WHERE c.key = '' AND encode(c.value, 'hex') = $5 ORDER BY e.%s`, hold, value, gone, within, where, order, order), args
}

// view is what a query has found, at one moment.
type view struct {
	at    position
	last  uint64 // version of the last row; 0: there is none
	found []driver.Entry
}

// read reads what q selects. It is driver.ErrFenced if a guard doesn't hold.
func (s *store) read(ctx context.Context, q query) (v view, err error) {
	conn, err := s.acquire(ctx)
	if err != nil {
		return v, err
	}
	defer conn.Release()
	m := s.history.Mark()
	v.at.origin = originOf(conn.Conn().PgConn())
	sql, args := q.sql(v.at.table)
	rows, err := conn.Query(ctx, s.names.Replace(sql), args...)
	if err != nil {
		return v, s.wrap(ctx, err)
	}
	var hold, gone bool
	var key, value []byte
	var write int64
	tag, err := pgx.ForEachRow(rows, []any{&v.at.now, &v.at.forgotten, &hold, &key, &value, &v.last, &write, &gone}, func() error {
		switch {
		case v.last == 0: // there is none
		case gone:
			v.found = append(v.found, driver.Entry{Key: string(key)})
		case q.keysOnly:
			v.found = append(v.found, driver.Entry{Key: string(key), Version: driver.Version(v.last), Meta: write})
		default:
			v.found = append(v.found, entry(string(key), value, v.last, write, 0))
		}
		return nil
	})
	switch {
	case err != nil:
	case tag.RowsAffected() == 0:
		err = s.another()
	default:
		v.at.gen, err = s.history.Observe(m, kit.Answer{Index: v.at.now, Evidence: kit.Current, Cluster: v.at.cluster})
	}
	for i := range v.found {
		v.found[i].Generation = v.at.gen
	}
	if err == nil && !hold {
		err = driver.ErrFenced
	}
	if err != nil {
		return view{}, s.wrap(ctx, err)
	}
	return v, nil
}
