package metrics

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// NoRateLimit switches off [HandlerConfig.RateLimit].
const NoRateLimit = -1

const (
	// defaultRateLimit lets ten scrapers ask every second.
	defaultRateLimit = 600
	// maxClients bounds the table of addresses of the rate limit, 100 bytes each.
	maxClients = 4096
	// maxScrapes bounds the answers that are written at once.
	maxScrapes = 8
)

// HandlerConfig guards the page that [Metrics.Handler] serves. The zero value
// asks for no key and allows every address: fit for a listener on loopback.
type HandlerConfig struct {
	// BearerKey, if not empty, must come as "Authorization: Bearer <key>". It
	// is compared in constant time.
	BearerKey string
	// AllowCIDRs, if not empty, lists the networks that may ask.
	AllowCIDRs []netip.Prefix
	// TrustedProxies lists the networks whose X-Forwarded-For header is
	// believed. If empty, the client is who opened the connection.
	TrustedProxies []netip.Prefix
	// RateLimit bounds the requests of one address in a minute, in bursts of
	// up to a minute's worth. If zero, 600; [NoRateLimit] sets no bound.
	// Requests with a wrong key have an allowance of their own, of a tenth of
	// it, so that guessing is slow and does not lock out who has the key.
	RateLimit int
}

// Handler serves the registry as OpenMetrics (with exemplars), Prometheus text
// or protobuf (with native histograms), as the client prefers. The answers are
// 403 outside the allowed networks, 401 without the key, 429 beyond the rate.
func (m *Metrics) Handler(cfg HandlerConfig) http.Handler {
	g := &guard{
		cfg: cfg,
		key: sha256.Sum256([]byte(cfg.BearerKey)),
		now: time.Now,
		next: promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
			// One broken collector of a user must not hide the others.
			ErrorHandling:       promhttp.ContinueOnError,
			EnableOpenMetrics:   true,
			CoalesceGather:      true,
			MaxRequestsInFlight: maxScrapes,
		}),
	}
	rate := cfg.RateLimit
	if rate == 0 {
		rate = defaultRateLimit
	}
	if rate > 0 {
		g.good = newLimiter(rate)
		g.bad = newLimiter(max(1, rate/10))
	}
	return g
}

// guard decides who may read.
type guard struct {
	cfg  HandlerConfig
	key  [sha256.Size]byte
	now  func() time.Time
	good *limiter // nil = no limit
	bad  *limiter
	next http.Handler
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	client := g.client(r)
	if len(g.cfg.AllowCIDRs) > 0 && !within(g.cfg.AllowCIDRs, client) {
		http.Error(w, "address not allowed", http.StatusForbidden)
		return
	}
	// The right key is looked at first: a flood of wrong ones from the same
	// address uses up only its own allowance.
	limit, authorized := g.good, g.authorized(r)
	if !authorized {
		limit = g.bad
	}
	if limit != nil && !limit.allow(client, g.now()) {
		w.Header().Set("Retry-After", "60")
		http.Error(w, "too many requests", http.StatusTooManyRequests)
		return
	}
	if !authorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="metrics"`)
		http.Error(w, "missing or wrong key", http.StatusUnauthorized)
		return
	}
	g.next.ServeHTTP(w, r)
}

// authorized compares hashes, which have one length, in constant time.
func (g *guard) authorized(r *http.Request) bool {
	if g.cfg.BearerKey == "" {
		return true
	}
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	got := sha256.Sum256([]byte(strings.TrimSpace(key)))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(got[:], g.key[:]) == 1
}

// client returns the address that asks: the peer, or behind trusted proxies
// the last address in X-Forwarded-For that is not one of them.
func (g *guard) client(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // is in no network
	}
	addr := peer.Addr().Unmap().WithZone("")
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && within(g.cfg.TrustedProxies, addr); i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		addr = hop.Unmap().WithZone("")
	}
	return addr
}

func within(networks []netip.Prefix, addr netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}

// limiter is a token bucket per address.
type limiter struct {
	perMinute float64

	mu      sync.Mutex
	buckets map[netip.Addr]bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newLimiter(perMinute int) *limiter {
	return &limiter{perMinute: float64(perMinute), buckets: make(map[netip.Addr]bucket)}
}

func (l *limiter) allow(addr netip.Addr, now time.Time) bool {
	if addr.Is6() { // a household or a host has a /64 to choose from
		addr = netip.PrefixFrom(addr, 64).Masked().Addr()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b, known := l.buckets[addr]
	if !known {
		if len(l.buckets) >= maxClients {
			l.prune(now)
		}
		b = bucket{tokens: l.perMinute, at: now}
	}
	b.tokens = min(l.perMinute, b.tokens+now.Sub(b.at).Minutes()*l.perMinute)
	b.at = now
	allowed := b.tokens >= 1
	if allowed {
		b.tokens--
	}
	l.buckets[addr] = b
	return allowed
}

// prune forgets addresses whose bucket is full again, and any one if there is
// none: forgetting only ever gives an address more.
func (l *limiter) prune(now time.Time) {
	for addr, b := range l.buckets {
		if now.Sub(b.at) >= time.Minute {
			delete(l.buckets, addr)
		}
	}
	for addr := range l.buckets {
		if len(l.buckets) < maxClients {
			return
		}
		delete(l.buckets, addr)
	}
}
