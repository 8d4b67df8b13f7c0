package postgres

import (
	"context"
	"errors"
	"hash/fnv"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/polykv/polykv/kv/driver/kit"
)

// poolConfig returns the settings of connections. It parses no setting of the
// user's, since errors quote those.
func (s *store) poolConfig(cfg Config, addresses []kit.Address) (*pgxpool.Config, error) {
	hosts, ports := make([]string, len(addresses)), make([]string, len(addresses))
	for i, a := range addresses {
		hosts[i], ports[i], _ = net.SplitHostPort(a.Target) // parsed before
	}
	// Not as a URL, which must not have several IPv6 hosts.
	p, err := pgxpool.ParseConfig("host=" + strings.Join(hosts, ",") + " port=" + strings.Join(ports, ",") + " user=polykv sslmode=disable target_session_attrs=read-write")
	if err != nil {
		return nil, err
	}
	c := p.ConnConfig
	c.Database, c.User, c.Password, c.ConnectTimeout = cfg.Database, cfg.Username, "", cfg.DialTimeout
	c.RuntimeParams = map[string]string{"application_name": "polykv"} // PgBouncer refuses most others
	if s.tls != nil {
		c.TLSConfig = s.tls.ForAll(c.Host)
		for _, f := range c.Fallbacks {
			f.TLSConfig = s.tls.ForAll(f.Host)
		}
	}
	p.MaxConns = int32(cfg.MaxConns) // Validate looked
	dial := c.DialFunc
	c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if ctx.Value(connects{}) == nil {
			return nil, errors.New("statements are not cancelled")
		}
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return kit.Tied(s.open, conn), nil
	}
	p.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		c.Password = s.password.Current()
		return nil
	}
	p.AfterConnect = s.met
	return p, nil
}

// connects marks the ctx of what is connected. What the library dials without it would
// have the server cancel a statement whose ctx is over. If that is a commit which waits for
// a replica, it would become visible without it.
type connects struct{}

// origin is whom a connection has come to.
type origin struct {
	cluster uint64 // id of the history
	started int64  // when the server was, in microseconds
	table   string // its id, which is the channel of notifications
}

// settings of a connection, where the server has others. A snapshot is one
// statement's. Commits wait for the log: a server that crashed would give versions
// again. The server notices a client that is gone without a word. Who waits for a lock is
// refused before its client gives up on it, or would wait on behind its back.
const settings = `
SET default_transaction_isolation = 'read committed';
SET tcp_keepalives_idle = 30;
SET tcp_keepalives_interval = 10;
SELECT set_config('synchronous_commit', 'local', false) WHERE current_setting('synchronous_commit') = 'off';
SELECT set_config('lock_timeout', '2s', false) WHERE current_setting('lock_timeout') = '0'`

// originKey is where a connection keeps its origin.
const originKey = "polykv"

// met looks whose table a new connection has come to, and makes one if there is
// none. A table is another after it was made again, and after a replica took the
// primary's place: that is another timeline.
func (s *store) met(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, answer) // the library has none of its own
	defer cancel()
	s.history.Connected()
	mark := s.history.Mark()
	if _, err := conn.Exec(ctx, settings); err != nil {
		return err
	}
	var index uint64
	var timeline string
	var o origin
	identify := func() error {
		return conn.QueryRow(ctx, s.names.Replace("SELECT encode(value, 'hex'), version, left(pg_walfile_name(pg_current_wal_lsn()), 8), (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint FROM {t} WHERE key = ''")).
			Scan(&o.table, &index, &timeline, &o.started)
	}
	err := identify()
	if state(err) == undefinedTable && s.cfg.Create {
		if _, err = conn.Exec(ctx, s.names.Replace(schema)); err == nil {
			err = identify()
		}
	}
	if err != nil {
		return err
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(o.table + timeline))
	o.cluster = h.Sum64() | 1 // 0 would be none
	conn.PgConn().CustomData()[originKey] = o
	_, err = s.history.Observe(mark, kit.Answer{Index: index, Evidence: kit.Current, Cluster: o.cluster})
	return err
}

// originOf returns whom a connection has come to.
func originOf(conn *pgconn.PgConn) origin {
	o, _ := conn.CustomData()[originKey].(origin)
	return o
}
