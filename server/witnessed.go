package server

import "github.com/kaizen-go/kaizen/audit"

// witnessed is the newest cosigned checkpoint of l, of a ledger that has
// witnesses.
func witnessed(l any) func() audit.Checkpoint {
	if w, ok := l.(interface{ Witnessed() audit.Checkpoint }); ok {
		return w.Witnessed
	}
	return nil
}
