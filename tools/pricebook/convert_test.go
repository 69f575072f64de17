package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestConvert(t *testing.T) {
	raw := `[{"id":"x-ai","name":"X","api_pattern":"https://api\\.x\\.ai(?:/|$)","provider_match":{"equals":"xai"},
		"fallback_model_providers":["x-ai"],
		"models":[
		 {"id":"a","match":{"and":[{"starts_with":"a"},{"regex":"^(?!.*-[tT][tT][sS](?:$|-))"}]},
		  "prices":{"input_mtok":{"base":0.08333333333333334,"tiers":[{"start":5,"price":100}]},"web_searches_kcount":5}},
		 {"id":"b","match":{"equals":"b"},"prices":[{"prices":{"input_mtok":1}},
		  {"constraint":{"type":"start_date","start_date":"2026-08-17"},"prices":{"input_mtok":2}},
		  {"constraint":{"type":"time_of_date","start_time":"01:00:00Z","end_time":"04:00:00Z"},"prices":{"input_mtok":3}}]},
		 {"id":"c:free","match":{"equals":"c:free"},"prices":{}},
		 {"id":"d","match":{"equals":"d"},"prices":{"audio_hours":1}}]}]`
	book, err := convert([]byte(raw), "v")
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(book.Providers)
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"id":"x-ai","name":"x_ai","aliases":["xai"],"match":{"equals":"xai"},"hosts":[{"regex":"api\\.x\\.ai"}],"resells":["x-ai"],"models":[` +
		`{"id":"a","match":{"and":[{"starts_with":"a"},{"not":{"or":[{"ends_with":"-tts"},{"contains":"-tts-"}]}}]},"prices":[{"input":{"base":0.083333333,"tiers":[{"price":100,"start":5}]}}]},` +
		`{"id":"b","match":{"equals":"b"},"prices":[{"input":1},{"from":"2026-08-17","input":2},{"daily":["01:00:00","04:00:00"],"from":"2026-08-17","input":3}]},` +
		`{"id":"c:free","match":{"equals":"c:free"},"prices":[{"input":0,"output":0}]},` +
		`{"id":"d","match":{"equals":"d"},"prices":[]}]}]`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("convert (-want +got):\n%s", diff)
	}
}

func TestConvertRefuses(t *testing.T) {
	model := func(match, prices string) string {
		return `[{"id":"p","api_pattern":"https://p\\.test","models":[{"id":"m","match":` + match + `,"prices":` + prices + `}]}]`
	}
	tests := []struct{ name, raw, want string }{
		{"new look-ahead", model(`{"regex":"^(?!x)"}`, `{}`), "add it to the table rewritten"},
		{"new kind", model(`{"equals":"m"}`, `{"smell_mtok":1}`), `unknown kind "smell_mtok"`},
		{"new constraint", model(`{"equals":"m"}`, `[{"constraint":{"type":"weekday"},"prices":{}}]`), `unknown type "weekday"`},
		{"other zone", model(`{"equals":"m"}`, `[{"constraint":{"type":"time_of_date","start_time":"01:00:00+08:00","end_time":"02:00:00Z"},"prices":{}}]`), "not in UTC"},
		{"host by path", `[{"id":"p","api_pattern":"https://p\\.test/v1"}]`, "add it to the table hosts"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := convert([]byte(tt.raw), "v"); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("convert = %v, want an error with %q", err, tt.want)
			}
		})
	}
}
