package kaizentest

import (
	"encoding/json"
	"fmt"
	"strings"
)

// object is a JSON object in the making; its keys are written in order of name.
type object = map[string]any

// mustJSON encodes what this package made itself.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("kaizentest: encode an answer: %v (are a tool call's Arguments JSON?)", err))
	}
	return b
}

// event is a server-sent event; without a name it has only data.
func event(name string, v any) []byte {
	data := mustJSON(v)
	if name == "" {
		return fmt.Appendf(nil, "data: %s\n\n", data)
	}
	return fmt.Appendf(nil, "event: %s\ndata: %s\n\n", name, data)
}

// pieces cuts a text behind its spaces, as a model streams it.
func pieces(text string) []string {
	return strings.SplitAfter(text, " ")
}

// halves cuts arguments in two, so that clients have to join them.
func halves(arguments json.RawMessage) []string {
	s := string(arguments)
	return []string{s[:len(s)/2], s[len(s)/2:]}
}

// textOf reads content that is a string or a list of parts with a text.
func textOf(raw json.RawMessage) (string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return "", nil
	}
	var s string
	if raw[0] == '"' {
		err := json.Unmarshal(raw, &s)
		return s, err
	}
	var parts []struct {
		Text    string `json:"text"`
		Refusal string `json:"refusal"`
	}
	if err := json.Unmarshal(raw, &parts); err != nil {
		return "", fmt.Errorf("content is neither text nor a list of parts: %w", err)
	}
	var texts []string
	for _, p := range parts {
		if p.Text+p.Refusal != "" {
			texts = append(texts, p.Text+p.Refusal)
		}
	}
	return strings.Join(texts, "\n"), nil
}

// join puts b behind a on a line of its own.
func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "\n" + b
}
