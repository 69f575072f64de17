package hook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/internal/runctx"
	"github.com/kaizen-go/kaizen/price"
)

// register adds r with a deadline that a busy machine does not miss.
func register(t *testing.T, reg *hook.Registry, r hook.Registration) {
	t.Helper()
	r.Timeout = time.Minute
	if err := reg.Register(r); err != nil {
		t.Fatal(err)
	}
}

func nothing(context.Context, *hook.Op) error { return nil }

// allPayloads has one of each kind, with secret in every text that is content.
func allPayloads(secret string) []hook.Payload {
	raw := json.RawMessage(`["` + secret + `"]`)
	return []hook.Payload{
		&hook.RunInfo{Input: secret, Output: secret, StopReason: "answer"},
		&hook.Iteration{Number: 1},
		&hook.Plan{Task: secret, Steps: 2},
		&hook.ModelCall{Model: "m", Input: raw, Output: raw, System: raw, Usage: price.Usage{Input: 1}, HasUsage: true, FirstChunk: time.Second},
		&hook.Tool{Name: "t", Arguments: secret, Result: secret, Description: secret},
		&hook.MemoryLoad{Store: "window", Records: 3},
		&hook.MemorySave{Store: "window", Records: 3},
		&hook.CheckpointSave{CheckpointID: secret},
		&hook.CheckpointLoad{CheckpointID: secret},
		&hook.Permission{Action: "tool:t", Decision: "deny", By: secret, Reason: secret},
		&hook.Interrupt{Mode: "graceful", Source: secret, Reason: secret},
		&hook.Specialist{Agent: "s", Pattern: "supervisor"},
		&hook.Handoff{From: "a", To: "b", Reason: secret},
		&hook.ErrorInfo{Where: "memory"},
		&hook.Guard{Guard: "loop", Action: "stop", Reason: secret},
	}
}

// TestLogNeverWritesValues, at any level, for any kind of event.
func TestLogNeverWritesValues(t *testing.T) {
	const secret = "the-content"
	var buf bytes.Buffer
	reg := hook.New(hook.Config{})
	logger := slog.New(slog.NewJSONHandler(&buf, &slog.HandlerOptions{Level: slog.LevelDebug}))
	register(t, reg, hook.Log(logger))
	payloads := allPayloads(secret)
	if len(payloads) != len(hook.Kinds()) {
		t.Fatalf("%d payloads for %d kinds", len(payloads), len(hook.Kinds()))
	}
	for _, p := range payloads {
		_ = reg.Do(t.Context(), p, func(context.Context, *hook.Op) error { return errors.New(secret) })
	}
	if strings.Contains(buf.String(), secret) {
		t.Errorf("a value was logged:\n%s", buf.String())
	}
	if got, want := strings.Count(buf.String(), "\n"), 2*len(payloads); got != want {
		t.Errorf("%d lines, want %d", got, want)
	}
	if s := reg.Stats()[0]; s.Errors+s.Panics != 0 {
		t.Errorf("stats = %+v", s)
	}
}

func TestLogLine(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want map[string]any // of the line for the end
	}{
		{"success", nil, map[string]any{"level": "INFO", "status": "ok"}},
		{"error", errors.New("x"), map[string]any{"level": "ERROR", "status": "error", "error_type": "*errors.errorString"}},
		{"denied", &hook.DeniedError{}, map[string]any{"level": "WARN", "status": "denied", "error_type": "*hook.DeniedError"}},
		{"cancelled", context.Canceled, map[string]any{"level": "INFO", "status": "cancelled", "error_type": "*errors.errorString"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var buf bytes.Buffer
				reg := hook.New(hook.Config{})
				register(t, reg, hook.Log(slog.New(slog.NewJSONHandler(&buf, nil))))
				ctx := runctx.With(t.Context(), hook.Run{RunID: "r", AgentID: "a", AgentName: "A", UserID: "person"})
				var id hook.ID
				_ = reg.Do(ctx, &hook.Tool{Name: "search", Arguments: "x"}, func(_ context.Context, op *hook.Op) error {
					id = op.ID()
					time.Sleep(3 * time.Second / 2)
					return tt.err
				})
				want := map[string]any{
					"msg": "hook event", "kind": "tool", "phase": "end", "op": float64(id), "parent": 0.0, "name": "search",
					"run_id": "r", "agent_id": "a", "agent_name": "A", "duration_ms": 1500.0, "fields": []any{"name", "arguments"},
				}
				for k, v := range tt.want {
					want[k] = v
				}
				var got map[string]any
				if err := json.Unmarshal(buf.Bytes(), &got); err != nil { // one line: a start is at Debug
					t.Fatal(err)
				}
				delete(got, "time")
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("line (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestCost(t *testing.T) {
	var cost hook.Cost
	reg := hook.New(hook.Config{})
	register(t, reg, cost.Registration())
	call := func(ctx context.Context, c hook.ModelCall, err error) {
		_ = reg.Do(ctx, &c, func(context.Context, *hook.Op) error { return err })
	}
	ada := runctx.With(t.Context(), hook.Run{AgentID: "1", AgentName: "ada"})
	call(ada, hook.ModelCall{Model: "m", ResponseModel: "m-1", CostNanoUSD: 100, Priced: true, Usage: price.Usage{Input: 10, Output: 1}, HasUsage: true}, nil)
	// A failed call costs too; one without a price is not free.
	call(ada, hook.ModelCall{Model: "n", CostNanoUSD: 20, Priced: true}, errors.New("cut"))
	err := reg.Do(ada, &hook.Tool{Name: "outer"}, func(ctx context.Context, _ *hook.Op) error {
		return reg.Do(ctx, &hook.Tool{Name: "ask"}, func(ctx context.Context, _ *hook.Op) error {
			ctx = runctx.With(ctx, hook.Run{AgentID: "2"})
			return reg.Do(ctx, &hook.RunInfo{CostNanoUSD: 999}, func(ctx context.Context, _ *hook.Op) error {
				call(ctx, hook.ModelCall{Model: "m-1", Usage: price.Usage{Input: 5}, HasUsage: true}, nil)
				call(ctx, hook.ModelCall{Model: "m-1", CostNanoUSD: 3, Priced: true, Usage: price.Usage{Reasoning: 2}, HasUsage: true}, nil)
				return nil
			})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	inTool := hook.CostSum{Calls: 2, Unpriced: 1, NanoUSD: 3, Usage: price.Usage{Input: 5, Reasoning: 2}}
	want := hook.CostSnapshot{
		Total: hook.CostSum{Calls: 4, Unpriced: 1, Unmetered: 1, NanoUSD: 123, Usage: price.Usage{Input: 15, Output: 1, Reasoning: 2}},
		ByAgent: map[string]hook.CostSum{
			"ada": {Calls: 2, Unmetered: 1, NanoUSD: 120, Usage: price.Usage{Input: 10, Output: 1}},
			"2":   inTool,
		},
		ByModel: map[string]hook.CostSum{
			"m-1": {Calls: 3, Unpriced: 1, NanoUSD: 103, Usage: price.Usage{Input: 15, Output: 1, Reasoning: 2}},
			"n":   {Calls: 1, Unmetered: 1, NanoUSD: 20},
		},
		ByTool: map[string]hook.CostSum{"ask": inTool},
	}
	got := cost.Snapshot()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("snapshot (-want +got):\n%s", diff)
	}
	got.ByTool["ask"] = hook.CostSum{} // a snapshot is a copy
	if diff := cmp.Diff(want, cost.Reset()); diff != "" {
		t.Errorf("reset (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(hook.CostSnapshot{}, cost.Snapshot()); diff != "" {
		t.Errorf("after the reset (-want +got):\n%s", diff)
	}
	call(ada, hook.ModelCall{Model: "m", CostNanoUSD: 1, Priced: true, HasUsage: true}, nil)
	if got := cost.Snapshot().ByAgent["ada"].NanoUSD; got != 1 {
		t.Errorf("after the reset ada cost %d, want 1", got)
	}
}

// TestSeriesAreBounded: names that a model makes up do not fill the memory, and
// nothing is lost from the sums.
func TestSeriesAreBounded(t *testing.T) {
	var cost hook.Cost
	var prof hook.Profiler
	reg := hook.New(hook.Config{})
	for _, r := range []hook.Registration{cost.Registration(), prof.Registration()} {
		register(t, reg, r)
	}
	const n = 1010
	for i := range n {
		if err := reg.Do(t.Context(), &hook.ModelCall{Model: fmt.Sprint(i), CostNanoUSD: 1, Priced: true}, nothing); err != nil {
			t.Fatal(err)
		}
	}
	s := cost.Snapshot()
	if len(s.ByModel) != 1001 || s.ByModel[hook.OtherSeries].NanoUSD != 10 || s.Total.NanoUSD != n {
		t.Errorf("%d models, %+v of others, total %+v", len(s.ByModel), s.ByModel[hook.OtherSeries], s.Total)
	}
	total := int64(0)
	profiles := prof.Snapshot()
	for _, p := range profiles {
		total += p.Count
	}
	if len(profiles) != 1001 || total != n {
		t.Errorf("%d profiles of %d operations, want 1001 of %d", len(profiles), total, n)
	}
}

func TestProfiler(t *testing.T) {
	ms := func(f float64) time.Duration { return time.Duration(f * float64(time.Millisecond)) }
	tests := []struct {
		name      string
		durations []time.Duration
		want      hook.Profile
	}{
		{"one", []time.Duration{ms(5)},
			hook.Profile{Count: 1, Mean: ms(5), Min: ms(5), Max: ms(5), P50: ms(5), P95: ms(5), P99: ms(5), Window: 1}},
		{"two", []time.Duration{ms(10), ms(0)},
			hook.Profile{Count: 2, Mean: ms(5), Min: 0, Max: ms(10), P50: ms(5), P95: ms(9.5), P99: ms(9.9), Window: 2}},
		{"1 to 100", upTo(100),
			hook.Profile{Count: 100, Mean: ms(50.5), Min: ms(1), Max: ms(100), P50: ms(50.5), P95: ms(95.05), P99: ms(99.01), Window: 100}},
		// Of 2,048 the latest half count: 1,025 to 2,048.
		{"a full window", upTo(2048),
			hook.Profile{Count: 2048, Mean: ms(1024.5), Min: ms(1), Max: ms(2048), P50: ms(1536.5), P95: ms(1996.85), P99: ms(2037.77), Window: 1024}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var prof hook.Profiler
				reg := hook.New(hook.Config{})
				register(t, reg, prof.Registration())
				for _, d := range tt.durations {
					_ = reg.Do(t.Context(), &hook.Tool{Name: "t"}, func(context.Context, *hook.Op) error { time.Sleep(d); return nil })
				}
				tt.want.Kind, tt.want.Label = hook.KindTool, "t"
				if diff := cmp.Diff([]hook.Profile{tt.want}, prof.Snapshot()); diff != "" {
					t.Errorf("snapshot (-want +got):\n%s", diff)
				}
				prof.Reset()
				if got := prof.Snapshot(); len(got) != 0 {
					t.Errorf("after the reset: %+v", got)
				}
			})
		})
	}
}

func upTo(n int) []time.Duration {
	var ds []time.Duration
	for i := range n {
		ds = append(ds, time.Duration(i+1)*time.Millisecond)
	}
	return ds
}

// TestProfilerPairsStartAndEnd: parallel calls of one tool are not mixed up,
// and failed ones count.
func TestProfilerPairsStartAndEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var prof hook.Profiler
		reg := hook.New(hook.Config{})
		register(t, reg, prof.Registration())
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				_ = reg.Do(t.Context(), &hook.Tool{Name: "t"}, func(context.Context, *hook.Op) error {
					time.Sleep(time.Duration(i+1) * time.Second)
					return errors.New("failed")
				})
			})
		}
		wg.Wait()
		p := prof.Snapshot()[0]
		if p.Count != 3 || p.Min != time.Second || p.P50 != 2*time.Second || p.Max != 3*time.Second {
			t.Errorf("profile = %+v, want 1, 2 and 3 seconds", p)
		}
	})
}

// TestBuiltinsAtOnce: 100 goroutines lose nothing.
func TestBuiltinsAtOnce(t *testing.T) {
	var cost hook.Cost
	var prof hook.Profiler
	reg := hook.New(hook.Config{})
	for _, r := range []hook.Registration{cost.Registration(), prof.Registration(), hook.Log(slog.New(slog.DiscardHandler))} {
		register(t, reg, r)
	}
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			for range 10 {
				_ = reg.Do(t.Context(), &hook.ModelCall{Model: "m", CostNanoUSD: 1, Priced: true}, nothing)
				cost.Snapshot()
				prof.Snapshot()
			}
		})
	}
	wg.Wait()
	if got := cost.Snapshot().Total.NanoUSD; got != 1000 {
		t.Errorf("cost = %d, want 1000", got)
	}
	if got := prof.Snapshot()[0].Count; got != 1000 {
		t.Errorf("operations = %d, want 1000", got)
	}
}

func ExampleCost() {
	var cost hook.Cost
	reg := hook.New(hook.Config{})
	if err := reg.Register(cost.Registration()); err != nil {
		fmt.Println(err)
		return
	}
	call := &hook.ModelCall{Model: "small"}
	err := reg.Do(context.Background(), call, func(_ context.Context, op *hook.Op) error {
		op.Update(func(hook.Payload) {
			call.Usage, call.HasUsage = price.Usage{Input: 1000, Output: 50}, true
			call.CostNanoUSD, call.Priced = 230_000, true
		})
		return nil
	})
	s := cost.Snapshot()
	fmt.Println(err, s.Total.Usage.Total(), "tokens,", s.ByModel["small"].NanoUSD, "nano-dollars")
	// Output: <nil> 1050 tokens, 230000 nano-dollars
}

func ExampleProfiler() {
	var prof hook.Profiler
	reg := hook.New(hook.Config{})
	if err := reg.Register(prof.Registration()); err != nil {
		fmt.Println(err)
		return
	}
	_ = reg.Do(context.Background(), &hook.Tool{Name: "search"}, func(context.Context, *hook.Op) error { return nil })
	for _, p := range prof.Snapshot() {
		fmt.Println(p.Kind, p.Label, p.Count, p.P95 == p.Max)
	}
	// Output: tool search 1 true
}

func ExampleLog() {
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		switch a.Key {
		case "time", "op", "duration_ms": // differ from run to run
			return slog.Attr{}
		}
		return a
	}}))
	reg := hook.New(hook.Config{})
	lines := hook.Log(logger)
	lines.Timeout = time.Minute // standard output may keep its writer waiting
	if err := reg.Register(lines); err != nil {
		fmt.Println(err)
		return
	}
	_ = reg.Do(context.Background(), &hook.Tool{Name: "search", Arguments: "secret"}, func(context.Context, *hook.Op) error { return nil })
	// Output: level=INFO msg="hook event" kind=tool phase=end parent=0 name=search status=ok fields="[name arguments]"
}
