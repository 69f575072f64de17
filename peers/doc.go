// Package peers measures and checks Kaizen beside programs of others: stores
// that its ledger is compared with, and verifiers that it did not write.
//
// It is a module of its own, outside go.work, so that nothing that ships
// requires them. Its commands and tests run with GOWORK=off.
package peers
