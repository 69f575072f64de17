// Package audit keeps a tamper-evident ledger of what agents did.
//
// Entries are JSON lines that jq reads. Each line is a leaf of an RFC 6962
// Merkle tree whose root is signed (C2SP checkpoints, Ed25519), so whoever
// holds the directory and an older checkpoint can show that nothing was
// changed, removed, reordered or forked since. [Ledger.Append] returns after
// the entry is on the disk and hands back the signed checkpoint that covers it.
//
//	l, err := audit.Open("kaizen-data/audit", audit.Config{})
//	if err != nil {
//		return err
//	}
//	defer l.Close()
//	receipt, err := l.Append(ctx, audit.Entry{
//		AgentID: "planner",
//		Action:  "tool.execute",
//		Result:  audit.Success,
//		Details: map[string]any{"tool": "search"},
//	})
//
// Where to read on: [Ledger.Append] in ledger.go queues an entry, and commit
// in commit.go is the line where it becomes durable. recover.go brings a
// crashed directory back, verify.go checks one without the key. The file
// format is described in docs/ledger-format.md.
//
// What an entry says about a person can be forgotten without touching a proof:
// with [Entry].Subject set it is encrypted under that subject's keys, which
// [Ledger.Erase] destroys. A [Hold] stands against that, and against retention.
//
// The package does not redact: what a caller puts into an [Entry] is kept.
package audit
