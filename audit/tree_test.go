package audit

import (
	"testing"

	"github.com/kaizen-go/kaizen/internal/merkle"
)

// leafOf is the hash that the ledger has for entry i.
func leafOf(t testing.TB, l *Ledger, i int64) merkle.Hash {
	t.Helper()
	v, err := l.store.view()
	if err != nil {
		t.Fatal(err)
	}
	h, err := v.Leaf(i)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// rootOf is the root of the ledger's first size entries.
func rootOf(t testing.TB, l *Ledger, size int64) merkle.Hash {
	t.Helper()
	v, err := l.store.view()
	if err != nil {
		t.Fatal(err)
	}
	h, err := v.Root(size)
	if err != nil {
		t.Fatal(err)
	}
	return h
}
