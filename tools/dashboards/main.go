// Command dashboards writes the Grafana dashboards in dashboards/grafana from
// what is written here in Go. A test holds that doing so again gives the same
// bytes:
//
//	go run ./tools/dashboards            # from the repository's root
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	dir := flag.String("dir", "dashboards/grafana", "where to write")
	flag.Parse()
	files, err := generate()
	if err == nil {
		err = write(*dir, files)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "dashboards:", err)
		os.Exit(1)
	}
}

// generate returns the files by name.
func generate() (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, d := range []dashboard{agentMonitoring(), performance(), auditCompliance(), health()} {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false) // < and > are common in queries
		enc.SetIndent("", "  ")
		if err := enc.Encode(d); err != nil {
			return nil, fmt.Errorf("encode %s: %w", d.UID, err)
		}
		files[d.UID+".json"] = b.Bytes()
	}
	return files, nil
}

func write(dir string, files map[string][]byte) error {
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}
