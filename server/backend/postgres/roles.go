package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/kaizen-go/kaizen/server/backend/internal/pgwire"
)

// Grant gives a role of the database what it needs and no more: a writer may
// read, insert, and move the head; a reader may read. Nobody gets UPDATE or
// DELETE on the entries, nor TRUNCATE on anything. Dsn must connect as the owner
// of the tables. The statements are in docs/backends.md.
func Grant(ctx context.Context, dsn, schema, role string, write bool) (err error) {
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return errors.New("postgres: grant: the DSN cannot be parsed") // its text may hold a password
	}
	conn, err := pgwire.Connect(ctx, config)
	if err != nil {
		return fmt.Errorf("postgres: grant: %w", err)
	}
	defer func() {
		if closeErr := conn.Close(context.WithoutCancel(ctx)); err == nil && closeErr != nil {
			err = fmt.Errorf("postgres: grant: %w", closeErr)
		}
	}()
	if schema == "" {
		schema = "kaizen"
	}
	if !schemaName.MatchString(schema) {
		return fmt.Errorf("postgres: grant: schema %q is not a plain lower-case name", schema)
	}
	err = conn.InTx(ctx, "", func() error {
		for _, statement := range grants(schema, pgwire.Quote(role), write) {
			if _, err := conn.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("postgres: grant to %s: %w", role, err)
	}
	return nil
}

func grants(schema, role string, write bool) []string {
	out := []string{
		fmt.Sprintf("REVOKE ALL ON ALL TABLES IN SCHEMA %s FROM PUBLIC, %s", schema, role),
		fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s", schema, role),
		fmt.Sprintf("GRANT SELECT ON ALL TABLES IN SCHEMA %s TO %s", schema, role),
	}
	if !write {
		return out
	}
	return append(out,
		fmt.Sprintf("GRANT INSERT ON %[1]s.entries, %[1]s.nodes, %[1]s.checkpoints, %[1]s.keys, %[1]s.cosigned, %[1]s.totals TO %[2]s", schema, role),
		fmt.Sprintf("GRANT UPDATE (size, edge, note, at, published, vkey) ON %s.head TO %s", schema, role),
		fmt.Sprintf("GRANT UPDATE (bytes, oldest, newest) ON %s.totals TO %s", schema, role),
		fmt.Sprintf("GRANT EXECUTE ON FUNCTION %s.add_partition(text, bigint, timestamptz, timestamptz) TO %s", schema, role),
	)
}
