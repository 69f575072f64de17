package llmhttp

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

func TestAskForUsage(t *testing.T) {
	tests := []struct{ name, body, want string }{
		{"no options", `{"model":"m","stream":true}`, `{"stream_options":{"include_usage":true},"model":"m","stream":true}`},
		{"spaces are kept", " { \"model\" : \"m\" }\n", " {\"stream_options\":{\"include_usage\":true}, \"model\" : \"m\" }\n"},
		{"other options", `{"stream_options":{"include_obfuscation":false},"model":"m"}`, `{"stream_options":{"include_usage":true,"include_obfuscation":false},"model":"m"}`},
		{"empty options", `{"model":"m","stream_options": { }}`, `{"model":"m","stream_options": {"include_usage":true }}`},
		{"options that are null", `{"model":"m","stream_options": null}`, `{"model":"m","stream_options": {"include_usage":true}}`},
		{"not wanted", `{"model":"m","stream_options":{"a":1,"include_usage": false}}`, `{"model":"m","stream_options":{"a":1,"include_usage": true}}`},
		{"asked already", `{"model":"m","stream_options":{"include_usage":true}}`, ""},
		{"twice", `{"stream_options":{},"stream_options":{}}`, ""},
		{"not an object", `{"stream_options":1}`, ""},
		{"a word that is none", `{"stream_options":{"include_usage":"yes"}}`, ""},
		{"an empty object", `{}`, ""},
		{"a list", `["model"]`, ""},
		{"not JSON", `{"model":`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := askForUsage([]byte(tt.body))
			if string(got) != tt.want || ok != (tt.want != "") {
				t.Errorf("askForUsage = %s, %t, want %s", got, ok, tt.want)
			}
		})
	}
}

// FuzzAskForUsage: what comes out is the same object, but that it asks.
func FuzzAskForUsage(f *testing.F) {
	for _, s := range []string{`{"model":"m"}`, `{"stream_options":null,"b":[1]}`, `{"stream_options":{"include_usage":false}}`, ` {"a":{"stream_options":{}}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		out, ok := askForUsage(body)
		if !ok {
			return
		}
		var before, after map[string]any
		if json.Unmarshal(body, &before) != nil {
			return // gjson is laxer than encoding/json
		}
		if err := json.Unmarshal(out, &after); err != nil {
			t.Fatalf("%q became %q: %v", body, out, err)
		}
		options, _ := after["stream_options"].(map[string]any)
		if options["include_usage"] != true {
			t.Fatalf("%q does not ask: %q", body, out)
		}
		delete(options, "include_usage")
		was, _ := before["stream_options"].(map[string]any)
		delete(was, "include_usage")
		if len(options) != len(was) {
			t.Fatalf("options %v became %v", was, options)
		}
		delete(before, "stream_options")
		delete(after, "stream_options")
		if !reflect.DeepEqual(before, after) {
			t.Fatalf("%q became %q", body, out)
		}
	})
}

const (
	textEvent  = `data: {"id":"i","model":"m","choices":[{"index":0,"delta":{"content":"hello"},"finish_reason":"stop"}],"usage":null}` + "\n\n"
	usageEvent = `data: {"id":"i","model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}` + "\n\n"
	azureEvent = `data: {"choices":[],"id":"","prompt_filter_results":[{"prompt_index":0}]}` + "\n\n"
	bothEvent  = `data: {"choices":[{"index":0,"delta":{}}],"usage":{"prompt_tokens":3}}` + "\n\n"
	doneEvent  = "data: [DONE]\n\n"
)

func TestHideUsage(t *testing.T) {
	long := `data: {"choices":[],"usage":{"pad":"` + strings.Repeat("x", 2*maxUsageEvent) + `"}}` + "\n\n"
	tests := []struct{ name, stream, want string }{
		{"the usage", textEvent + usageEvent + doneEvent, textEvent + doneEvent},
		{"CR LF", strings.ReplaceAll(textEvent+usageEvent+doneEvent, "\n", "\r\n"), strings.ReplaceAll(textEvent+doneEvent, "\n", "\r\n")},
		{"at the end, cut off", textEvent + strings.TrimSpace(usageEvent), textEvent},
		{"cut in the middle", textEvent + usageEvent[:40], textEvent + usageEvent[:40]},
		{"Azure's first event", azureEvent + textEvent + doneEvent, azureEvent + textEvent + doneEvent},
		{"usage beside choices", bothEvent + doneEvent, bothEvent + doneEvent},
		{"comments and names", ": ping\n\nevent: x\n" + textEvent + usageEvent, ": ping\n\nevent: x\n" + textEvent},
		{"too long to be it", long + doneEvent, long + doneEvent},
		{"nothing", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for name, r := range map[string]io.Reader{
				"whole": strings.NewReader(tt.stream), "bytes": iotest.OneByteReader(strings.NewReader(tt.stream)), "data with the end": iotest.DataErrReader(strings.NewReader(tt.stream)),
			} {
				got, err := io.ReadAll(&withoutUsage{ReadCloser: io.NopCloser(r)})
				if err != nil || string(got) != tt.want {
					t.Errorf("%s: %.300q, %v, want %.300q", name, got, err, tt.want)
				}
			}
			// An error comes after all that was read before it.
			got, err := io.ReadAll(&withoutUsage{ReadCloser: io.NopCloser(io.MultiReader(strings.NewReader(tt.stream), iotest.ErrReader(io.ErrUnexpectedEOF)))})
			if err != io.ErrUnexpectedEOF || string(got) != tt.want {
				t.Errorf("with an error: %.300q, %v", got, err)
			}
		})
	}
}

// FuzzHideUsage: however a stream is cut, what is left is its events in order
// without those that are the usage.
func FuzzHideUsage(f *testing.F) {
	f.Add([]byte(textEvent+usageEvent+doneEvent), uint8(3))
	f.Add([]byte("\n\n\r\n"+usageEvent+usageEvent+": x\n\n"), uint8(1))
	f.Fuzz(func(t *testing.T, stream []byte, step uint8) {
		var want []byte
		for rest := stream; len(rest) > 0; {
			event := firstEvent(rest)
			if !isUsage(event) || len(event) > maxUsageEvent {
				want = append(want, event...)
			}
			rest = rest[len(event):]
		}
		got, err := io.ReadAll(&withoutUsage{ReadCloser: io.NopCloser(&stepReader{stream, int(step) + 1})})
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%q in steps of %d: %q, want %q (%v)", stream, step, got, want, err)
		}
	})
}

// firstEvent is what stands before and at the first empty line.
func firstEvent(b []byte) []byte {
	for i := 0; ; {
		j := bytes.IndexByte(b[i:], '\n')
		if j < 0 {
			return b
		}
		line := b[i : i+j]
		i += j + 1
		if len(bytes.Trim(line, "\r")) == 0 {
			return b[:i]
		}
	}
}

type stepReader struct {
	b    []byte
	step int
}

func (r *stepReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(r.step, len(p))], r.b)
	r.b = r.b[n:]
	return n, nil
}

// TestInjectStreamUsage: the server is asked, the observer knows, the caller
// gets what a server sends that was not asked.
func TestInjectStreamUsage(t *testing.T) {
	const asked = `{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}`
	tests := []struct {
		name, path, body string
		header           [2]string
		kind             string
		changed          bool
	}{
		{"a stream", "/chat/completions", asked, [2]string{}, "text/event-stream; charset=utf-8", true},
		{"asked by the caller", "/chat/completions", `{"stream_options":{"include_usage":true},` + asked[1:], [2]string{}, "text/event-stream", false},
		{"no stream", "/chat/completions", strings.Replace(asked, "true", "false", 1), [2]string{}, "application/json", false},
		{"another format", "/messages", `{"max_tokens":1,` + asked[1:], [2]string{}, "text/event-stream", false},
		{"encoded by the caller's wish", "/chat/completions", asked, [2]string{"Accept-Encoding", "gzip"}, "text/event-stream", false},
		{"signed", "/chat/completions", asked, [2]string{"Content-Digest", "sha-256=:x:"}, "text/event-stream", false},
	}
	for _, tt := range tests {
		for _, rewindable := range []bool{true, false} {
			t.Run(tt.name, func(t *testing.T) {
				var rec recorder
				var sent *http.Request
				var got []byte
				stream := textEvent + usageEvent + doneEvent
				base := roundTripper(func(r *http.Request) (*http.Response, error) {
					var err error
					if sent = r; r.GetBody != nil {
						body, err := r.GetBody()
						if err != nil {
							return nil, err
						}
						again, err := io.ReadAll(body)
						if err != nil {
							return nil, err
						}
						defer func() {
							if !bytes.Equal(again, got) {
								t.Errorf("GetBody gives %s, Body %s", again, got)
							}
						}()
					}
					if got, err = io.ReadAll(r.Body); err != nil {
						return nil, err
					}
					resp := response(200, map[string]string{"Content-Type": tt.kind, "Content-Length": "999"}, []byte(stream))
					resp.ContentLength = 999
					return resp, r.Body.Close()
				})
				req, err := http.NewRequestWithContext(t.Context(), "POST", "https://api.openai.com/v1"+tt.path, strings.NewReader(tt.body))
				if err != nil {
					t.Fatal(err)
				}
				if tt.header[0] != "" {
					req.Header.Set(tt.header[0], tt.header[1])
				}
				if !rewindable {
					req.GetBody = nil
				}
				resp, err := Transport(base, &rec, Config{InjectStreamUsage: true}).RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				received, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Fatal(err)
				}
				wantSent, wantReceived, wantLength := tt.body, stream, int64(999)
				if tt.changed {
					wantSent, wantReceived, wantLength = `{"stream_options":{"include_usage":true},`+asked[1:], textEvent+doneEvent, -1
				}
				if string(got) != wantSent || sent.ContentLength != int64(len(wantSent)) || (sent.GetBody != nil) != rewindable {
					t.Errorf("sent was %s with length %d", got, sent.ContentLength)
				}
				if string(received) != wantReceived || resp.ContentLength != wantLength || (resp.Header.Get("Content-Length") == "") != tt.changed {
					t.Errorf("received was %q with length %d, %v", received, resp.ContentLength, resp.Header)
				}
				if req.ContentLength != int64(len(tt.body)) {
					t.Error("the caller's request was changed")
				}
				if r := rec.one(t); tt.changed && (!r.HasUsage || r.Usage.Input != 3 || r.Usage.Output != 2) {
					t.Errorf("usage = %+v, %t", r.Usage, r.HasUsage)
				}
			})
		}
	}
}
