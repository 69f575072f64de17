package kaizentest

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"strings"

	"github.com/kaizen-go/kaizen/price"
)

// bedrock is Amazon's POST /model/ID/converse and /converse-stream.
type bedrock struct{}

type bedrockBlock struct {
	Text    string `json:"text"`
	ToolUse *struct {
		ID    string          `json:"toolUseId"`
		Name  string          `json:"name"`
		Input json.RawMessage `json:"input"`
	} `json:"toolUse"`
	ToolResult *struct {
		ID      string `json:"toolUseId"`
		Content []struct {
			Text string          `json:"text"`
			JSON json.RawMessage `json:"json"`
		} `json:"content"`
	} `json:"toolResult"`
}

func (bedrock) parse(r *http.Request, body []byte) (Request, error) {
	path, stream := strings.CutSuffix(r.URL.Path, "/converse-stream")
	path = strings.TrimSuffix(path, "/converse")
	_, model, _ := strings.Cut(path, "/model/")
	req := Request{Dialect: "bedrock.converse", Model: model, Stream: stream}
	var in struct {
		System   []bedrockBlock `json:"system"`
		Messages []struct {
			Role    string         `json:"role"`
			Content []bedrockBlock `json:"content"`
		} `json:"messages"`
		ToolConfig struct {
			Tools []struct {
				Spec struct {
					Name string `json:"name"`
				} `json:"toolSpec"`
			} `json:"tools"`
		} `json:"toolConfig"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return req, fmt.Errorf("the body is not the JSON of a Converse request: %w", err)
	}
	if model == "" || len(in.Messages) == 0 {
		return req, errors.New("a model in the path and messages are required")
	}
	for _, s := range in.System {
		req.System = join(req.System, s.Text)
	}
	for _, m := range in.Messages {
		msg := Message{Role: m.Role}
		for _, b := range m.Content {
			b.addTo(&msg)
		}
		req.Messages = append(req.Messages, msg)
	}
	for _, t := range in.ToolConfig.Tools {
		if t.Spec.Name != "" { // and not a cachePoint
			req.Tools = append(req.Tools, t.Spec.Name)
		}
	}
	return req, nil
}

func (b bedrockBlock) addTo(m *Message) {
	m.Text = join(m.Text, b.Text)
	if b.ToolUse != nil {
		m.ToolCalls = append(m.ToolCalls, ToolCall{ID: b.ToolUse.ID, Name: b.ToolUse.Name, Arguments: b.ToolUse.Input})
	}
	if b.ToolResult != nil {
		result := ToolResult{ID: b.ToolResult.ID}
		for _, c := range b.ToolResult.Content {
			result.Text = join(result.Text, c.Text+string(c.JSON))
		}
		m.ToolResults = append(m.ToolResults, result)
	}
}

// bedrockUsage has the input without what the cache read and wrote, and the
// output with its reasoning.
func bedrockUsage(u price.Usage) object {
	o := object{"inputTokens": u.Input, "outputTokens": u.Output, "totalTokens": u.Total(),
		"cacheReadInputTokens": u.CacheRead, "cacheWriteInputTokens": u.CacheWrite}
	if u.CacheWrite > 0 {
		o["cacheDetails"] = []any{
			object{"ttl": "5m", "inputTokens": u.CacheWrite - u.CacheWrite1h},
			object{"ttl": "1h", "inputTokens": u.CacheWrite1h},
		}
	}
	return o
}

func (bedrock) stopReason(a *answer) string {
	switch {
	case a.FinishReason != "":
		return a.FinishReason
	case len(a.ToolCalls) > 0:
		return "tool_use"
	}
	return "end_turn"
}

func (f bedrock) body(a *answer) []byte {
	content := []any{}
	if a.Text != "" || len(a.ToolCalls) == 0 {
		content = append(content, object{"text": a.Text})
	}
	for _, c := range a.ToolCalls {
		content = append(content, object{"toolUse": object{"toolUseId": c.ID, "name": c.Name, "input": c.Arguments}})
	}
	return mustJSON(object{
		"output":     object{"message": object{"role": "assistant", "content": content}},
		"stopReason": f.stopReason(a), "usage": bedrockUsage(a.Usage), "metrics": object{"latencyMs": 1},
	})
}

func (f bedrock) stream(a *answer) []frame {
	var frames []frame
	add := func(name string, v object) *frame {
		frames = append(frames, frame{data: amazonFrame(mustJSON(v), name)})
		return &frames[len(frames)-1]
	}
	delta := func(index int, d object) {
		add("contentBlockDelta", object{"contentBlockIndex": index, "delta": d, "p": "abcd"})
	}
	add("messageStart", object{"role": "assistant"})
	index := 0
	if a.Text != "" || len(a.ToolCalls) == 0 {
		for _, p := range pieces(a.Text) {
			delta(index, object{"text": p})
		}
		add("contentBlockStop", object{"contentBlockIndex": index})
		index++
	}
	for _, c := range a.ToolCalls {
		add("contentBlockStart", object{"contentBlockIndex": index, "start": object{"toolUse": object{"toolUseId": c.ID, "name": c.Name}}})
		for _, p := range halves(c.Arguments) {
			delta(index, object{"toolUse": object{"input": p}})
		}
		add("contentBlockStop", object{"contentBlockIndex": index}).tools = 1
		index++
	}
	add("messageStop", object{"stopReason": f.stopReason(a)})
	add("metadata", object{"usage": bedrockUsage(a.Usage), "metrics": object{"latencyMs": 1}}).told = &a.Usage
	return frames
}

// amazonFrame is an event in Amazon's framing: the lengths of the whole and of
// the headers, the CRC-32 of these, headers, payload, the CRC-32 of it all.
func amazonFrame(payload []byte, event string) []byte {
	var h []byte
	for _, header := range [][2]string{{":event-type", event}, {":content-type", "application/json"}, {":message-type", "event"}} {
		h = append(h, byte(len(header[0])))
		h = append(append(h, header[0]...), 7) // a text
		h = binary.BigEndian.AppendUint16(h, uint16(len(header[1])))
		h = append(h, header[1]...)
	}
	f := binary.BigEndian.AppendUint32(nil, uint32(12+len(h)+len(payload)+4))
	f = binary.BigEndian.AppendUint32(f, uint32(len(h)))
	f = binary.BigEndian.AppendUint32(f, crc32.ChecksumIEEE(f))
	f = append(append(f, h...), payload...)
	return binary.BigEndian.AppendUint32(f, crc32.ChecksumIEEE(f))
}

func (bedrock) failure(status int, message, _ string) []byte {
	kind := map[int]string{
		403: "AccessDeniedException", 404: "ResourceNotFoundException", 408: "ModelTimeoutException",
		424: "ModelErrorException", 429: "ThrottlingException", 503: "ServiceUnavailableException",
	}[status]
	switch {
	case kind != "":
	case status < 500:
		kind = "ValidationException"
	default:
		kind = "InternalServerException"
	}
	return mustJSON(object{"__type": kind, "message": message})
}
