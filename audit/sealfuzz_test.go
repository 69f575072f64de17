package audit

import (
	"bytes"
	"encoding/binary"
	"path/filepath"
	"testing"
)

// FuzzManifest accepts one spelling of what it accepts.
func FuzzManifest(f *testing.F) {
	fsys := sealedForTamper(f)
	f.Add(fsys.get(f, "/l/audit/"+manifestName))
	f.Add((&manifest{}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseManifest(b)
		if err != nil {
			return
		}
		if again := m.encode(); !bytes.Equal(again, b) {
			t.Fatalf("two spellings:\n in %s\nout %s", b, again)
		}
		end := int64(0)
		for i := range m.records {
			if m.records[i].base != end || m.records[i].count <= 0 {
				t.Fatalf("segment %d of %d entries begins at %d, want %d", i, m.records[i].count, m.records[i].base, end)
			}
			end = m.records[i].end()
		}
	})
}

// FuzzSeekTable yields frames that lie one after the other before the table.
func FuzzSeekTable(f *testing.F) {
	fsys := freshFS(f)
	l := sealedBig(f, fsys, 2000)
	seg := l.store.sealed[0]
	b := fsys.get(f, filepath.Join("/l/audit", seg.zstPath()))
	count := int(seg.rec.count)
	f.Add(b[int64(len(b))-seekTableLen(framesOf(count, frameLines)):], int64(len(b)), count, seg.rec.bytes)
	f.Fuzz(func(t *testing.T, b []byte, size int64, count int, lines int64) {
		if count < 0 || count > 1<<22 {
			return
		}
		fr, err := parseSeekTable(b, size, count, lines)
		if err != nil {
			return
		}
		n := len(fr.sizes)
		if n > 0 && (fr.linesIn(n-1) < 1 || (n-1)*fr.lines+fr.linesIn(n-1) != count) {
			t.Fatalf("%d frames of %d lines, want %d lines", n, fr.lines, count)
		}
		var sum int64
		for i, bytes := range fr.sizes {
			if fr.offsets[i+1] < fr.offsets[i] || bytes > maxFrameBytes {
				t.Fatalf("frame %d: from %d to %d, %d bytes", i, fr.offsets[i], fr.offsets[i+1], bytes)
			}
			sum += int64(bytes)
		}
		if sum != lines || fr.offsets[n]+seekTableLen(n) != size {
			t.Fatalf("frames end at %d of %d, with %d bytes of lines, want %d", fr.offsets[n], size, sum, lines)
		}
	})
}

// FuzzZstdFrame never makes more of a frame than it says, whatever is in it.
func FuzzZstdFrame(f *testing.F) {
	enc, err := newFrameEncoder(false)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(enc.EncodeAll([]byte("a\nbb\n"), nil), 5, 2)
	f.Add(enc.EncodeAll(bytes.Repeat([]byte("x\n"), groupLen), nil), 2*groupLen, groupLen)
	dec, err := newFrameDecoder()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte, size, lines int) {
		if size < 0 || size > 1<<20 || lines < 0 || lines > groupLen {
			return
		}
		g := &lineGroup{}
		if err := g.decode(b, dec, size, lines); err != nil {
			return
		}
		if len(g.buf) != size || len(g.ends) != lines {
			t.Fatalf("%d bytes, %d lines; want %d and %d", len(g.buf), len(g.ends), size, lines)
		}
		var again []byte
		for i := range lines {
			again = append(append(again, g.line(i)...), '\n')
		}
		if !bytes.Equal(again, g.buf) {
			t.Fatal("the lines are not what was decompressed")
		}
	})
}

// FuzzIndex reads an index of which bytes were changed and the sums made right
// again: it gives an answer or an error, and takes no more memory than the
// number of entries allows.
func FuzzIndex(f *testing.F) {
	b := newIdxBuilder(0)
	const n = 600
	for i := range n {
		e := numbered(i)
		b.add(&e)
	}
	file := b.encode()
	f.Add([]byte{}, 0)
	f.Add([]byte{1, 2, 3}, idxHeader+7)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, idxFixed)
	f.Fuzz(func(t *testing.T, change []byte, at int) {
		bad := bytes.Clone(file)
		if at < 0 || at > len(bad) {
			return
		}
		copy(bad[at:], change)
		resum(bad)
		fsys := newMemFS()
		fsys.root.names[segDir] = newMemDir()
		seg := newSealed(record{count: n, prunedAt: -1})
		fsys.set("/"+seg.idxPath(), bad)
		x := &sealedIndex{newStore(fsys, "/", ""), seg}
		for _, q := range []Query{
			{AgentID: "agent-3"}, {UserID: "u-2", Result: Denied}, {TraceID: numbered(9).TraceID}, {SpanID: numbered(9).SpanID},
			{Since: numbered(100).Time, Until: numbered(200).Time}, {SessionID: "s-3", RunID: "r-3"},
		} {
			sc, err := newScan(x, &q, q.Since.UnixNano(), q.Until.UnixNano())
			if err != nil || sc.impossible {
				continue
			}
			for g := range groups(n) {
				hits, _, err := sc.group(g, 0, groupLen)
				if err != nil {
					break
				}
				col, err := x.column(secCodes + colUser)
				if err != nil {
					break
				}
				if err := sc.tally(col, colUser, g, &hits, make([]int64, 10)); err != nil {
					break
				}
			}
		}
	})
}

// resum makes the sums of an index file right, as far as its sections lie in it.
func resum(b []byte) {
	at := int64(idxHeader)
	for k := range numSection {
		entry := b[idxFixed+12*k:]
		size := int64(binary.LittleEndian.Uint64(entry))
		if size < 0 || size > int64(len(b))-at {
			break
		}
		binary.LittleEndian.PutUint32(entry[8:], checksum(b[at:at+size]))
		at += size
	}
	binary.LittleEndian.PutUint32(b[idxHeader-4:], checksum(b[:idxHeader-4]))
}
