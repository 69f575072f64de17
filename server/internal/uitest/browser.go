// Package uitest walks the web page in Chromium. Its own tests do so against a
// server with canned data; the tests of the whole do it against a real one:
//
//	uitest.Walk(t, "http://127.0.0.1:7070", uitest.Options{})
package uitest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience is how long one step in the browser may take on a busy machine
// before the test gives up. Nothing is concluded from how long it took.
const patience = 3 * time.Minute

// Browser is one Chromium with a profile of its own, ended with the test.
type Browser struct {
	ctx context.Context
}

// Open starts Chromium. Without one the test is skipped, and fails where the
// environment says CI=true.
func Open(t *testing.T) *Browser {
	t.Helper()
	path := ""
	for _, name := range []string{os.Getenv("KAIZEN_CHROMIUM"), "/usr/bin/chromium", "chromium", "chromium-browser", "google-chrome"} {
		if name == "" {
			continue
		}
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("no Chromium, and CI=true forbids the skip")
		}
		t.Skip("no Chromium: install it, or name it in KAIZEN_CHROMIUM, to test the web page")
	}
	alloc, stopAlloc := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()),
		chromedp.ExecPath(path), chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(patience),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("force-color-profile", "srgb"))
	ctx, stop := chromedp.NewContext(alloc)
	t.Cleanup(func() {
		// Waits until the process is gone: its profile is the test's to remove.
		if err := chromedp.Cancel(ctx); err != nil {
			t.Logf("close Chromium: %v", err)
		}
		stop()
		stopAlloc()
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	return &Browser{ctx: ctx}
}

// View is how a tab looks at the page.
type View struct {
	Width, Height int
	Dark          bool
}

// Views are the sizes and themes that the page is made for.
var views = []View{{1280, 800, false}, {1280, 800, true}, {390, 844, false}, {390, 844, true}}

// String names the view, in file names too.
func (v View) String() string {
	theme := "light"
	if v.Dark {
		theme = "dark"
	}
	return fmt.Sprintf("%d-%s", v.Width, theme)
}

// Tab is one tab, which remembers everything that went wrong in it.
type Tab struct {
	t    testing.TB
	ctx  context.Context
	base string
	dir  string
	view View

	mu       sync.Mutex
	troubles []string
	urls     map[network.RequestID]string
}

// Tab opens a tab on the server at base; screenshots go to dir.
func (b *Browser) Tab(t testing.TB, base, dir string, v View) *Tab {
	t.Helper()
	tab := &Tab{t: t, base: base, dir: dir, view: v, urls: map[network.RequestID]string{}}
	ctx, stop := chromedp.NewContext(b.ctx, chromedp.WithListener(tab.listen))
	t.Cleanup(stop)
	tab.ctx = ctx
	// The first action of a tab makes it, and ties it to the context it was
	// given: this one must not have a deadline.
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("open tab: %v", err)
	}
	scheme := "light"
	if v.Dark {
		scheme = "dark"
	}
	call(tab, network.Enable, network.EnableParams{})
	call(tab, log.Enable, cdp.Empty{})
	call(tab, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: int64(v.Width), Height: int64(v.Height), DeviceScaleFactor: 1, Mobile: v.Width < 700})
	call(tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	return tab
}

func (tab *Tab) listen(ev any) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	add := func(format string, args ...any) { tab.troubles = append(tab.troubles, fmt.Sprintf(format, args...)) }
	switch e := ev.(type) {
	case *runtime.EventExceptionThrown:
		add("exception: %s", thrown(e.ExceptionDetails))
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning || e.Type == runtime.ConsoleAPICalledTypeAssert {
			var parts []string
			for _, a := range e.Args {
				parts = append(parts, string(a.Value)+a.Description)
			}
			add("console %s: %s", e.Type, strings.Join(parts, " "))
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError {
			add("log: %s (%s)", e.Entry.Text, e.Entry.URL)
		}
	case *network.EventRequestWillBeSent:
		tab.urls[e.RequestID] = e.Request.URL
		if !strings.HasPrefix(e.Request.URL, tab.base) && !strings.HasPrefix(e.Request.URL, "data:") && !strings.HasPrefix(e.Request.URL, "about:") {
			add("request to a foreign origin: %s", e.Request.URL)
		}
	case *network.EventResponseReceived:
		if e.Response.Status >= 400 {
			add("status %d: %s", e.Response.Status, e.Response.URL)
		}
	case *network.EventLoadingFailed:
		if !e.Canceled { // the page takes back requests that nobody waits for any more
			add("request failed: %s: %s", tab.urls[e.RequestID], e.ErrorText)
		}
	}
}

func thrown(d *runtime.ExceptionDetails) string {
	if d.Exception != nil {
		return d.Text + " " + d.Exception.Description
	}
	return d.Text
}

// Troubles returns what went wrong since the last call.
func (tab *Tab) Troubles() []string {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	out := tab.troubles
	tab.troubles = nil
	return out
}

// Clean fails the test if anything went wrong: a console error, an exception,
// a failed request, a page wider than the window, text that became markup.
func (tab *Tab) Clean(where string) {
	tab.t.Helper()
	for _, s := range tab.Troubles() {
		tab.t.Errorf("%s, %s: %s", where, tab.view, s)
	}
	type found struct {
		Wide   int  `json:"wide"`
		Markup bool `json:"markup"`
		Pwned  bool `json:"pwned"`
	}
	r := Eval[found](tab, `({wide: document.documentElement.scrollWidth - innerWidth, markup: !!document.querySelector("main img, main script, main iframe"), pwned: "pwned" in window})`)
	if r.Wide > 0 {
		tab.t.Errorf("%s, %s: the page is %d px wider than the window", where, tab.view, r.Wide)
	}
	if r.Markup || r.Pwned {
		tab.t.Errorf("%s, %s: text became markup (element %v, script ran %v)", where, tab.view, r.Markup, r.Pwned)
	}
}

// call sends one command of the protocol.
func call[P, R any](tab *Tab, cmd cdp.Command[P, R], params P) R {
	tab.t.Helper()
	ctx, stop := context.WithTimeout(tab.ctx, patience)
	defer stop()
	r, err := chromedp.Call(ctx, cmd, params)
	tab.must(string(cmd.Method), err)
	return r
}

func (tab *Tab) do(what string, action chromedp.Action[chromedp.Void]) {
	tab.t.Helper()
	ctx, stop := context.WithTimeout(tab.ctx, patience)
	defer stop()
	tab.must(what, chromedp.Do(ctx, action))
}

func (tab *Tab) must(what string, err error) {
	tab.t.Helper()
	if err != nil {
		tab.t.Fatalf("%s, %s: %v\n%s", what, tab.view, err, strings.Join(tab.Troubles(), "\n"))
	}
}

// Eval evaluates an expression in the tab's page; a promise is waited for.
func Eval[T any](tab *Tab, js string) T {
	tab.t.Helper()
	ctx, stop := context.WithTimeout(tab.ctx, patience)
	defer stop()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](js, chromedp.EvalAwaitPromise))
	tab.must("evaluate "+js, err)
	return v
}

// Go loads a path of the page.
func (tab *Tab) Go(path string) {
	tab.t.Helper()
	tab.do("go to "+path, chromedp.Navigate(tab.base+path))
}

// Wait waits until a condition holds. The page itself watches for it.
func (tab *Tab) Wait(condition string) {
	tab.t.Helper()
	Eval[bool](tab, `new Promise(done => { const look = () => { let ok = false; try { ok = !!(`+condition+`) } catch {} ok ? done(true) : setTimeout(look, 20) }; look() })`)
}

// Click clicks the element of a CSS selector, once it is there.
func (tab *Tab) Click(selector string) {
	tab.t.Helper()
	tab.Wait(fmt.Sprintf("document.querySelector(%q)", selector))
	Eval[bool](tab, fmt.Sprintf(`(document.querySelector(%q).scrollIntoView({block: "center"}), true)`, selector))
	tab.do("click "+selector, chromedp.Click(chromedp.CSS(selector)))
}

// Slash presses the key that goes to the search. It is not typed: the driver
// would insert the character although the page prevents that.
func (tab *Tab) Slash() {
	tab.t.Helper()
	call(tab, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeRawKeyDown, Key: "/", Code: "Slash"})
	call(tab, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyUp, Key: "/", Code: "Slash"})
}

// Keys types keys, one after the other.
func (tab *Tab) Keys(keys string) {
	tab.t.Helper()
	tab.do("type "+keys, chromedp.KeyEvent(keys))
}

// Shot keeps a picture of the window.
func (tab *Tab) Shot(name string) {
	tab.t.Helper()
	ctx, stop := context.WithTimeout(tab.ctx, patience)
	defer stop()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	tab.must("picture "+name, err)
	if err := os.WriteFile(filepath.Join(tab.dir, fmt.Sprintf("%s-%s.png", name, tab.view)), png, 0o644); err != nil {
		tab.t.Fatal(err)
	}
}

// artifacts is where pictures go.
func artifacts(t *testing.T, dir string) string {
	t.Helper()
	if dir == "" {
		dir = os.Getenv("KAIZEN_ARTIFACTS")
	}
	if dir == "" {
		return t.TempDir()
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
