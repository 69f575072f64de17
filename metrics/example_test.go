package metrics_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/kaizen-go/kaizen/metrics"
)

func ExampleNew() {
	m, err := metrics.New(metrics.Config{NoRuntime: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	ex := metrics.ExemplarFrom(context.Background()) // of the span in the context, if any
	m.Count(metrics.ToolCalls, "planner", "search", metrics.StatusOK)
	m.Observe(metrics.ToolCallDuration, 0.2, ex, "planner", "search", metrics.StatusOK)
	fmt.Println(m.Value("kaizen_tool_calls_total", "agent", "planner", "tool", "search", "status", "ok"))
	// Output: 1 true
}

func ExampleMetrics_Counter() {
	m, err := metrics.New(metrics.Config{NoRuntime: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	m.Counter("orders_total", "shop", "north").Add(2)
	m.Counter("orders_total", "shop", "north").Add(-1) // refused and counted
	fmt.Println(m.Value("orders_total", "shop", "north"))
	fmt.Println(m.Gauge("orders_total", "shop", "north").Err())
	// Output:
	// 2 true
	// metrics: define "orders_total": the name is a counter, not a gauge: refused
}

func ExampleMetrics_Percentile() {
	m, err := metrics.New(metrics.Config{NoRuntime: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	latency := m.Timer("lookup_duration_seconds")
	for i := 1; i <= 100; i++ {
		latency.ObserveDuration(time.Duration(i) * time.Second)
	}
	p95, ok := m.Percentile("lookup_duration_seconds", 0.95)
	fmt.Printf("%.2f %v\n", p95, ok)
	// Output: 95.05 true
}

func ExampleMetrics_Handler() {
	m, err := metrics.New(metrics.Config{NoRuntime: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	m.Count(metrics.Plans, "planner", metrics.StatusOK)
	page := httptest.NewRecorder()
	m.Handler(metrics.HandlerConfig{}).ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(page.Body.String()) {
		if strings.Contains(line, "kaizen_plans_total") {
			fmt.Print(line)
		}
	}
	// Output:
	// # HELP kaizen_plans_total Planning steps that ended.
	// # TYPE kaizen_plans_total counter
	// kaizen_plans_total{agent="planner",status="ok"} 1
}

func ExampleFamilies() {
	for _, f := range metrics.Families() {
		if f.Name == "kaizen_model_tokens_total" {
			fmt.Println(f.Type, f.Labels)
		}
	}
	// Output: counter [agent provider model kind]
}
