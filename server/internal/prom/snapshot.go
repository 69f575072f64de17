package prom

import "fmt"

// Snapshot writes everything that was appended before the call to dir, which
// must be empty, as blocks: a directory that [Open] opens. Appends go on.
func (db *DB) Snapshot(dir string) error {
	leave, err := db.enter()
	if err != nil {
		return err
	}
	defer leave()
	if err := db.tsdb.Snapshot(dir, true); err != nil {
		return fmt.Errorf("prom: snapshot: %w", err)
	}
	return nil
}
