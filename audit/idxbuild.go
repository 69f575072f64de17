package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// The columns of an index file that hold codes: numbers that a dictionary of
// the same file gives to the values. Code 0 is the empty text.
const (
	colAgent   = 0
	colUser    = 1
	colSubject = 2
	colAction  = 3
	numTexts   = 4 // so far the dictionary has texts, afterwards fingerprints
	colResult  = 4 // its codes are fixed, see resultCode
	colSession = 5
	colRun     = 6
	colTrace   = 7
	numCoded   = 8
	numPrints  = 3
)

// Sections of an index file, in this order.
const (
	secZones   = 0
	secTexts   = 1                     // four: agent, user, subject, action
	secPrints  = secTexts + numTexts   // three: session, run, trace
	secCodes   = secPrints + numPrints // eight columns
	secTimes   = secCodes + numCoded   // differences between neighbours
	secSpans   = secTimes + 1          // 16 bits a span id
	secIDs     = secSpans + 1          // 16 bits an id
	numSection = secIDs + 1            // 19

	idxFixed   = 24 // header before the table of sections
	idxHeader  = idxFixed + numSection*12 + 4
	idxVersion = 1
	idxMagic   = "KZIX"
)

// groupLen is how many entries share a frame of a sealed segment, a row of its
// index, and one tile of the tree.
const groupLen = 256

// zone is what the index says about one group of entries.
type zone struct {
	firstTime, minTime, maxTime int64  // nanoseconds since 1970
	minID, maxID                uint64 // milliseconds of the ULIDs
	min                         [numCoded]uint32
	width                       [numCoded]uint8
	timeWidth                   uint8
}

const zoneLen = 3*8 + 2*8 + numCoded*5 + 1

// idxBuilder collects the index of a segment, entry by entry.
type idxBuilder struct {
	base    int64
	codes   [numCoded][]uint32
	times   []int64
	spans   []uint16
	ids     []uint16
	millis  []uint64
	dicts   [numCoded]map[string]uint32
	texts   [numCoded][]string
	last    [numCoded]uint32 // the code that each column had last
	scratch []byte           // of short
}

func newIdxBuilder(base int64) *idxBuilder {
	b := &idxBuilder{base: base}
	for i := range b.dicts {
		b.dicts[i] = map[string]uint32{}
	}
	return b
}

func (b *idxBuilder) add(e *Entry) {
	for col, text := range [numCoded]string{
		colAgent: e.AgentID, colUser: e.UserID, colSubject: e.Subject, colAction: e.Action,
		colSession: e.SessionID, colRun: e.RunID, colTrace: e.TraceID,
	} {
		if col != colResult {
			b.codes[col] = append(b.codes[col], b.code(col, text))
		}
	}
	b.codes[colResult] = append(b.codes[colResult], uint32(resultCode(e.Result)))
	b.times = append(b.times, e.Time.UnixNano())
	b.spans = append(b.spans, b.short(e.SpanID))
	b.ids = append(b.ids, b.short(e.ID))
	id := mustID(e.ID)
	b.millis = append(b.millis, id.Time())
}

// grow makes room for n more entries.
func (b *idxBuilder) grow(n int) {
	for col := range b.codes {
		b.codes[col] = slices.Grow(b.codes[col], n)
	}
	b.times, b.millis = slices.Grow(b.times, n), slices.Grow(b.millis, n)
	b.spans, b.ids = slices.Grow(b.spans, n), slices.Grow(b.ids, n)
}

func (b *idxBuilder) code(col int, text string) uint32 {
	b.scratch = append(b.scratch[:0], text...)
	return b.codeOf(col, b.scratch)
}

// codeOf is the code of a text, which often is that of the entry before.
func (b *idxBuilder) codeOf(col int, text []byte) uint32 {
	if len(text) == 0 {
		return 0
	}
	if last := b.last[col]; last > 0 && b.texts[col][last-1] == string(text) {
		return last
	}
	c, ok := b.dicts[col][string(text)]
	if !ok {
		text := string(text)
		b.texts[col] = append(b.texts[col], text)
		c = uint32(len(b.texts[col]))
		b.dicts[col][text] = c
	}
	b.last[col] = c
	return c
}

func (b *idxBuilder) short(text string) uint16 {
	b.scratch = append(b.scratch[:0], text...)
	return shortPrint(b.scratch)
}

// shortPrint narrows down where an id may be: CRC-32C, the lower 16 bits.
func shortPrint(text []byte) uint16 { return uint16(checksum(text)) }

// fingerprint stands for a text that has many values: the first eight bytes of
// its SHA-256. Two texts of one segment share one with a chance of n²/2^65.
func fingerprint(s string) uint64 {
	h := sha256.Sum256([]byte(s))
	return binary.LittleEndian.Uint64(h[:])
}

// encode gives the bytes of the file, which depend on nothing but the entries.
func (b *idxBuilder) encode() []byte {
	var sections [numSection][]byte
	var values [groupLen]uint64 // of one column and group
	n := len(b.times)
	for lo := 0; lo < n; lo += groupLen {
		hi := min(lo+groupLen, n)
		z := b.zone(lo, hi)
		sections[secZones] = z.append(sections[secZones])
		pack := func(section int, width uint8) {
			sections[section] = appendPacked(sections[section], values[:], uint(width))
		}
		clear(values[:]) // entries that the last group lacks are 0
		for col := range numCoded {
			for i, code := range b.codes[col][lo:hi] {
				values[i] = uint64(code - z.min[col])
			}
			pack(secCodes+col, z.width[col])
		}
		for i := lo; i < hi; i++ {
			values[i-lo] = b.step(lo, i)
		}
		pack(secTimes, z.timeWidth)
		for i, print := range b.spans[lo:hi] {
			values[i] = uint64(print)
		}
		pack(secSpans, 16)
		for i, print := range b.ids[lo:hi] {
			values[i] = uint64(print)
		}
		pack(secIDs, 16)
	}
	for col := range numTexts {
		for _, text := range b.texts[col] {
			sections[secTexts+col] = binary.AppendUvarint(sections[secTexts+col], uint64(len(text)))
			sections[secTexts+col] = append(sections[secTexts+col], text...)
		}
	}
	for k := range numPrints {
		sections[secPrints+k] = appendPrints(nil, b.texts[colSession+k])
	}
	return joinSections(b.base, n, &sections)
}

// step is how far entry i is from the one before in its group.
func (b *idxBuilder) step(lo, i int) uint64 {
	if i == lo {
		return 0
	}
	return zigzag(b.times[i] - b.times[i-1])
}

func (b *idxBuilder) zone(lo, hi int) zone {
	z := zone{
		firstTime: b.times[lo], minTime: slices.Min(b.times[lo:hi]), maxTime: slices.Max(b.times[lo:hi]),
		minID: slices.Min(b.millis[lo:hi]), maxID: slices.Max(b.millis[lo:hi]),
	}
	for col := range numCoded {
		codes := b.codes[col][lo:hi]
		z.min[col] = slices.Min(codes)
		z.width[col] = uint8(bitWidth(uint64(slices.Max(codes) - z.min[col])))
	}
	var most uint64
	for i := lo; i < hi; i++ {
		most = max(most, b.step(lo, i))
	}
	z.timeWidth = uint8(bitWidth(most))
	return z
}

func (z *zone) append(b []byte) []byte {
	for _, v := range []uint64{uint64(z.firstTime), uint64(z.minTime), uint64(z.maxTime), z.minID, z.maxID} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	for col := range numCoded {
		b = append(binary.LittleEndian.AppendUint32(b, z.min[col]), z.width[col])
	}
	return append(b, z.timeWidth)
}

// appendPrints is the dictionary of a column of fingerprints: these in order,
// then the codes that belong to them, packed.
func appendPrints(b []byte, texts []string) []byte {
	type pair struct{ print, code uint64 }
	pairs := make([]pair, len(texts))
	for i, text := range texts {
		pairs[i] = pair{fingerprint(text), uint64(i + 1)}
	}
	slices.SortFunc(pairs, func(x, y pair) int {
		switch {
		case x.print != y.print && x.print < y.print, x.print == y.print && x.code < y.code:
			return -1
		case x == y:
			return 0
		}
		return 1
	})
	codes := make([]uint64, len(pairs))
	for i, p := range pairs {
		b = binary.LittleEndian.AppendUint64(b, p.print)
		codes[i] = p.code
	}
	return appendPacked(b, codes, bitWidth(uint64(len(pairs))))
}

// joinSections puts the header before the sections.
func joinSections(base int64, count int, sections *[numSection][]byte) []byte {
	b := append(make([]byte, 0, idxHeader), idxMagic...)
	b = binary.LittleEndian.AppendUint16(b, idxVersion)
	b = binary.LittleEndian.AppendUint16(b, numSection)
	b = binary.LittleEndian.AppendUint64(b, uint64(base))
	b = binary.LittleEndian.AppendUint32(b, uint32(count))
	b = binary.LittleEndian.AppendUint32(b, groupLen)
	for _, s := range sections {
		b = binary.LittleEndian.AppendUint64(b, uint64(len(s)))
		b = binary.LittleEndian.AppendUint32(b, checksum(s))
	}
	b = binary.LittleEndian.AppendUint32(b, checksum(b))
	for _, s := range sections {
		b = append(b, s...)
	}
	return b
}
