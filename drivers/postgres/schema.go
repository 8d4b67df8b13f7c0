package postgres

import (
	"errors"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// keep is for how many writes the row of a removed key stays.
const keep = 10_000

// schema makes the table, that of leases, and their functions. {t} and {l} are the
// tables, {f} and {e} the functions. The counter's row has the last version that was
// forgotten in its column write, and in its value the table's id, which names the
// channel of notifications too: a table may be known by several names. {e} ends the
// leases whose time is up, and returns the seconds until there will be one. Whoever
// may read may call it, so it runs as the tables' owner, with names that no caller can
// replace by others.
const schema = `
SELECT pg_advisory_xact_lock(hashtext('polykv'));
DO $do$ BEGIN
IF to_regclass('{t}') IS NOT NULL THEN
	RETURN; -- somebody else was faster
END IF;
PERFORM set_config('search_path', concat_ws(', ', quote_ident(current_schema()), 'pg_temp'), true);
CREATE TABLE {t} (
	key     bytea PRIMARY KEY,
	value   bytea   NOT NULL,
	version bigint  NOT NULL,
	write   bigint  NOT NULL,
	removed boolean NOT NULL,
	lease   bigint  NOT NULL
);
CREATE INDEX ON {t} (version);
CREATE INDEX ON {t} (lease) WHERE lease <> 0;
CREATE TABLE {l} (id bigint PRIMARY KEY, ttl interval NOT NULL, ends timestamptz NOT NULL);
CREATE INDEX ON {l} (ends);
INSERT INTO {t} VALUES ('', uuid_send(gen_random_uuid()), 0, 0, true, 0);
CREATE FUNCTION {e}() RETURNS float8 LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
	counter bigint;
	id text;
	gone bytea;
BEGIN
	IF EXISTS (SELECT FROM {l} WHERE ends <= clock_timestamp()) THEN
		SELECT version, encode(value, 'hex') INTO counter, id FROM {t} WHERE key = '' FOR UPDATE;
		FOR gone IN WITH o AS (DELETE FROM {l} l WHERE ends <= clock_timestamp() RETURNING l.id) SELECT key FROM {t} JOIN o ON lease = o.id AND lease <> 0 LOOP
			counter := counter + 1;
			UPDATE {t} SET value = '', version = counter, write = 0, removed = true, lease = 0 WHERE key = gone;
			PERFORM pg_notify(id, encode(gone, 'hex'));
		END LOOP;
		UPDATE {t} SET version = counter WHERE key = '' AND version < counter;
	END IF;
	RETURN (SELECT extract(epoch FROM min(ends) - clock_timestamp()) FROM {l});
END $$;
CREATE FUNCTION {f}(k bytea, prev bigint, val bytea, remove boolean, wid bigint, gkeys bytea[], gversions bigint[], by bigint,
	OUT outcome int, OUT v bigint, OUT now bytea, OUT nowwrite bigint) LANGUAGE plpgsql AS $$
DECLARE
	counter bigint;
	forgotten bigint;
	id text;
	at timestamptz;
	over bigint[];
BEGIN
	SELECT version, write, encode(value, 'hex') INTO counter, forgotten, id FROM {t} WHERE key = '' FOR UPDATE;
	at := clock_timestamp();
	over := ARRAY(SELECT l.id FROM {l} l WHERE ends <= at);
	SELECT version, value, write INTO v, now, nowwrite FROM {t} WHERE key = k AND NOT removed AND lease <> ALL (over);
	outcome := CASE
		WHEN EXISTS (SELECT FROM unnest(gkeys, gversions) AS g(gkey, gversion) WHERE NOT EXISTS (
			SELECT FROM {t} WHERE key = gkey AND version = gversion AND NOT removed AND lease <> ALL (over))) THEN 3
		WHEN by <> 0 AND NOT EXISTS (SELECT FROM {l} l WHERE l.id = by AND l.id <> ALL (over)) THEN 4
		WHEN coalesce(v, 0) <> prev THEN 2
		ELSE 1 END;
	IF outcome <> 1 THEN
		RETURN;
	END IF;
	v := counter + 1;
	INSERT INTO {t} VALUES (k, val, v, wid, remove, CASE WHEN remove THEN 0 ELSE by END)
		ON CONFLICT (key) DO UPDATE SET value = val, version = v, write = wid, removed = remove, lease = EXCLUDED.lease;
	IF v > forgotten + {k} + 1000 THEN
		forgotten := v - {k};
		DELETE FROM {t} WHERE removed AND version <= forgotten AND key <> '';
	END IF;
	UPDATE {t} SET version = v, write = forgotten WHERE key = '';
	PERFORM pg_notify(id, encode(k, 'hex'));
END $$;
END $do$`

// namesOf returns what puts the names of a table, and of what goes with it, in place of
// the placeholders of statements, quoted for SQL.
func namesOf(table string) *strings.Replacer {
	parts := strings.Split(table, ".")
	beside := func(suffix string) string {
		return pgx.Identifier(append(parts[:len(parts)-1:len(parts)-1], parts[len(parts)-1]+suffix)).Sanitize()
	}
	leases := beside("_leases")
	return strings.NewReplacer("{t}", beside(""), "{l}", leases, "{f}", beside("_swap"), "{e}", beside("_expire"), "{k}", strconv.Itoa(keep),
		"{gone}", "(removed OR lease <> 0 AND lease = ANY (ARRAY(SELECT id FROM "+leases+" WHERE ends <= statement_timestamp())))")
}

// SQLSTATEs.
const (
	undefinedTable        = "42P01"
	insufficientPrivilege = "42501"
	diskFull              = "53100"
	programLimit          = "54000" // for want of transaction ids, or of room for notifications
)

// state returns the SQLSTATE of an error that the server sent, "" of others.
func state(err error) string {
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		return answer.Code
	}
	return ""
}
