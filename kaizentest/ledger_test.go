package kaizentest_test

import (
	"path/filepath"
	"testing"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/kaizentest"
)

func TestFileLedger(t *testing.T) {
	kaizentest.TestLedger(t, func(t *testing.T) func() (audit.Backend, error) {
		dir := filepath.Join(t.TempDir(), "audit")
		return func() (audit.Backend, error) { return audit.Open(dir, audit.Config{Origin: "example.org/suite"}) }
	})
}

func TestFileLedgerOutward(t *testing.T) {
	kaizentest.TestOutward(t, func(t *testing.T) func(audit.OutwardConfig) (audit.Backend, error) {
		dir := filepath.Join(t.TempDir(), "audit")
		return func(o audit.OutwardConfig) (audit.Backend, error) {
			return audit.Open(dir, audit.Config{
				Witness: o.Witness, WitnessEvery: o.WitnessEvery, Anchors: o.Anchors, AnchorEvery: o.AnchorEvery, KeyOverlap: o.KeyOverlap,
			})
		}
	})
}
