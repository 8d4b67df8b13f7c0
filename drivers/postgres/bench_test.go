//go:build linux

package postgres

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/kv"
)

// BenchmarkCAS compares calls with what pgx itself does: a conditional UPDATE of a
// row, and a SELECT. The server doesn't wait for its disk. Calls on one key share
// commits.
func BenchmarkCAS(b *testing.B) {
	n := start(b)
	ctx := context.WithValue(context.Background(), connects{}, true)
	if err := n.SQL(ctx, "CREATE TABLE raw (key bytea PRIMARY KEY, value bytea, version bigint)", "INSERT INTO raw VALUES ('k', 'value', 0)"); err != nil {
		b.Fatal(err)
	}
	s, err := Open(n.config(), nil)
	if err != nil {
		b.Fatal(err)
	}
	raw, client := s.(*store).pool, kv.New(s, codec.String{}, nil)
	defer func() {
		if err := client.Close(); err != nil {
			b.Error(err)
		}
	}()
	cas := func() error {
		return client.CAS(ctx, "k", func(any) (any, bool, error) { return "value", false, nil })
	}
	version := 0
	for name, call := range map[string]func() error{
		"cas/pgx": func() error {
			version++
			return update(ctx, raw, version)
		},
		"cas/alone": cas,
		"get/pgx": func() error {
			var value []byte
			return raw.QueryRow(ctx, "SELECT value, version FROM raw WHERE key = $1", []byte("k")).Scan(&value, &version)
		},
		"get/alone": func() error {
			_, err := client.Get(ctx, "k")
			return err
		},
	} {
		if err := call(); err != nil { // which opens the connection
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) { drivertest.InTurn(b, call) })
	}
	b.Run("cas/together", func(b *testing.B) { drivertest.AtOnce(b, cas) })
}

// update is the cheapest conditional write of pgx.
func update(ctx context.Context, pool *pgxpool.Pool, version int) error {
	tag, err := pool.Exec(ctx, "UPDATE raw SET value = $1, version = $2 WHERE key = $3 AND version = $4", []byte("value"), version, []byte("k"), version-1)
	if err == nil && tag.RowsAffected() != 1 {
		err = errBehind
	}
	return err
}
