package mcp_test

import (
	"context"
	"fmt"
	"io"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/providers/mcp"
)

// A client and a server in one process, both observed.
func Example() {
	ctx := context.Background()
	obs, err := kaizen.Start(ctx, kaizen.Config{SpoolDir: kaizen.NoSpool, LogWriter: io.Discard})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer obs.Shutdown(ctx)
	err = obs.Hooks().Register(hook.Registration{Name: "print", Timeout: time.Minute, Kinds: []hook.Kind{hook.KindTool}, Handler: hook.HandlerFunc(
		func(_ context.Context, e hook.Event) error {
			fmt.Println(e.Kind(), e.Payload.Label(), e.Phase)
			return nil
		})})
	if err != nil {
		fmt.Println(err)
		return
	}

	server := sdk.NewServer(&sdk.Implementation{Name: "sums", Version: "1"}, nil)
	type pair struct{ A, B int }
	sdk.AddTool(server, &sdk.Tool{Name: "add"}, func(_ context.Context, _ *sdk.CallToolRequest, p pair) (*sdk.CallToolResult, any, error) {
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: fmt.Sprint(p.A + p.B)}}}, nil, nil
	})
	client := sdk.NewClient(&sdk.Implementation{Name: "asker", Version: "1"}, nil)
	mcp.ObserveClient(client, mcp.Config{Observer: obs})
	mcp.ObserveServer(server, mcp.Config{Observer: obs})

	ct, st := sdk.NewInMemoryTransports()
	if _, err := server.Connect(ctx, st, nil); err != nil {
		fmt.Println(err)
		return
	}
	session, err := client.Connect(ctx, ct, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer session.Close()
	res, err := session.CallTool(ctx, &sdk.CallToolParams{Name: "add", Arguments: pair{2, 3}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(res.Content[0].(*sdk.TextContent).Text)
	// Output:
	// tool add start
	// tool add start
	// tool add end
	// tool add end
	// 5
}
