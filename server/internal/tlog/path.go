package tlog

import (
	"fmt"
	"strconv"
	"strings"
)

// entriesLevel stands for the entry bundles, which lie beside the levels.
const entriesLevel = -1

// maxLevel is what the specification lets a level be; no tree is that high.
const maxLevel = 63

// tile is what a path under tile/ names. See c2sp.org/tlog-tiles.
type tile struct {
	level int // or entriesLevel
	index int64
	width int // tileWidth, or less for a partial tile
}

const tileWidth = 256

// EntriesLevel stands for the entry bundles in [Path].
const EntriesLevel = entriesLevel

// Path is the path of a tile in a log, or of an entry bundle: "tile/0/x001/234",
// with ".p/7" after it if width is less than 256.
func Path(level int, index int64, width int) string { return tile{level, index, width}.path() }

// path is the tile's path without the prefix: "tile/0/x001/234.p/7".
func (t tile) path() string {
	var b strings.Builder
	b.WriteString("tile/")
	if t.level == entriesLevel {
		b.WriteString("entries")
	} else {
		b.WriteString(strconv.Itoa(t.level))
	}
	digits := fmt.Sprintf("%03d", t.index%1000)
	for n := t.index / 1000; n > 0; n /= 1000 {
		digits = fmt.Sprintf("x%03d/%s", n%1000, digits)
	}
	b.WriteString("/" + digits)
	if t.width != tileWidth {
		fmt.Fprintf(&b, ".p/%d", t.width)
	}
	return b.String()
}

// parseTile reads what path writes, and nothing else.
func parseTile(path string) (tile, bool) {
	t := tile{width: tileWidth}
	rest, ok := strings.CutPrefix(path, "tile/")
	if !ok {
		return t, false
	}
	level, rest, ok := strings.Cut(rest, "/")
	if !ok {
		return t, false
	}
	if level == "entries" {
		t.level = entriesLevel
	} else {
		var err error
		if t.level, err = strconv.Atoi(level); err != nil || t.level < 0 || t.level > maxLevel {
			return t, false
		}
	}
	index, width, partial := strings.Cut(rest, ".p/")
	if partial {
		var err error
		if t.width, err = strconv.Atoi(width); err != nil || t.width < 1 || t.width >= tileWidth {
			return t, false
		}
	}
	if t.index, ok = parseIndex(index); !ok {
		return t, false
	}
	return t, t.path() == path
}

// parseIndex reads "x001/x234/067". It does not insist on the one spelling.
func parseIndex(s string) (int64, bool) {
	const maxElements = 6 // 10^18 tiles are more than any tree has
	elements := strings.Split(s, "/")
	if len(elements) > maxElements {
		return 0, false
	}
	var n int64
	for i, e := range elements {
		if i < len(elements)-1 {
			var ok bool
			if e, ok = strings.CutPrefix(e, "x"); !ok {
				return 0, false
			}
		}
		d, err := strconv.ParseUint(e, 10, 16)
		if err != nil || len(e) != 3 {
			return 0, false
		}
		n = n*1000 + int64(d)
	}
	return n, true
}
