package contestant

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/polykv/polykv/bench/workload"
)

// rawPostgres is pgx, with one statement for each operation.
type rawPostgres struct{ *pgxpool.Pool }

func openRawPostgres(t workload.Target) (rawClient, error) {
	pool, err := pgxpool.New(context.Background(), "postgres://postgres@"+t.Endpoints[0]+"/postgres?sslmode=disable&pool_max_conns=8")
	if err != nil {
		return nil, err
	}
	_, err = pool.Exec(context.Background(), `SELECT pg_advisory_lock(1);
		CREATE TABLE IF NOT EXISTS raw (key text COLLATE "C" PRIMARY KEY, value text NOT NULL, version bigint NOT NULL);
		SELECT pg_advisory_unlock(1)`)
	return rawPostgres{pool}, err
}

func (c rawPostgres) Close() error {
	c.Pool.Close()
	return nil
}

// List implements workload.Client.
func (c rawPostgres) List(ctx context.Context, prefix string) ([]string, error) {
	rows, err := c.Query(ctx, "SELECT key FROM raw WHERE key >= $1 AND key < $1 || chr(1114111)", prefix)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func (c rawPostgres) read(ctx context.Context, key string) (state, error) {
	var value string
	var version uint64
	err := c.QueryRow(ctx, "SELECT value, version FROM raw WHERE key = $1", key).Scan(&value, &version)
	if errors.Is(err, pgx.ErrNoRows) {
		return state{}, nil
	}
	return state{value, version}, err
}

func (c rawPostgres) swap(ctx context.Context, key, value string, version uint64) (state, bool, error) {
	sql := "UPDATE raw SET value = $2, version = version + 1 WHERE key = $1 AND version = $3"
	if version == 0 {
		sql = "INSERT INTO raw VALUES ($1, $2, $3::bigint + 1) ON CONFLICT DO NOTHING"
	}
	tag, err := c.Exec(ctx, sql, key, value, version)
	if err == nil && tag.RowsAffected() == 0 {
		now, err := c.read(ctx, key)
		return now, false, err
	}
	return state{value, version + 1}, true, err
}

// watch has a trigger tell of updates from then on. It is of a key only.
func (c rawPostgres) watch(ctx context.Context, key string, _ bool, f func(string, any) bool) {
	conn, err := c.Acquire(ctx)
	if err != nil {
		return
	}
	defer conn.Release()
	_, err = conn.Exec(ctx, `CREATE OR REPLACE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN PERFORM pg_notify('raw', NEW.key || ' ' || NEW.value); RETURN NULL; END $$;
		CREATE OR REPLACE TRIGGER tell AFTER UPDATE ON raw FOR EACH ROW EXECUTE FUNCTION tell();
		LISTEN raw`)
	for more := err == nil; more; {
		n, err := conn.Conn().WaitForNotification(ctx)
		if err != nil {
			return
		}
		value, ours := strings.CutPrefix(n.Payload, key+" ")
		more = !ours || f(key, value)
	}
}
