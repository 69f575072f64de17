package audit

import (
	"context"
	"iter"
)

// governor forgets and holds for one ledger, wherever that keeps its entries.
type governor struct {
	vault  *vault // keys of subjects
	holds  holds
	stored entries
	ledger journal
}

// entries is what a ledger has, as its lines have it. [store] is one.
type entries interface {
	read(ctx context.Context, index int64) (Entry, error)
	query(ctx context.Context, q Query) iter.Seq2[Entry, error]
	count(ctx context.Context, q Query) (int64, error)
	prove(index int64) (Proof, error)
}

// journal is where a governor records what it does. [Ledger] is one.
type journal interface {
	Flush(ctx context.Context) error
	Checkpoint() Checkpoint
	appendSystem(ctx context.Context, e Entry) (Receipt, error)
}

// Governor forgets people, and keeps entries from being removed. [*Ledger] is
// one, and so is every other [Backend]; the methods are those of [Ledger].
type Governor interface {
	Erase(ctx context.Context, x Erasure) (ErasureReceipt, error)
	Hold(ctx context.Context, h Hold) (Hold, Receipt, error)
	Release(ctx context.Context, x Release) (Receipt, error)
	Holds() []Hold
}
