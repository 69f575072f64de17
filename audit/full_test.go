package audit

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// ringHook calls before, once, when the ring is about to be written: an entry has
// been promised room, and is not in its segment yet.
type ringHook struct {
	*memFS
	before func()
}

type ringHookFile struct {
	*memHandle
	h *ringHook
}

func (h *ringHook) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	f, err := h.memFS.OpenFile(name, flag, perm)
	if err != nil || filepath.Base(name) != ringName {
		return f, err
	}
	return ringHookFile{f.(*memHandle), h}, nil
}

func (f ringHookFile) WriteAt(p []byte, off int64) (int, error) {
	if do := f.h.before; do != nil {
		f.h.before = nil
		do()
	}
	return f.memHandle.WriteAt(p, off)
}

// TestSealDuringFlushOnFullDisk ends the newest segment while an entry is on its
// way to the ring, with ever less room on the disk: what is acknowledged is in
// the ledger, whether or not there was room for another segment.
func TestSealDuringFlushOnFullDisk(t *testing.T) {
	sealed := 0
	for spare := int64(1); spare < 3000; spare += 97 {
		h := &ringHook{memFS: freshFS(t)}
		cfg := tiny(h.memFS)
		cfg.fsys = h
		l := mustOpen(t, "/l/audit", cfg)
		appendN(t, l, 0, 3)
		var sealErr error
		h.before = func() {
			h.leave(spare)
			sealErr = l.rotate()
			h.leave(0)
		}
		if _, err := l.Append(t.Context(), numbered(3)); err != nil {
			t.Fatalf("spare %d: Append = %v", spare, err)
		}
		if h.before != nil {
			t.Fatal("the ring was not written")
		}
		if sealErr == nil {
			sealed++
		} else if !errors.Is(sealErr, ErrNoSpace) {
			t.Fatalf("spare %d: sealing on a full disk = %v, want ErrNoSpace", spare, sealErr)
		}
		checkLedger(t, l)
		if err := l.failed(); err != nil {
			t.Fatalf("spare %d: the ledger failed: %v", spare, err)
		}
		crashed := h.clone()
		h.leave(1 << 30)
		appendN(t, l, 4, 40)
		checkLedger(t, l)
		mustClose(t, l)
		if r, err := verify(t.Context(), h, "/l/audit", VerifyConfig{}); err != nil || !r.Clean || r.Entries != 40 {
			t.Fatalf("spare %d: Verify = %+v, %v", spare, r, err)
		}
		again := mustOpen(t, "/l/audit", tiny(crashed))
		if again.Size() < 4 {
			t.Fatalf("spare %d: %d entries after a crash, want those that were acknowledged", spare, again.Size())
		}
		checkLedger(t, again)
	}
	if sealed == 0 || sealed == 31 {
		t.Errorf("%d of 31 sealed: want both cases", sealed)
	}
}

// TestEraseOnFullDisk erases with ever more room on the disk. Until there is
// enough nothing happens: the subject can be read, its entries go on, and the
// erasure works once there is room, without opening anything again.
func TestEraseOnFullDisk(t *testing.T) {
	refused := 0
	for spare := int64(0); ; spare += 61 {
		fsys := freshFS(t)
		l := mustOpen(t, "/l/audit", subjectConfig(fsys))
		acked := mustAppend(t, l, about(0, "p0"), about(1, "p1"))
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		fsys.leave(spare)
		r, err := l.Erase(t.Context(), Erasure{Subject: "p0"})
		fsys.leave(1 << 30)
		done := err == nil
		switch {
		case done:
		case !errors.Is(err, ErrNoSpace) || !errors.Is(err, syscall.ENOSPC) || errors.Is(err, ErrFailed):
			t.Fatalf("spare %d: Erase = %v, want ErrNoSpace and its cause alone", spare, err)
		case !r.Found:
			refused++
			if e := mustGet(t, l, 0); e.Subject != "p0" || e.Withheld != (Withheld{}) {
				t.Fatalf("spare %d: after an erasure that was refused the entry is %+v", spare, e)
			}
			acked = append(acked, mustAppend(t, l, about(2, "p0"), about(3, "p2"))...)
			for _, name := range mustReadDir(t, fsys, "/l/keys") {
				if strings.HasSuffix(name, tmpExt) || strings.HasSuffix(name, ".kek.2") {
					t.Errorf("spare %d: %s is left", spare, name)
				}
			}
			if r, err = l.Erase(t.Context(), Erasure{Subject: "p0"}); err != nil || !r.Found || r.Entries != 2 {
				t.Fatalf("spare %d: Erase when there is room = %+v, %v", spare, r, err)
			}
		default:
			t.Fatalf("spare %d: the keys are gone and the receipt is to come: %v", spare, err)
		}
		if n := len(l.vault.unreceipted()); n > 0 {
			t.Errorf("spare %d: %d receipts are missing", spare, n)
		}
		token := r.Token
		if back, err := l.Erase(t.Context(), Erasure{Subject: token}); err != nil || !back.Found || back.Entries != r.Entries {
			t.Errorf("spare %d: asked again by token: %+v, %v", spare, back, err)
		}
		if e := mustGet(t, l, 0); e.Withheld.Details != Erased {
			t.Errorf("spare %d: the entry is not erased: %+v", spare, e)
		}
		mustClose(t, l)
		checkSubjects(t, fsys, acked, []string{token})
		if done {
			break
		}
	}
	if refused == 0 {
		t.Error("no erasure was refused")
	}
}

// TestReceiptOnFullDisk destroys keys when there is no room for the receipt: the
// next erasure writes it, once there is.
func TestReceiptOnFullDisk(t *testing.T) {
	fsys := freshFS(t)
	l := mustOpen(t, "/l/audit", subjectConfig(fsys))
	acked := mustAppend(t, l, about(0, "p0"), about(1, "p1"))
	s := l.vault.find("p0")
	j, err := l.vault.erase(s, func() (*erasure, error) { return l.prepareErasure(t.Context(), s, Erasure{Subject: "p0"}) })
	if err != nil {
		t.Fatal(err)
	}
	if err := l.store.trim(); err != nil { // nothing is reserved
		t.Fatal(err)
	}
	fsys.leave(1)
	if _, err := l.appendErasure(t.Context(), j); !errors.Is(err, ErrNoSpace) || errors.Is(err, ErrFailed) {
		t.Fatalf("receipt on a full disk = %v, want ErrNoSpace alone", err)
	}
	if _, err := l.Erase(t.Context(), Erasure{Subject: "p1"}); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("another erasure = %v, want ErrNoSpace", err)
	}
	if e := mustGet(t, l, 1); e.Withheld != (Withheld{}) {
		t.Error("the other subject is erased")
	}
	fsys.leave(1 << 30)
	r, err := l.Erase(t.Context(), Erasure{Subject: "p1"})
	if err != nil || len(l.vault.unreceipted()) > 0 {
		t.Fatalf("another erasure when there is room = %v, %d receipts missing", err, len(l.vault.unreceipted()))
	}
	if back, err := l.Erase(t.Context(), Erasure{Subject: j.Token}); err != nil || !back.Found || back.Entries != 1 {
		t.Errorf("asked by token: %+v, %v", back, err)
	}
	mustClose(t, l)
	checkSubjects(t, fsys, acked, []string{j.Token, r.Token})
}

// TestHistoryOnFullDisk has no room for a line of the history: it goes on when
// there is.
func TestHistoryOnFullDisk(t *testing.T) {
	fsys := freshFS(t)
	l := mustOpen(t, "/l/audit", tiny(fsys))
	appendN(t, l, 0, 2)
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	note := l.Checkpoint().Note
	appendN(t, l, 2, 3)
	fsys.leave(10)
	if err := l.outward.history.add(l.Checkpoint().Note, true, l.outward.history.at); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("add on a full disk = %v, want ErrNoSpace", err)
	}
	if l.outward.history.last != note {
		t.Error("the history has another last line")
	}
	fsys.leave(1 << 30)
	mustClose(t, l)
	if _, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{}); err != nil {
		t.Error(err)
	}
}
