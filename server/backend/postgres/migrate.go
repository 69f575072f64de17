package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/kaizen-go/kaizen/server/backend/internal/pgwire"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the schema to the newest version, one transaction for each
// step, under a lock so that processes that start together wait for each other.
// A role without rights on the schema is fine when there is nothing to do.
func migrate(ctx context.Context, pool *pgwire.Pool, schema string) error {
	names, err := fs.Glob(migrations, "migrations/*.sql") // sorted
	if err != nil {
		return err
	}
	done, err := applied(ctx, pool, schema)
	if err != nil || done == len(names) {
		return err
	}
	if done > len(names) {
		return fmt.Errorf("the tables are of version %d, this program knows %d", done, len(names))
	}
	for version := done + 1; version <= len(names); version++ {
		text, err := migrations.ReadFile(names[version-1])
		if err != nil {
			return err
		}
		if err := step(ctx, pool, schema, version, string(text)); err != nil {
			return fmt.Errorf("migrate to version %d: %w", version, err)
		}
	}
	return nil
}

// applied is the version of the tables, 0 if there are none.
func applied(ctx context.Context, pool *pgwire.Pool, schema string) (version int, err error) {
	err = pool.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM "+schema+".migrations").Scan(&version)
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && (pgErr.Code == "42P01" || pgErr.Code == "3F000") {
		return 0, nil // no such table, no such schema
	}
	return version, err
}

func step(ctx context.Context, pool *pgwire.Pool, schema string, version int, text string) error {
	return pool.InTx(ctx, "", func(tx *pgwire.Conn) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtext('kaizen audit ' || $1))", schema); err != nil {
			return err
		}
		setup := fmt.Sprintf(`CREATE SCHEMA IF NOT EXISTS %s;
			CREATE TABLE IF NOT EXISTS %[1]s.migrations (version int PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())`, schema)
		if err := tx.ExecScript(ctx, setup); err != nil {
			return err
		}
		// Somebody else may have done it while we waited for the lock.
		n, err := tx.Exec(ctx, "INSERT INTO "+schema+".migrations (version) VALUES ($1) ON CONFLICT DO NOTHING", version)
		if err != nil || n == 0 {
			return err
		}
		return tx.ExecScript(ctx, strings.ReplaceAll(text, "{{schema}}", schema))
	})
}

// denied reports whether err says that the role lacks a right.
func denied(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == "42501"
}

// statements are the SQL texts with the schema filled in.
type statements struct {
	createHead, head, headKeys, lockHead, moveHead, changeKey, addKey, addPartition, partition, total, stats, publish, cosigned, nodes, known, copyEntries string
}

func statementsOf(schema string) statements {
	in := func(text string) string { return strings.ReplaceAll(text, "{{schema}}", schema) }
	return statements{
		createHead: in(`INSERT INTO {{schema}}.head (origin, vkey, size, edge, note, at, published)
			VALUES ($1, $2, 0, '', $3, clock_timestamp(), 'epoch') ON CONFLICT DO NOTHING`),
		head:         in(`SELECT vkey, note FROM {{schema}}.head`),
		headKeys:     in(`SELECT vkey, note, coalesce((SELECT string_agg(change, '' ORDER BY from_size) FROM {{schema}}.keys), '') FROM {{schema}}.head`),
		lockHead:     in(`SELECT size, edge, vkey, note, greatest(at, clock_timestamp()), published FROM {{schema}}.head FOR UPDATE`),
		moveHead:     in(`UPDATE {{schema}}.head SET size = $1, edge = $2, note = $3, at = $4, published = $5`),
		changeKey:    in(`UPDATE {{schema}}.head SET size = $1, edge = $2, note = $3, at = $4, published = $5, vkey = $6`),
		addKey:       in(`INSERT INTO {{schema}}.keys (from_size, previous, vkey, change) VALUES ($1, $2, $3, $4)`),
		addPartition: in(`SELECT {{schema}}.add_partition($1, $2, $3, $4)`),
		partition:    in(`SELECT base, until_at FROM {{schema}}.partitions WHERE until_at > $1 ORDER BY until_at DESC LIMIT 1`),
		total: in(`INSERT INTO {{schema}}.totals AS t (base, bytes, oldest, newest) VALUES ($1, $2, $3, $4) ON CONFLICT (base) DO UPDATE
			SET bytes = t.bytes + excluded.bytes, oldest = least(t.oldest, excluded.oldest), newest = greatest(t.newest, excluded.newest)`),
		stats: in(`SELECT count(*), coalesce(sum(t.bytes), 0)::bigint, min(t.oldest), max(t.newest),
			(SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint FROM pg_inherits WHERE inhparent = '{{schema}}.entries'::regclass),
			(SELECT coalesce(sum(next - base), 0)::bigint FROM {{schema}}.dropped)
			FROM {{schema}}.totals AS t JOIN {{schema}}.partitions AS p USING (base) WHERE p.name NOT IN (SELECT name FROM {{schema}}.dropped)`),
		cosigned:    in(`INSERT INTO {{schema}}.cosigned (size, note) VALUES ($1, $2) ON CONFLICT DO NOTHING`),
		publish:     in(`INSERT INTO {{schema}}.checkpoints (size, note, at) VALUES ($1, $2, $3)`),
		nodes:       in(`INSERT INTO {{schema}}.nodes (level, n, hash) SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bytea[])`),
		known:       in(`SELECT id, idx, leaf FROM {{schema}}.entries WHERE id = ANY($1::uuid[]) AND idx < $2`),
		copyEntries: in(`COPY {{schema}}.entries (idx, at, id, leaf, time, result, agent, action, usr, subject, session, run, trace, span, line) FROM STDIN BINARY`),
	}
}
