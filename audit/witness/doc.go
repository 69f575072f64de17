// Package witness has others attest what an audit ledger's checkpoints are, and
// when: a ledger whose history is held by a witness cannot be set back or shown
// to two people in two forms without that being found out.
//
// A [Group] asks witnesses, a [Server] is one. Both speak the protocol of
// c2sp.org/tlog-witness, with Ed25519 cosignatures (c2sp.org/tlog-cosignature), so
// either end may be somebody else's program. Two deployments can watch each
// other:
//
//	l, err := audit.Open(dir, audit.Config{
//		Witness: &witness.Group{Peers: []witness.Peer{{URL: "https://audit.example.org/witness", Key: key}}},
//	})
package witness
