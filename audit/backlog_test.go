package audit

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// sealFS holds up, or fails, the making of compressed files.
type sealFS struct {
	durable.FS
	begun chan struct{} // has a value when somebody began to seal
	mu    sync.Mutex
	gate  chan error // what they get
}

func (f *sealFS) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	if strings.HasSuffix(name, zstExt+tmpExt) {
		f.mu.Lock()
		gate := f.gate
		f.mu.Unlock()
		select {
		case f.begun <- struct{}{}:
		default:
		}
		if err := <-gate; err != nil {
			return nil, err
		}
	}
	return f.FS.OpenFile(name, flag, perm)
}

// warnings passes on what is logged.
type warnings struct{ texts chan string }

func (w warnings) Enabled(context.Context, slog.Level) bool { return true }
func (w warnings) WithAttrs([]slog.Attr) slog.Handler       { return w }
func (w warnings) WithGroup(string) slog.Handler            { return w }
func (w warnings) Handle(_ context.Context, r slog.Record) error {
	w.texts <- r.Message
	return nil
}

// behind is a ledger whose sealing has begun and cannot go on, with more
// waiting for it than may.
func behind(t *testing.T) (l *Ledger, fsys *sealFS, logged chan string) {
	t.Helper()
	fsys = &sealFS{FS: freshFS(t), begun: make(chan struct{}, 1), gate: make(chan error)}
	logged = make(chan string, 1000)
	cfg := small()
	cfg.fsys, cfg.sealing, cfg.backlogBytes, cfg.Logger = fsys, true, 3*cfg.segmentBytes, slog.New(warnings{logged})
	l, err := Open("/l/audit", cfg)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; l.Stats().SealBacklog == 0; i++ {
		if _, err := l.Append(t.Context(), numbered(i)); err != nil {
			t.Fatal(err)
		}
	}
	<-fsys.begun
	for i := 1000; l.Stats().SealBacklog <= cfg.backlogBytes; i++ {
		if _, err := l.Append(t.Context(), numbered(i)); err != nil {
			t.Fatal(err)
		}
	}
	return l, fsys, logged
}

// TestBacklog appends while too much waits to be sealed: that waits, or is
// refused, until a segment is.
func TestBacklog(t *testing.T) {
	l, fsys, logged := behind(t)
	size := l.Size()
	if err := l.AppendAsync(numbered(1)); !errors.Is(err, ErrFull) {
		t.Errorf("AppendAsync = %v, want ErrFull", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Append(ctx, numbered(2)); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnconfirmed) {
		t.Errorf("Append = %v, want context.Canceled and nothing written", err)
	}
	if _, err := l.AppendBatch(ctx, []Entry{numbered(3)}); !errors.Is(err, context.Canceled) {
		t.Errorf("AppendBatch = %v, want context.Canceled", err)
	}
	if st := l.Stats(); st.SealWaits != 3 || st.Entries != size {
		t.Errorf("Stats = %d waits, %d entries; want 3 and %d", st.SealWaits, st.Entries, size)
	}
	if text := <-logged; !strings.Contains(text, "appends wait") || len(logged) != 0 {
		t.Errorf("logged %q and %d more, want one warning", text, len(logged))
	}
	// What the ledger records of itself does not wait: sealing needs it.
	if _, _, err := l.Hold(t.Context(), Hold{AgentID: "a"}); err != nil {
		t.Errorf("Hold = %v", err)
	}
	appended := make(chan error, 1)
	go func() {
		_, err := l.Append(t.Context(), numbered(4))
		appended <- err
	}()
	close(fsys.gate)
	if err := <-appended; err != nil {
		t.Errorf("Append after a segment was sealed = %v", err)
	}
	mustClose(t, l)
	if st := l.Stats(); st.SealBacklog < 0 {
		t.Errorf("%d bytes wait", st.SealBacklog)
	}
	if _, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{}); err != nil {
		t.Error(err)
	}
}

// TestBacklogSealingFails goes on recording when segments cannot be sealed.
func TestBacklogSealingFails(t *testing.T) {
	l, fsys, logged := behind(t)
	broken := errors.New("no sealing today")
	go func() {
		for {
			select {
			case fsys.gate <- broken:
			case <-t.Context().Done():
				return
			}
		}
	}()
	for text := range logged {
		if strings.Contains(text, "sealing segments in the background") {
			break
		}
	}
	for i := range 20 {
		if _, err := l.Append(t.Context(), numbered(5000+i)); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, l)
}

// TestBacklogClose closes a ledger whose callers wait: they are told.
func TestBacklogClose(t *testing.T) {
	l, fsys, logged := behind(t)
	appended := make(chan error, 1)
	go func() {
		_, err := l.Append(t.Context(), numbered(4))
		appended <- err
	}()
	<-logged // it waits
	closed := make(chan error, 1)
	go func() { closed <- l.Close() }()
	close(fsys.gate)
	if err := <-appended; err != nil && !errors.Is(err, ErrClosed) {
		t.Errorf("Append = %v, want nil or ErrClosed", err)
	}
	if err := <-closed; err != nil {
		t.Errorf("Close = %v", err)
	}
}
