// Command pricebook rebuilds the price book that package price embeds, from
// the data of the genai-prices project (MIT licence) in the npm package
// @pydantic/genai-prices. It needs npm and node, runs by hand, and its output
// is committed:
//
//	go run ./tools/pricebook                  # from the repository's root
//	go run ./tools/pricebook -version 0.1.9   # another release
//	go run ./tools/pricebook -package DIR     # an unpacked package, no network
//
// It writes prices.json.gz and NOTICE into the folder of package price, and
// fails, writing nothing, when the source holds a thing it does not know: a
// match rule that RE2 cannot express, a price of an unknown kind, a host
// pattern it cannot reduce to a host. Look at the tables in convert.go then.
package main

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/kaizen-go/kaizen/price"
)

// pinned is the release that the committed book was made from.
const pinned = "0.1.8"

const npmPackage = "@pydantic/genai-prices"

//go:embed extract.mjs
var extractScript []byte

func main() {
	version := flag.String("version", pinned, "release of "+npmPackage)
	dir := flag.String("package", "", "directory of the unpacked package; if empty it is fetched with npm")
	out := flag.String("out", "price", "folder to write into")
	flag.Parse()
	if err := run(*version, *dir, *out); err != nil {
		fmt.Fprintln(os.Stderr, "pricebook:", err)
		os.Exit(1)
	}
}

func run(version, dir, out string) error {
	tmp, err := os.MkdirTemp("", "pricebook")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if dir == "" {
		if dir, err = fetch(tmp, version); err != nil {
			return err
		}
	}
	licence, err := os.ReadFile(filepath.Join(dir, "LICENSE"))
	if err != nil {
		return err
	}
	raw, err := extract(tmp, dir)
	if err != nil {
		return err
	}
	book, err := convert(raw, "genai-prices "+version)
	if err != nil {
		return err
	}
	return write(out, version, book, licence)
}

// fetch unpacks the release below tmp and returns where.
func fetch(tmp, version string) (string, error) {
	pack := exec.Command("npm", "pack", "--silent", "--pack-destination", tmp, npmPackage+"@"+version)
	pack.Stderr = os.Stderr
	if err := pack.Run(); err != nil {
		return "", fmt.Errorf("npm pack %s@%s: %w", npmPackage, version, err)
	}
	archives, err := filepath.Glob(filepath.Join(tmp, "*.tgz"))
	if err != nil || len(archives) != 1 {
		return "", fmt.Errorf("npm pack left %d archives (%v)", len(archives), err)
	}
	if text, err := exec.Command("tar", "-xzf", archives[0], "-C", tmp).CombinedOutput(); err != nil {
		return "", fmt.Errorf("unpack %s: %w: %s", archives[0], err, text)
	}
	return filepath.Join(tmp, "package"), nil
}

// extract returns the package's data as JSON. It works on a copy of the code.
func extract(tmp, dir string) ([]byte, error) {
	work := filepath.Join(tmp, "extract")
	if err := os.MkdirAll(filepath.Join(work, "dist"), 0o755); err != nil {
		return nil, err
	}
	index, err := os.ReadFile(filepath.Join(dir, "dist", "index.js"))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(work, "dist", "index.js"), index, 0o644); err != nil {
		return nil, err
	}
	script := filepath.Join(work, "extract.mjs")
	if err := os.WriteFile(script, extractScript, 0o644); err != nil {
		return nil, err
	}
	node := exec.Command("node", script, work)
	node.Stderr = os.Stderr
	raw, err := node.Output()
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", script, err)
	}
	return raw, nil
}

// write checks that package price accepts the book and writes it, packed.
func write(out, version string, book *bookFile, licence []byte) error {
	plain, err := json.Marshal(book)
	if err != nil {
		return err
	}
	if _, err := price.Load(bytes.NewReader(plain)); err != nil {
		return fmt.Errorf("package price refuses the book: %w", err)
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression) // no name, no time: reproducible
	if err != nil {
		return err
	}
	if _, err := z.Write(plain); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	notice := fmt.Appendf(nil, "prices.json.gz is derived from the data of the npm package %s %s\n(https://github.com/pydantic/genai-prices), which has this licence:\n\n%s", npmPackage, version, licence)
	if err := os.WriteFile(filepath.Join(out, "NOTICE"), notice, 0o644); err != nil {
		return err
	}
	models := 0
	for _, p := range book.Providers {
		models += len(p.Models)
	}
	fmt.Printf("%d providers, %d models, %d bytes, %d packed\n", len(book.Providers), models, len(plain), packed.Len())
	return os.WriteFile(filepath.Join(out, "prices.json.gz"), packed.Bytes(), 0o644)
}
