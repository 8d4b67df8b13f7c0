package postgres

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// keep is for how many writes the row of a removed key stays.
const keep = 10_000

// schema makes the table and its function. {t} is the table, {f} the function and
// {c} the channel of notifications. The counter's row has the last version that was
// forgotten in its column write, and in its value what names the table.
const schema = `
CREATE TABLE {t} (
	key     bytea PRIMARY KEY,
	value   bytea   NOT NULL,
	version bigint  NOT NULL,
	write   bigint  NOT NULL,
	removed boolean NOT NULL
);
CREATE INDEX ON {t} (version);
INSERT INTO {t} VALUES ('', uuid_send(gen_random_uuid()), 0, 0, true);
CREATE FUNCTION {f}(k bytea, prev bigint, val bytea, remove boolean, id bigint, gkeys bytea[], gversions bigint[],
	OUT outcome int, OUT v bigint, OUT now bytea, OUT nowwrite bigint) LANGUAGE plpgsql AS $$
DECLARE counter bigint;
BEGIN
	SELECT version INTO counter FROM {t} WHERE key = '' FOR UPDATE;
	IF EXISTS (SELECT FROM unnest(gkeys, gversions) AS g(gkey, gversion) WHERE NOT EXISTS (
		SELECT FROM {t} WHERE key = gkey AND version = gversion AND NOT removed)) THEN
		outcome := 3;
		RETURN;
	END IF;
	SELECT version, value, write INTO v, now, nowwrite FROM {t} WHERE key = k AND NOT removed;
	IF coalesce(v, 0) <> prev THEN
		outcome := 2;
		RETURN;
	END IF;
	outcome := 1;
	v := counter + 1;
	INSERT INTO {t} VALUES (k, val, v, id, remove)
		ON CONFLICT (key) DO UPDATE SET value = val, version = v, write = id, removed = remove;
	UPDATE {t} SET version = v WHERE key = '';
	IF v % 1000 = 0 AND v > {k} THEN
		DELETE FROM {t} WHERE removed AND version <= v - {k} AND key <> '';
		UPDATE {t} SET write = v - {k} WHERE key = '';
	END IF;
	PERFORM pg_notify('{c}', encode(k, 'base64'));
END $$;
`

// names are the table's and what goes with it, quoted for SQL.
type names struct{ table, function, channel string }

func namesOf(table string) names {
	parts := strings.Split(table, ".")
	function := append(parts[:len(parts)-1:len(parts)-1], parts[len(parts)-1]+"_swap")
	return names{pgx.Identifier(parts).Sanitize(), pgx.Identifier(function).Sanitize(), table}
}

// in puts the names into a statement.
func (n names) in(sql string) string {
	return strings.NewReplacer("{t}", n.table, "{f}", n.function, "{c}", n.channel, "{k}", strconv.Itoa(keep)).Replace(sql)
}

// SQLSTATEs.
const (
	undefinedTable        = "42P01"
	insufficientPrivilege = "42501"
	diskFull              = "53100"
	programLimit          = "54000"
)

// state returns the SQLSTATE of an error that the server sent, "" of others.
func state(err error) string {
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		return answer.Code
	}
	return ""
}

// create makes the table, unless somebody else has meanwhile.
func (n names) create(ctx context.Context, conn *pgx.Conn) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtext($1))", "polykv "+n.channel); err != nil {
			return err
		}
		var there bool
		if err := tx.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", n.table).Scan(&there); err != nil || there {
			return err
		}
		_, err := tx.Exec(ctx, n.in(schema))
		return err
	})
}
