// Package agentlog is an [slog.Handler] for programs that run agents. Each
// line carries the ids of the run, the span and the agent that it belongs to,
// taken from the context; secrets are removed; and nothing that is logged can
// fail or panic the program that logs it.
//
// The shortest use:
//
//	logs, err := agentlog.New(agentlog.Config{})
//	if err != nil { … }
//	defer logs.Close(ctx)
//	logs.Logger("planner").InfoContext(ctx, "tool called", "tool", "search")
//
// A line is one JSON object:
//
//	{"timestamp":"2026-01-02T15:04:05.123456789Z","level":"info","message":"tool called","logger":"planner",
//	 "trace_id":"…","span_id":"…","agent_id":"…","session_id":"…","run_id":"…","user_id":"…","context":{"tool":"search"}}
//
// of which only those ids are there that are known. [FormatECS] writes the
// names of the Elastic Common Schema, [FormatText] a line for people.
//
// Lines go to sinks: [NewStream] writes to an [io.Writer], [OpenFile] to a file
// that is rotated, [NewElastic] to Elasticsearch or OpenSearch; whoever
// implements [Sink] adds another.
package agentlog
