package logship

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen/server/internal/testport"
)

// openSearch is a real node, in a process of its own.
type openSearch struct {
	t    *testing.T
	dir  string
	port string
	cmd  *exec.Cmd
	in   io.Closer
}

// openSearchVersion is the version of the jars, as testdata/opensearch/pom.xml
// names it without its last digit.
const openSearchVersion = "2.19.1"

// jars returns the directory that scripts/test-setup.sh fills.
func jars(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "kaizen-test", "opensearch-"+openSearchVersion)
	if _, err := os.Stat(filepath.Join(dir, "opensearch-"+openSearchVersion+".jar")); err != nil {
		t.Skip("OpenSearch is not here: scripts/test-setup.sh installs it with Maven")
	}
	if _, err := exec.LookPath("javac"); err != nil {
		t.Skip("no JDK here: scripts/test-setup.sh installs one")
	}
	return dir
}

func newOpenSearch(t *testing.T) *openSearch {
	t.Helper()
	jars(t)
	_, port, err := net.SplitHostPort(testport.Addr(t))
	if err != nil {
		t.Fatal(err)
	}
	o := &openSearch{t: t, dir: t.TempDir(), port: port}
	t.Cleanup(o.stop)
	return o
}

func (o *openSearch) url() string { return "http://127.0.0.1:" + o.port }

// start runs the node and waits until it is ready.
func (o *openSearch) start() {
	o.t.Helper()
	run, err := filepath.Abs("testdata/opensearch/Run.java")
	if err != nil {
		o.t.Fatal(err)
	}
	o.cmd = exec.CommandContext(o.t.Context(), "java", "-Xms256m", "-Xmx512m", "-XX:TieredStopAtLevel=1",
		"-cp", filepath.Join(jars(o.t), "*"), run, o.dir, o.port)
	in, err := o.cmd.StdinPipe()
	if err != nil {
		o.t.Fatal(err)
	}
	o.in = in
	out, err := o.cmd.StdoutPipe()
	if err != nil {
		o.t.Fatal(err)
	}
	var errs bytes.Buffer
	o.cmd.Stderr = &errs
	if err := o.cmd.Start(); err != nil {
		o.t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	var last string
	for lines.Scan() {
		if strings.HasSuffix(lines.Text(), "ready") { // the node puts a time before it
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return
		}
		last = lines.Text()
	}
	o.t.Fatalf("OpenSearch did not start: %s\n%s", last, errs.String())
}

// kill ends the node without warning; stop ends it for good.
func (o *openSearch) kill() {
	if o.cmd != nil {
		_ = o.cmd.Process.Kill()
		_ = o.cmd.Wait() // says "killed"
		o.cmd = nil
	}
}

func (o *openSearch) stop() { o.kill() }

// call sends a request and decodes the answer, which must be 2xx.
func (o *openSearch) call(method, path string, body any) map[string]any {
	o.t.Helper()
	answer, err := o.try(method, path, body)
	if err != nil {
		o.t.Fatal(err)
	}
	return answer
}

func (o *openSearch) try(method, path string, body any) (map[string]any, error) {
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case []byte:
		in = bytes.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			return nil, err
		}
		in = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(o.t.Context(), method, o.url()+path, in)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Timeout: 2 * time.Minute}).Do(req)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, raw)
	}
	var answer map[string]any
	return answer, json.Unmarshal(raw, &answer)
}

// sources are the documents of index that match the query string.
func (o *openSearch) sources(index, query string) []map[string]any {
	o.t.Helper()
	o.call(http.MethodPost, "/"+index+"/_refresh", nil)
	answer := o.call(http.MethodPost, "/"+index+"/_search", map[string]any{
		"size": 10_000, "track_total_hits": true, "sort": []any{"@timestamp"},
		"query": map[string]any{"query_string": map[string]any{"query": query}},
	})
	var found []map[string]any
	hits, _ := answer["hits"].(map[string]any)
	list, _ := hits["hits"].([]any)
	for _, h := range list {
		hit, _ := h.(map[string]any)
		source, _ := hit["_source"].(map[string]any)
		found = append(found, source)
	}
	return found
}

// installTemplate gives the node the pipeline and the template that deploy/logs
// ships.
func (o *openSearch) installTemplate() {
	o.t.Helper()
	for _, x := range []struct{ path, file string }{
		{"/_ingest/pipeline/kaizen-logs", "ingest-pipeline.json"},
		{"/_index_template/kaizen-logs", "opensearch/index-template.json"},
	} {
		body, err := os.ReadFile(filepath.Join("../../../deploy/logs", x.file))
		if err != nil {
			o.t.Fatal(err)
		}
		if answer := o.call(http.MethodPut, x.path, body); answer["acknowledged"] != true {
			o.t.Fatalf("%s: %v", x.file, answer)
		}
	}
}

func quoted(key, value string) string { return key + `:"` + value + `"` }
