package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kaizen-go/kaizen/audit"
)

const (
	// userWindow is how long a user counts as active after an entry.
	userWindow = time.Hour
	// maxActiveUsers bounds the users that are told apart; the count stops there.
	maxActiveUsers = 100_000
)

// activeUsers counts the users for whom something was recorded in the last hour.
// A metric says how many they are; who they are stays in the ledger.
type activeUsers struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// newActiveUsers begins with what the ledger has of the last hour.
func newActiveUsers(ctx context.Context, l serverLedger) (*activeUsers, error) {
	u := &activeUsers{last: map[string]time.Time{}}
	for e, err := range l.Query(ctx, audit.Query{Since: time.Now().Add(-userWindow)}) {
		if err != nil {
			return nil, fmt.Errorf("server: count users: %w", err)
		}
		u.saw(e.UserID, e.Time)
	}
	return u, nil
}

func (u *activeUsers) saw(user string, at time.Time) {
	if user == "" {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, known := u.last[user]; !known && len(u.last) >= maxActiveUsers {
		u.forget(time.Now())
		if len(u.last) >= maxActiveUsers {
			return
		}
	}
	if at.After(u.last[user]) {
		u.last[user] = at
	}
}

// forget drops the users whose last entry is too old. The caller holds mu.
func (u *activeUsers) forget(now time.Time) {
	for user, at := range u.last {
		if now.Sub(at) > userWindow {
			delete(u.last, user)
		}
	}
}

func (u *activeUsers) count(now time.Time) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.forget(now)
	return len(u.last)
}

func (u *activeUsers) collector() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "kaizen_audit_active_users",
		Help: "Users for whom an entry was recorded in the last hour.",
	}, func() float64 { return float64(u.count(time.Now())) })
}
