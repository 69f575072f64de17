package audit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// openRing makes a ledger with n groups in its ring, and returns the file
// system as a crash leaves it, with the receipts.
func openRing(t testing.TB, n int) (*memFS, []Receipt) {
	t.Helper()
	fsys := newMemFS()
	if err := durable.MkdirAll(fsys, "/l"); err != nil {
		t.Fatal(err)
	}
	cfg := tiny(fsys)
	cfg.sectionBytes = 64 << 10 // no wake: nothing but the ring is synced
	l := mustOpen(t, "/l/audit", cfg)
	rs := appendN(t, l, 0, n)
	// The lock is held from before a receipt goes out until its line is in the
	// segment: whoever gets it next sees the line.
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	return fsys.clone(), rs
}

const ringFile = "/l/audit/" + ringName

// framesIn finds the frames in a ring as they lie in the file.
func framesIn(t testing.TB, b []byte) []frame {
	t.Helper()
	c, err := parseRing(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c.frames
}

// TestTornFrameAtEveryCut cuts the newest frame at each byte, over zeros and
// over an older generation's bytes: the ledger opens with the entries before
// it. Only the whole frame counts as written.
func TestTornFrameAtEveryCut(t *testing.T) {
	crashed, _ := openRing(t, 4)
	b := crashed.get(t, ringFile)
	frames := framesIn(t, b)
	last := frames[len(frames)-1]
	from, to := int(last.pos), int(last.pos)+frameHeaderLen+len(last.buf)
	noise := bytes.Repeat([]byte{0xA5}, to-from)
	for _, under := range [][]byte{make([]byte, to-from), noise} {
		for cut := from; cut <= to; cut++ {
			torn := bytes.Clone(b)
			copy(torn[cut:to], under[cut-from:])
			c, err := parseRing(torn, nil)
			if err != nil {
				t.Fatalf("cut at %d: %v", cut-from, err)
			}
			want := len(frames)
			if !bytes.Equal(torn, b) {
				want--
			}
			if len(c.frames) != want {
				t.Fatalf("cut at %d: %d frames, want %d", cut-from, len(c.frames), want)
			}
			if wantTorn := want < len(frames) && cut > from || want < len(frames) && under[0] != 0; c.torn != wantTorn && cut-from < frameHeaderLen {
				t.Fatalf("cut at %d: torn = %v, want %v", cut-from, c.torn, wantTorn)
			}
		}
	}
	// And through Open, at a few places, where the lines of the torn frame are
	// not in the segment: they are written after the sync.
	for _, cut := range []int{from, from + 1, from + 60, from + frameHeaderLen, to - 1} {
		fsys := crashed.clone()
		torn := bytes.Clone(b)
		clear(torn[cut:to])
		fsys.set(ringFile, torn)
		seg := "/l/audit/" + segDir + "/" + segStem(0) + lineExt
		lines := fsys.get(t, seg)
		fsys.set(seg, lines[:len(lines)-len(last.buf)])
		l, err := Open("/l/audit", tiny(fsys))
		if err != nil {
			t.Fatalf("cut at %d: %v", cut-from, err)
		}
		es := systemEntriesOf(t, l)
		if l.Size() != 4 || len(es) != 1 || es[0].Action != actionRecovery || es[0].Details["torn"] != (cut > from) {
			t.Errorf("cut at %d: %d entries, want 3 and one about the recovery: %v", cut-from, l.Size(), es)
		}
		checkLedger(t, l)
		mustClose(t, l)
	}
}

// TestTornLastFrameWithItsLine is a flip in the newest frame while its line is
// in the segment already: the frame was whole once, so this is no crash.
func TestTornLastFrameWithItsLine(t *testing.T) {
	fsys, _ := openRing(t, 4)
	b := fsys.get(t, ringFile)
	last := framesIn(t, b)[3]
	b[last.pos+frameHeaderLen+10] ^= 1
	fsys.set(ringFile, b)
	if _, err := Open("/l/audit", tiny(fsys)); !isTamper(err) {
		t.Errorf("Open = %v, want a TamperError", err)
	}
	if _, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{}); !isTamper(err) {
		t.Errorf("Verify = %v, want a TamperError", err)
	}
}

// TestRingBitFlips flips every bit of the header and of all frames but the
// last: never may the ledger open with less, or with something else.
func TestRingBitFlips(t *testing.T) {
	fsys, rs := openRing(t, 3)
	b := fsys.get(t, ringFile)
	frames := framesIn(t, b)
	end := int(frames[1].pos) + frameHeaderLen + len(frames[1].buf)
	for i := 0; i < end; i++ {
		if i >= ringHeaderLen && i < ringAlign && i%64 != 0 {
			continue // zeros up to the first frame: a sample does
		}
		bad := bytes.Clone(b)
		bad[i] ^= 1 << (i % 8)
		c, err := parseRing(bad, nil)
		if err == nil && padding(frames, i) && len(c.frames) == len(frames) {
			continue // behind a frame's payload nothing is read
		}
		if !isTamper(err) {
			t.Fatalf("byte %d: %d frames, %v; want a TamperError", i, len(c.frames), err)
		}
	}
	l, err := Open("/l/audit", tiny(fsys))
	if err != nil {
		t.Fatal(err)
	}
	checkReceipts(t, l, rs)
	mustClose(t, l)
}

func padding(frames []frame, at int) bool {
	for _, f := range frames {
		end := f.pos + frameHeaderLen + int64(len(f.buf))
		if int64(at) >= end && int64(at) < f.pos+frameSize(len(f.buf)) {
			return true
		}
	}
	return false
}

// TestForgedFrames writes entries into the ring of a crashed ledger as
// somebody without the key can: with a right checksum. They are never signed.
func TestForgedFrames(t *testing.T) {
	fsys, _ := openRing(t, 3)
	clean := fsys.clone()
	b := fsys.get(t, ringFile)
	last := framesIn(t, b)[2]
	line := append([]byte(encode(t, numbered(77))), '\n')
	forge := func(lsn, base uint64, mac [32]byte) []byte {
		out := make([]byte, frameHeaderLen+len(line))
		copy(out[frameHeaderLen:], line)
		h := last.frameHeader
		h.lsn, h.base, h.length, h.count = lsn, base, uint32(len(line)), 1
		h.put(out, mac)
		return out
	}
	tests := []struct {
		name string
		pos  int64
		data []byte
	}{
		{"one more", last.pos + frameSize(len(last.buf)), forge(last.lsn+1, last.frameHeader.base+1, last.mac)},
		{"in place of the last", last.pos, forge(last.lsn, last.frameHeader.base, last.mac)},
		{"same again", last.pos + frameSize(len(last.buf)), b[last.pos : last.pos+frameSize(len(last.buf))]},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fsys := clean.clone()
			forged := bytes.Clone(b)
			copy(forged[tt.pos:], tt.data)
			fsys.set(ringFile, forged)
			if _, err := Open("/l/audit", tiny(fsys)); !isTamper(err) {
				t.Errorf("Open = %v, want a TamperError", err)
			}
		})
	}
	t.Run("line in the segment alone", func(t *testing.T) {
		fsys := clean.clone()
		seg := "/l/audit/" + segDir + "/" + segStem(0) + lineExt
		fsys.set(seg, slices.Concat(fsys.get(t, seg), line))
		if _, err := Open("/l/audit", tiny(fsys)); !isTamper(err) {
			t.Errorf("Open = %v, want a TamperError", err)
		}
		if _, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{}); !isTamper(err) {
			t.Errorf("Verify = %v, want a TamperError", err)
		}
	})
	t.Run("ring removed", func(t *testing.T) {
		fsys := clean.clone()
		if err := fsys.Remove(ringFile); err != nil {
			t.Fatal(err)
		}
		if _, err := Open("/l/audit", tiny(fsys)); !isTamper(err) {
			t.Errorf("Open = %v, want a TamperError: the segment has entries that nothing covers", err)
		}
	})
}

// TestCrashedSegmentFlips flips bytes of the unsigned lines of a crashed
// ledger. A byte that became zero may be a lost page, and is restored from the
// ring; any other is damage.
func TestCrashedSegmentFlips(t *testing.T) {
	crashed, rs := openRing(t, 3)
	seg := "/l/audit/" + segDir + "/" + segStem(0) + lineExt
	data := crashed.get(t, seg)
	for i := 0; i < len(data); i += 3 {
		fsys := crashed.clone()
		bad := bytes.Clone(data)
		bad[i] ^= 1
		fsys.set(seg, bad)
		if _, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{}); !isTamper(err) {
			t.Fatalf("byte %d: Verify = %v, want a TamperError", i, err)
		}
		if _, err := Open("/l/audit", tiny(fsys)); !isTamper(err) {
			t.Fatalf("byte %d: Open = %v, want a TamperError", i, err)
		}
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 50 {
		fsys := crashed.clone()
		lost := bytes.Clone(data)
		from := rnd.IntN(len(lost))
		clear(lost[from : from+rnd.IntN(len(lost)-from)])
		fsys.set(seg, lost[:len(lost)-rnd.IntN(len(lost))])
		checkSurvivor(t, fsys, rs)
	}
}

func FuzzFrame(f *testing.F) {
	g := group{base: 5}
	for i := range 2 {
		w, err := encoded(numbered(i))
		if err != nil {
			f.Fatal(err)
		}
		g.add(w, 0)
	}
	h := frameHeader{count: 2, generation: 3, lsn: 4, base: 5, durable: 5, length: uint32(len(g.buf)), root: [32]byte{1}}
	b := append(make([]byte, frameHeaderLen), g.buf...)
	h.put(b, newFrameMACer([]byte("key")).of(&h, g.leaves))
	f.Add(b)
	f.Add(append(b, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		// The checksum is no obstacle to a forger: give every input a right one.
		if len(b) >= frameHeaderLen {
			n := uint64(binary.LittleEndian.Uint32(b[48:])) + frameHeaderLen
			if n <= uint64(len(b)) {
				binary.LittleEndian.PutUint32(b[8:], checksum(b[12:n]))
			}
		}
		fr, ok := parseFrame(b)
		if !ok {
			return
		}
		if fr.len() != int(fr.count) || len(fr.leaves) != fr.len() || fr.end() < fr.group.base {
			t.Fatalf("frame says %d lines, has %d", fr.count, fr.len())
		}
		again := append(make([]byte, frameHeaderLen), fr.buf...)
		fr.put(again, fr.mac)
		if !bytes.Equal(again, b[:len(again)]) {
			t.Fatalf("two spellings of one frame:\n in %x\nout %x", b[:len(again)], again)
		}
	})
}

func FuzzLedgerJSON(f *testing.F) {
	s := testSigner(f)
	f.Add(ledgerJSON(oldVersion, s.origin, s.vkey))
	f.Add(ledgerJSON(formatVersion, s.origin, s.vkey))
	f.Add([]byte(`{"format":"kaizen-ledger","version":3}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		version, vkey, err := parseLedgerJSON(b)
		if err != nil {
			return
		}
		origin, err := originOf(vkey)
		if err != nil {
			t.Fatal(err)
		}
		if again := ledgerJSON(version, origin, vkey); !bytes.Equal(again, b) {
			t.Fatalf("two spellings:\n in %s\nout %s", b, again)
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	s := testSigner(f)
	f.Add([]byte(s.checkpoint(0, [32]byte{1}).Note))
	f.Add([]byte(s.checkpoint(1<<40, [32]byte{2}).Note))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseOwnCheckpoint(b, s.vkey)
		if err != nil {
			return
		}
		// Ed25519 signing is deterministic: what is accepted is what we sign.
		if again := s.checkpoint(c.Size, c.Root); again.Note != string(b) {
			t.Fatalf("two spellings:\n in %q\nout %q", b, again.Note)
		}
	})
}

func FuzzProof(f *testing.F) {
	s := testSigner(f)
	line := []byte(encode(f, minimalEntry()))
	f.Add(Proof{Index: 0, Line: line, Note: s.checkpoint(1, [32]byte{}).Note}.Marshal())
	f.Add(Proof{Index: 2, Line: line, Hashes: [][32]byte{{1}, {2}}, Note: s.checkpoint(3, [32]byte{}).Note}.Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseProof(b)
		if err != nil {
			if !errors.Is(err, ErrProof) {
				t.Fatalf("error of another type: %v", err)
			}
			return
		}
		if !bytes.Equal(p.Marshal(), b) {
			t.Fatalf("two spellings:\n in %q\nout %q", b, p.Marshal())
		}
		if err := p.Check(s.vkey); err == nil {
			if c, err := p.Checkpoint(s.vkey); err != nil || p.Index >= c.Size {
				t.Fatalf("a proof for entry %d of %d holds", p.Index, c.Size)
			}
		}
	})
}

// testSigner is the key of the test vectors: the seed is 32 bytes of 0x2a.
func testSigner(t testing.TB) *signer {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "vector", "keys", "audit.key"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSigner(string(bytes.TrimSuffix(b, []byte("\n"))))
	if err != nil {
		t.Fatal(err)
	}
	return s
}
