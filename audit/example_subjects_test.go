package audit_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/kaizen-go/kaizen/audit"
)

// memory stands for a ledger in a database: lines go in, entries come out.
type memory struct{ lines [][]byte }

func (m *memory) Origin() string               { return "example.org/agents" }
func (m *memory) Flush(context.Context) error  { return nil }
func (m *memory) Checkpoint() audit.Checkpoint { return audit.Checkpoint{Size: int64(len(m.lines))} }
func (m *memory) Proof(int64) (audit.Proof, error) {
	return audit.Proof{}, errors.New("no proofs here")
}

func (m *memory) append(e audit.Entry) error {
	line, err := audit.EncodeLine(nil, e)
	m.lines = append(m.lines, line)
	return err
}

func (m *memory) AppendSystem(_ context.Context, e audit.Entry) (audit.Receipt, error) {
	e.AgentID, e.Result = "kaizen", audit.Success
	e.ID, e.Time = fmt.Sprintf("01HZY3V9T5XKQ2M4N6P8R0S1%02d", len(m.lines)), time.Date(2026, 3, 9, 14, 5, 6, 0, time.UTC)
	return audit.Receipt{Index: int64(len(m.lines))}, m.append(e)
}

func (m *memory) Get(_ context.Context, i int64) (audit.Entry, error) {
	e, err := audit.DecodeLine(m.lines[i])
	e.Index = i
	return e, err
}

func (m *memory) Query(ctx context.Context, q audit.Query) iter.Seq2[audit.Entry, error] {
	return func(yield func(audit.Entry, error) bool) {
		for i := range m.lines {
			e, err := m.Get(ctx, int64(i))
			if (q.Action == "" || q.Action == e.Action) && !yield(e, err) {
				return
			}
		}
	}
}

func (m *memory) Count(ctx context.Context, q audit.Query) (n int64, err error) {
	for _, err := range m.Query(ctx, q) {
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// A backend encrypts what belongs to a person before it stores it.
func ExampleOpenSubjects() {
	dir, err := os.MkdirTemp("", "keys")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx, store := context.Background(), &memory{}
	subjects, err := audit.OpenSubjects(ctx, store, audit.SubjectsConfig{KeyFile: filepath.Join(dir, "audit.key")})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer subjects.Close()
	admitted, err := subjects.Admit(ctx, []audit.Entry{{
		ID: "01HZY3V9T5XKQ2M4N6P8R0S1T2", Time: time.Date(2026, 3, 9, 14, 5, 6, 0, time.UTC), AgentID: "planner", Action: "mail", Result: audit.Success,
		Subject: "ada", Details: map[string]any{"to": "ada@example.com"},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, e := range admitted {
		if err := store.append(e); err != nil {
			fmt.Println(err)
		}
	}
	last := int64(len(store.lines) - 1)
	stored, err := store.Get(ctx, last)
	fmt.Println(stored.Subject != "ada", stored.Details["to"], err)
	shown, err := subjects.Get(ctx, last)
	fmt.Println(shown.Subject, shown.Details["to"], err)
	// Output:
	// true <nil> <nil>
	// ada ada@example.com <nil>
}
