package agentlog_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/kaizen-go/kaizen/agentlog"
)

// withoutTime drops the time, which differs from run to run.
type withoutTime struct{}

func (withoutTime) Write(p []byte) (int, error) {
	_, rest, _ := bytes.Cut(p, []byte(`,`))
	fmt.Printf("{%s", rest)
	return len(p), nil
}

func ExampleNew() {
	logs, err := agentlog.New(agentlog.Config{Sinks: []agentlog.Sink{agentlog.NewStream(withoutTime{})}})
	if err != nil {
		fmt.Println(err)
		return
	}
	logger := logs.Logger("planner")
	logger.Info("tool called", "tool", "search", "api_key", "k-123")
	logs.SetLevel("planner", slog.LevelError)
	logger.Info("not written")
	agentlog.Critical(context.Background(), logger, "out of budget")
	fmt.Println(logs.Close(context.Background()), logs.Stats().Written)
	// Output:
	// {"level":"info","message":"tool called","logger":"planner","context":{"tool":"search","api_key":"[REDACTED:field]"}}
	// {"level":"critical","message":"out of budget","logger":"planner"}
	// <nil> 2
}

func ExampleOpenFile() {
	dir, err := os.MkdirTemp("", "agentlog")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	file, err := agentlog.OpenFile(filepath.Join(dir, "agents.log"), agentlog.FileConfig{MaxBytes: 10 << 20})
	if err != nil {
		fmt.Println(err)
		return
	}
	logs, err := agentlog.New(agentlog.Config{Sinks: []agentlog.Sink{file}})
	if err != nil {
		fmt.Println(err)
		return
	}
	logs.Logger("planner").Info("started")
	fmt.Println(logs.Close(context.Background()), file.Stats().Lines)
	// Output: <nil> 1
}

func ExampleNewElastic() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println(r.URL.Path, r.Header.Get("Content-Type"))
		_, _ = io.WriteString(w, `{"items":[{"create":{"status":201}}]}`)
	}))
	defer server.Close()
	elastic, err := agentlog.NewElastic(agentlog.ElasticConfig{URL: server.URL, APIKey: "aWQ6a2V5"})
	if err != nil {
		fmt.Println(err)
		return
	}
	logs, err := agentlog.New(agentlog.Config{Sinks: []agentlog.Sink{elastic}})
	if err != nil {
		fmt.Println(err)
		return
	}
	logs.Logger("planner").Info("started")
	fmt.Println(logs.Close(context.Background()), elastic.Stats().Sent)
	// Output:
	// /logs-kaizen-default/_bulk application/x-ndjson
	// <nil> 1
}

func ExampleLevelName() {
	fmt.Println(agentlog.LevelName(slog.LevelWarn), agentlog.LevelName(slog.LevelError), agentlog.LevelName(agentlog.LevelCritical))
	// Output: warning error critical
}
