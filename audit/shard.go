package audit

import (
	"context"
	"encoding/hex"
	"fmt"
)

// actionShard is the action of entries that record another ledger's checkpoint.
const actionShard = systemPrefix + "shard_checkpoint"

// ShardAction is the action of the entries that [Ledger.RecordShards] appends,
// under the agent "kaizen".
const ShardAction = actionShard

// ShardCheckpoint is a signed checkpoint of another ledger, a shard, and the
// public key that signed it.
type ShardCheckpoint struct{ Key, Note string }

// ShardEntry is the entry that records c, after checking its signature: details
// are origin, vkey, size, root (in hex) and the note itself. Its id and time are
// not set.
func ShardEntry(c ShardCheckpoint) (Entry, error) {
	head, err := parseCheckpoint([]byte(c.Note), c.Key)
	if err != nil {
		return Entry{}, fmt.Errorf("audit: checkpoint of a shard: %w", err)
	}
	origin, err := originOf(c.Key)
	if err != nil {
		return Entry{}, fmt.Errorf("audit: checkpoint of a shard: %w", err)
	}
	return Entry{AgentID: systemAgent, Action: actionShard, Result: Success, Details: map[string]any{
		"origin": origin, "vkey": c.Key, "size": head.Size, "root": hex.EncodeToString(head.Root[:]), "note": c.Note,
	}}, nil
}

// ParseShardEntry reads what [ShardEntry] made, and checks the signature again.
func ParseShardEntry(e Entry) (ShardCheckpoint, Checkpoint, error) {
	key, _ := e.Details["vkey"].(string)
	text, _ := e.Details["note"].(string)
	c := ShardCheckpoint{Key: key, Note: text}
	if e.AgentID != systemAgent || e.Action != actionShard {
		return c, Checkpoint{}, fmt.Errorf("audit: entry %d is not about the checkpoint of a shard", e.Index)
	}
	head, err := parseCheckpoint([]byte(text), key)
	if err != nil {
		return c, head, fmt.Errorf("audit: entry %d: checkpoint of a shard: %w", e.Index, err)
	}
	return c, head, nil
}

// RecordShards appends the checkpoints of other ledgers, together: so this
// ledger's checkpoint covers theirs. It checks signatures; that each extends the
// one before is the business of package audit/shard.
func (l *Ledger) RecordShards(ctx context.Context, checkpoints ...ShardCheckpoint) ([]Receipt, error) {
	entries := make([]Entry, len(checkpoints))
	for i, c := range checkpoints {
		var err error
		if entries[i], err = ShardEntry(c); err != nil {
			return nil, err
		}
	}
	receipts := make([]Receipt, len(entries))
	for i := range entries {
		var err error
		if receipts[i], err = l.appendSystem(ctx, entries[i]); err != nil {
			return receipts[:i], err
		}
	}
	return receipts, nil
}
