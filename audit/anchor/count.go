package anchor

import (
	"context"

	"github.com/kaizen-go/kaizen/audit"
)

// Results that [Count] and [CountWitness] tell.
const (
	Kept    = "success"
	Refused = "failure"
)

// Target names the kind of an anchor, for a metric: "file", "otlp", what its
// method Target says, or "other".
func Target(a audit.Anchor) string {
	if _, ok := a.(*audit.FileAnchor); ok {
		return "file"
	}
	if t, ok := a.(interface{ Target() string }); ok {
		return t.Target()
	}
	return "other"
}

// Count returns the anchors so that counted is called after each attempt, with
// the anchor's target and [Kept] or [Refused].
func Count(list []audit.Anchor, counted func(target, result string)) []audit.Anchor {
	out := make([]audit.Anchor, len(list))
	for i, a := range list {
		target := Target(a)
		out[i] = audit.AnchorFunc(func(ctx context.Context, c audit.Checkpoint) error {
			err := a.Anchor(ctx, c)
			counted(target, resultOf(err))
			return err
		})
	}
	return out
}

// CountWitness is Count for a witness; nil stays nil.
func CountWitness(w audit.Witness, counted func(result string)) audit.Witness {
	if w == nil {
		return nil
	}
	return countedWitness{w, counted}
}

type countedWitness struct {
	audit.Witness
	counted func(result string)
}

func (w countedWitness) Cosign(ctx context.Context, c audit.Checkpoint, prove func(from int64) ([][32]byte, error)) (string, error) {
	note, err := w.Witness.Cosign(ctx, c, prove)
	w.counted(resultOf(err))
	return note, err
}

func resultOf(err error) string {
	if err != nil {
		return Refused
	}
	return Kept
}
