package kaizen_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/kaizen-go/kaizen"

// layers are the SDK's packages by how far up they stand. A package may import
// those of lower layers only: siblings do not know each other, and what joins
// two of them is in wire.go.
var layers = map[string]int{
	"redact": 0, "price": 0, "internal/runctx": 0, "internal/merkle": 0, "internal/durable": 0, "internal/ship": 0,
	"audit": 1, "audit/shard": 2, "audit/witness": 2, "audit/anchor": 2, "hook": 1, "genai": 1, "metrics": 1, "agentlog": 1, "otlp": 1, "llmhttp": 1, "sampling": 1,
	"":           3,
	"agent":      4,
	"kaizentest": 4,
	"dashboards": 0,
}

// linked are the modules, besides the standard library, that a program gets
// with the SDK. Adding one costs every user: it needs a reason.
var linked = []string{
	"github.com/andybalholm/brotli", // answers that clients asked for compressed
	"github.com/beorn7/perks",
	"github.com/cespare/xxhash/v2",
	"github.com/go-logr/logr",
	"github.com/go-logr/stdr",
	"github.com/google/jsonschema-go",
	"github.com/google/uuid",
	"github.com/klauspost/compress", // the same, and sealed segments of the ledger
	"github.com/munnerz/goautoneg",
	"github.com/oklog/ulid/v2",
	"github.com/prometheus/client_golang",
	"github.com/prometheus/client_model",
	"github.com/prometheus/common",
	"github.com/prometheus/procfs",
	"github.com/tidwall/gjson",
	"github.com/tidwall/match",
	"github.com/tidwall/pretty",
	"go.opentelemetry.io/auto/sdk",
	"go.opentelemetry.io/otel",
	"go.opentelemetry.io/otel/log",
	"go.opentelemetry.io/otel/metric",
	"go.opentelemetry.io/otel/sdk",
	"go.opentelemetry.io/otel/trace",
	"golang.org/x/mod",
	"golang.org/x/sys",
	"google.golang.org/protobuf",
}

func goList(t *testing.T, args ...string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list %v: %v", args, err)
	}
	return strings.Fields(strings.TrimSpace(string(out)))
}

// TestImports holds the rule that imports point one way and the list of what
// the SDK links.
func TestImports(t *testing.T) {
	t.Setenv("GOWORK", "off")
	t.Run("direction", func(t *testing.T) {
		for _, line := range goListLines(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...") {
			pkg, imports, _ := strings.Cut(line, " ")
			from, ours := within(pkg)
			if !ours || strings.HasPrefix(from, "tools/") {
				continue
			}
			layer, known := layers[from]
			if !known {
				t.Errorf("package %q has no layer: say in this test where it stands", from)
				continue
			}
			for imp := range strings.FieldsSeq(imports) {
				if to, ours := within(imp); ours && layers[to] >= layer && !sameFloor(from, to) {
					t.Errorf("%s imports %s: imports point down only", pkg, imp)
				}
			}
		}
	})
	t.Run("linked", func(t *testing.T) {
		for _, dep := range goListLines(t, "-deps", "-f", `{{with .Module}}{{.Path}}{{end}}`, "./agent") {
			if dep != "" && dep != module && !slices.Contains(linked, dep) {
				t.Errorf("the SDK links %s, which is new: is it worth it to every user?", dep)
			}
		}
	})
	t.Run("required", func(t *testing.T) {
		for _, m := range goList(t, "-m", "-f", "{{.Path}}", "all") {
			for _, heavy := range []string{"google.golang.org/grpc", "github.com/openai/", "github.com/anthropics/", "github.com/prometheus/prometheus", module + "/server", module + "/providers"} {
				if strings.HasPrefix(m, heavy) {
					t.Errorf("the SDK's module requires %s", m)
				}
			}
		}
	})
}

// sameFloor: the lowest packages may use each other, as long as Go lets them.
func sameFloor(from, to string) bool { return layers[from] == 0 && layers[to] == 0 }

func goListLines(t *testing.T, args ...string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list %v: %v", args, err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// within returns the path of a package inside the SDK's module.
func within(pkg string) (string, bool) {
	if pkg == module {
		return "", true
	}
	rest, ok := strings.CutPrefix(pkg, module+"/")
	return rest, ok && !strings.HasPrefix(rest, "server") && !strings.HasPrefix(rest, "providers")
}
