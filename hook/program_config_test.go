//go:build unix

package hook

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// entry returns an entry of a file of programs; its program need not exist.
func entry(rest string) string {
	return `{"name":"guard","path":"/opt/guard","sha256":"` + strings.Repeat("ab", 32) + `"` + rest + `}`
}

func TestParsePrograms(t *testing.T) {
	tests := []struct {
		name, in string
		err      string // "" for success
	}{
		{"none", `[]`, ""},
		{"least", `[` + entry(``) + `]`, ""},
		{"all", `[` + entry(`,"args":["-v"],"kinds":["tool","model"],"phases":["start","end"],"priority":"critical","timeout":"2s",`+
			`"max_output_bytes":100,"env":["A=1"],"dir":"/tmp"`) + "]\n", ""},
		{"empty file", ``, "EOF"},
		{"an object", `{"programs":[]}`, "a list is expected"},
		{"cut", `[` + entry(``), "EOF"},
		{"two values", `[] []`, "more than one value"},
		{"not an object", `["x"]`, "an object is expected"},
		{"unknown field", `[` + entry(`,"shell":true`) + `]`, `program 1 ("guard"): field "shell": unknown field`},
		{"another case", `[` + entry(`,"Dir":"/"`) + `]`, `field "Dir": unknown field`},
		{"field twice", `[` + entry(`,"path":"/bin/sh"`) + `]`, `field "path": given twice`},
		{"name twice", `[` + entry(``) + `,` + entry(``) + `]`, `program 2 ("guard"): a handler of this name`},
		{"no name", `[{"path":"/x","sha256":"` + strings.Repeat("ab", 32) + `"}]`, "it has no name"},
		{"no path", `[{"name":"x","sha256":"` + strings.Repeat("ab", 32) + `"}]`, "must be absolute"},
		{"no hash", `[{"name":"x","path":"/x"}]`, "64 hex digits"},
		{"null", `[` + entry(`,"timeout":null`) + `]`, `field "timeout": null is not allowed`},
		{"wrong type", `[` + entry(`,"timeout":5`) + `]`, `field "timeout": json: cannot unmarshal number`},
		{"no duration", `[` + entry(`,"timeout":"5"`) + `]`, `timeout "5": it must be a duration`},
		{"negative timeout", `[` + entry(`,"timeout":"-5s"`) + `]`, `timeout "-5s": it must be`},
		{"unknown kind", `[` + entry(`,"kinds":["tools"]`) + `]`, `unknown kind "tools": it is one of run, iteration`},
		{"unknown phase", `[` + entry(`,"phases":["pre"]`) + `]`, `unknown phase "pre"`},
		{"unknown priority", `[` + entry(`,"priority":"highest"`) + `]`, `unknown priority "highest"`},
		{"too many", `[` + strings.Repeat(entry(``)+",", maxPrograms) + entry(``) + `]`, "given"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "too many" {
				var b strings.Builder
				for i := range maxPrograms + 1 {
					fmt.Fprintf(&b, ",%s", strings.Replace(entry(""), "guard", fmt.Sprint("guard", i), 1))
				}
				tt.in, tt.err = "["+b.String()[1:]+"]", "more than 100 programs"
			}
			_, err := parsePrograms([]byte(tt.in))
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("parsePrograms = %v, want %q", err, tt.err)
			}
		})
	}
}

func TestLoadPrograms(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "guard")
	text := "#!/bin/sh\necho '{\"decision\":\"deny\",\"reason\":\"from a file\"}'\n"
	if err := os.WriteFile(program, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(text))
	write := func(content string, mode os.FileMode) string {
		path := filepath.Join(dir, "programs.json")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := fmt.Sprintf(`{"name":"guard","path":%q,"sha256":"%x","kinds":["tool"],"phases":["start"],"priority":"high","timeout":"1m"}`, program, sum)

	regs, err := LoadPrograms(write("["+good+"]", 0o600))
	if err != nil {
		t.Fatal(err)
	}
	got := regs[0]
	p := got.Handler.(*Program)
	got.Handler = nil
	want := Registration{Name: "guard", Kinds: []Kind{KindTool}, Phases: []Phase{Start}, Priority: High, Timeout: time.Minute}
	if diff := cmp.Diff(want, got); diff != "" || len(regs) != 1 {
		t.Errorf("registration (-want +got):\n%s", diff)
	}
	denied, ok := errors.AsType[*DeniedError](p.Handle(t.Context(), Event{Phase: Start, Payload: &Tool{}}))
	if !ok || denied.Reason != "from a file" {
		t.Errorf("the program's answer is %v", denied)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}

	tests := []struct {
		name, content string
		mode          os.FileMode
		err           string
	}{
		{"others may write", "[" + good + "]", 0o602, "others may write"},
		{"too long", strings.Repeat(" ", maxProgramsBytes+1), 0o600, "more than"},
		{"a program with another hash", "[" + good + "," + strings.NewReplacer(`"guard"`, `"b"`, hex.EncodeToString(sum[:]), strings.Repeat("00", 32)).Replace(good) + "]",
			0o600, `program "b": hook: program ` + program + `: program refused: its SHA-256 is`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := LoadPrograms(write(tt.content, tt.mode))
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("LoadPrograms = %v, want %q", err, tt.err)
			}
		})
	}
	if _, err := LoadPrograms(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("LoadPrograms of a missing file = %v, want os.ErrNotExist", err)
	}
	if _, err := LoadPrograms(dir); !errors.Is(err, ErrProgram) {
		t.Errorf("LoadPrograms of a directory = %v, want ErrProgram", err)
	}
}

// FuzzParsePrograms: what is accepted names complete, distinct programs, says
// the same when written in the one plain way, and nothing in the text was
// passed over.
func FuzzParsePrograms(f *testing.F) {
	f.Add([]byte(`[` + entry(``) + `]`))
	f.Add([]byte(`[` + entry(`,"args":["-v",""],"kinds":["tool"],"phases":["end"],"priority":"low","timeout":"1h","max_output_bytes":1,"env":["A="],"dir":"/"`) + `]`))
	f.Add([]byte(`[` + entry(`,"path":"/x"`) + `]`))
	f.Add([]byte(`[{"name":"x","NAME":"y"}]`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		specs, err := parsePrograms(b)
		if err != nil {
			return
		}
		names := make(map[string]bool)
		for _, s := range specs {
			if s.Name == "" || names[s.Name] || !filepath.IsAbs(s.Path) || len(s.SHA256) != 64 {
				t.Fatalf("accepted %+v from %q", s, b)
			}
			names[s.Name] = true
		}
		if len(specs) == 0 {
			return
		}
		plain, err := json.Marshal(specs)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parsePrograms(plain)
		if err != nil {
			t.Fatalf("%s, from %q: %v", plain, b, err)
		}
		againPlain, err := json.Marshal(again)
		if err != nil || !bytes.Equal(plain, againPlain) {
			t.Fatalf("%s became %s, %v", plain, againPlain, err)
		}
		// encoding/json takes the last of repeated fields, whatever their case:
		// that it sees the same shows that there was nothing else to see.
		var lax []programSpec
		if err := json.Unmarshal(b, &lax); err != nil {
			t.Fatalf("accepted what is no JSON: %q: %v", b, err)
		}
		if laxPlain, err := json.Marshal(lax); err != nil || !bytes.Equal(plain, laxPlain) {
			t.Fatalf("%q read in two ways:\n%s\n%s, %v", b, plain, laxPlain, err)
		}
	})
}

func TestParseAnswer(t *testing.T) {
	tests := []struct {
		name, in string
		want     answer
		err      string
	}{
		{"nothing", "", answer{}, ""},
		{"white space", " \n", answer{}, ""},
		{"allow", `{"decision":"allow"}`, answer{}, ""},
		{"allow with a reason", `{"decision":"allow","reason":"fine"}`, answer{reason: "fine"}, ""},
		{"deny", `{"decision":"deny","reason":"bad"}` + "\n", answer{true, "bad"}, ""},
		{"deny without a reason", `{"decision":"deny"}`, answer{true, "no reason given"}, ""},
		{"no decision", `{}`, answer{}, `must be "allow" or "deny", not ""`},
		{"another decision", `{"decision":"ask"}`, answer{}, `not "ask"`},
		{"another case", `{"Decision":"deny"}`, answer{}, "unknown field"},
		{"both", `{"decision":"deny","decision":"allow"}`, answer{}, "given twice"},
		{"two answers", `{"decision":"allow"}{"decision":"deny"}`, answer{}, "more than one value"},
		{"text after it", `{"decision":"allow"} ok`, answer{}, "invalid character"},
		{"a word", `allow`, answer{}, "invalid character"},
		{"null", `null`, answer{}, "an object is expected"},
		{"cut", `{"decision":"deny"`, answer{}, "EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseAnswer([]byte(tt.in))
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("parseAnswer = %+v, %v, want %+v, %q", got, err, tt.want, tt.err)
			}
		})
	}
}

// FuzzParseAnswer: an answer that is accepted is what any JSON reader takes it
// for, so that no program can mean one thing and be heard to say another.
func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte(`{"decision":"deny","reason":"x"}`))
	f.Add([]byte(`{"decision":"allow"}`))
	f.Add([]byte(`{"decision":"deny","Decision":"allow"}`))
	f.Add([]byte(` `))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseAnswer(b)
		if err != nil || len(bytes.TrimSpace(b)) == 0 {
			if got.deny {
				t.Fatalf("%q denies, with the error %v", b, err)
			}
			return
		}
		var lax struct{ Decision, Reason string }
		if err := json.Unmarshal(b, &lax); err != nil {
			t.Fatalf("accepted what is no JSON: %q: %v", b, err)
		}
		if got.deny != (lax.Decision == "deny") || lax.Reason != "" && got.reason != lax.Reason {
			t.Fatalf("%q is %+v and %+v", b, got, lax)
		}
	})
}
