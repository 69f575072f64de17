package peers

import (
	_ "github.com/jackc/pgx/v5"
	_ "github.com/kaizen-go/kaizen/audit"
	_ "github.com/transparency-dev/tessera"
	_ "github.com/transparency-dev/tessera/client"
	_ "github.com/transparency-dev/tessera/fsck"
	_ "github.com/transparency-dev/tessera/storage/posix"
	_ "modernc.org/sqlite"
)
