// Package normalise turns spans and log records of any sender into the
// server's own model, whichever convention their attributes follow.
package normalise

import (
	"time"

	"github.com/kaizen-go/kaizen/price"
)

// Pricer says what a model call costs. *price.Book is one.
type Pricer interface {
	Cost(provider, model string, at time.Time, u price.Usage) (price.Cost, bool)
}
