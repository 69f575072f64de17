// Package tlogclient has no code: its tests read Kaizen's ledger with Tessera's
// client and its fsck, which know nothing of Kaizen, only of C2SP's logs.
//
//	cd peers && GOWORK=off go test ./tlogclient
package tlogclient
