package audit_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/kaizen-go/kaizen/audit"
)

// personalLedger has one entry about a person.
func personalLedger() (l *audit.Ledger, dir string, done func()) {
	tmp, err := os.MkdirTemp("", "ledger")
	if err != nil {
		log.Fatal(err)
	}
	dir = filepath.Join(tmp, "audit")
	l, err = audit.Open(dir, audit.Config{UsersAreSubjects: true, ClearDetails: audit.TechnicalDetails()})
	if err != nil {
		log.Fatal(err)
	}
	_, err = l.Append(context.Background(), audit.Entry{
		AgentID: "planner", Action: "tool.execute", Result: audit.Success, UserID: "u-17",
		Details: map[string]any{"tool": "mail", "to": "someone@example.org"},
	})
	if err != nil {
		log.Fatal(err)
	}
	return l, dir, func() {
		if err := l.Close(); err != nil {
			log.Fatal(err)
		}
		if err := os.RemoveAll(tmp); err != nil {
			log.Fatal(err)
		}
	}
}

func ExampleLedger_Erase() {
	l, _, done := personalLedger()
	defer done()
	ctx := context.Background()

	before, err := l.Get(ctx, 0)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(before.UserID, before.Details["tool"], before.Details["to"])

	receipt, err := l.Erase(ctx, audit.Erasure{Subject: "u-17", Reason: "request 2026-031", Authority: "data protection officer"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("erased:", receipt.Entries, "entry; receipt at", receipt.Receipt.Index)

	after, err := l.Get(ctx, 0)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(after.Withheld.UserID, after.Withheld.Details, after.Details["tool"])
	// Output:
	// u-17 mail someone@example.org
	// erased: 1 entry; receipt at 1
	// erased erased mail
}

func ExampleLedger_Hold() {
	l, _, done := personalLedger()
	defer done()
	ctx := context.Background()

	hold, _, err := l.Hold(ctx, audit.Hold{ID: "case-17", AgentID: "planner", Reason: "lawsuit"})
	if err != nil {
		log.Fatal(err)
	}
	_, err = l.Erase(ctx, audit.Erasure{Subject: "u-17"})
	var held *audit.HeldError
	fmt.Println(errors.As(err, &held), err)

	if _, err := l.Release(ctx, audit.Release{ID: hold.ID, Reason: "settled"}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(l.Holds()), "holds")
	// Output:
	// true audit: erase: held by hold case-17 (lawsuit)
	// 0 holds
}

func ExampleOpenReaderWith() {
	l, dir, done := personalLedger()
	defer done()
	if err := l.Flush(context.Background()); err != nil {
		log.Fatal(err)
	}

	// An auditor who gets a copy of the ledger does not get the keys.
	r, err := audit.OpenReaderWith(dir, audit.ReaderConfig{WithoutKeys: true})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	e, err := r.Get(context.Background(), 0)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(e.Withheld.UserID, e.Withheld.Details, e.Details)
	// Output: encrypted encrypted map[tool:mail]
}

func ExampleTechnicalDetails() {
	fmt.Println(audit.TechnicalDetails()[:3])
	// Output: [tool provider model]
}

func ExampleAppendable() {
	err := audit.Appendable(audit.Entry{
		ID: "01HZY3V9T5XKQ2M4N6P8R0S1T2", Time: time.Date(2026, 3, 9, 14, 5, 0, 0, time.UTC),
		AgentID: "kaizen", Action: "ledger.erasure", Result: audit.Success,
	})
	fmt.Println(err)
	// Output: audit: entry: action: begins with "ledger.", which the ledger keeps for itself under the agent "kaizen"
}
