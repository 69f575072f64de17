package main

import (
	"fmt"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kaizen-go/kaizen/server/internal/pgtest"
	"github.com/kaizen-go/kaizen/server/internal/s3test"
)

// withStores runs the tests and then stops the stores that they started.
type withStores struct{ m *testing.M }

func (w withStores) Run() int { return pgtest.Main(thenS3(w)) }

type thenS3 struct{ m *testing.M }

func (w thenS3) Run() int { return s3test.Main(w.m) }

// TestStores runs servers that keep their ledger in PostgreSQL and in an object
// store, and copies ledgers between all places. The scripts are in
// testdata/stores.
func TestStores(t *testing.T) {
	dsn, s3 := pgtest.DSN(t), s3test.Start(t)
	bucket := s3.Bucket(t, false)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/stores",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Vars = append(e.Vars,
				"KAIZEN_LISTEN=127.0.0.1:0", "KAIZEN_OTLP_HTTP=127.0.0.1:0", "KAIZEN_OTLP_GRPC=127.0.0.1:0",
				"KAIZEN_AUDIT_DSN="+dsn,
				"S3_ENDPOINT="+s3.Endpoint, "S3_BUCKET="+bucket, fmt.Sprintf("S3=s3+http://%s/%s", s3.Endpoint, bucket),
				"AWS_ACCESS_KEY_ID="+s3test.AccessKey, "AWS_SECRET_ACCESS_KEY="+s3test.SecretKey)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": scriptExits, "waitready": scriptWaitReady, "http": scriptHTTP,
		},
	})
}
