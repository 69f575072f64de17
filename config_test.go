package kaizen

import (
	"path/filepath"
	"testing"
)

// TestSpoolOfEachServer: records that wait for one server are never adopted by
// a process that sends to another.
func TestSpoolOfEachServer(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("KAIZEN_SERVER", "")
	spool := func(cfg Config) string { return cfg.withDefaults().SpoolDir }
	a, b := spool(Config{Server: "http://a:7070"}), spool(Config{Server: "http://b:7070"})
	if a == b || filepath.Dir(a) != filepath.Dir(b) {
		t.Errorf("spools = %s and %s, want one for each server", a, b)
	}
	if again := spool(Config{Server: "http://a:7070/"}); again != a {
		t.Errorf("spool = %s for the same server, want %s", again, a)
	}
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")
	if c := spool(Config{}); c == a || c == b {
		t.Errorf("spool = %s for another collector", c)
	}
	if got := spool(Config{SpoolDir: "x"}); got != "x" {
		t.Errorf("spool = %s, want the one that was named", got)
	}
	if got := spool(Config{SpoolDir: NoSpool}); got != "" {
		t.Errorf("spool = %q, want none", got)
	}
}

func TestDefaults(t *testing.T) {
	t.Setenv("KAIZEN_SERVER", "http://env:1/")
	t.Setenv("KAIZEN_API_KEY", "key-of-the-environment")
	t.Setenv("OTEL_SERVICE_NAME", "name")
	c := Config{SpoolDir: NoSpool}.withDefaults()
	if c.Server != "http://env:1" || c.APIKey != "key-of-the-environment" || c.ServiceName != "name" || !c.exports() {
		t.Errorf("defaults = %+v", c)
	}
	c = Config{SpoolDir: NoSpool, Server: "http://set", ServiceName: "mine"}.withDefaults()
	if c.Server != "http://set" || c.ServiceName != "mine" {
		t.Errorf("explicit settings = %+v, want them kept", c)
	}
}
