// Package jaeger answers the query API of Jaeger's web page from the server's
// spans, so that a Grafana data source of type Jaeger, or anything else that
// speaks it, shows them.
//
//	mux.Handle("/jaeger/", jaeger.New(src, jaeger.Config{}))
//
// A Grafana data source takes the address of the server with /jaeger.
package jaeger

import (
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/kaizen-go/kaizen/server/internal/record"
)

// Source is where the spans come from. Both methods may be called at once; the
// spans are only read.
type Source interface {
	// Trace returns the spans of one trace, and whether there are any.
	Trace(id record.TraceID) ([]*record.Span, bool)
	// Traces yields traces that start in [since, until), newest first. A zero
	// time is no bound.
	Traces(since, until time.Time) iter.Seq[[]*record.Span]
}

// Config tunes [New]. The zero value is fit for production.
type Config struct {
	// Logger is told of answers that could not be delivered. If nil, nothing is logged.
	Logger *slog.Logger

	// now is the clock; tests set it.
	now func() time.Time
}

// Bounds of one request.
const (
	defaultLimit = 100   // as Jaeger's
	maxLimit     = 1500  // as Jaeger's
	maxScanned   = 1e6   // spans looked at
	maxNames     = 10000 // operations listed
	// catalogueAge is how long the list of services and operations is used:
	// Grafana asks for it at every key stroke.
	catalogueAge = 10 * time.Second
	// longestTrace widens a search, since traces are found by their start and
	// the spans in question may have begun later.
	longestTrace = time.Hour
)

type server struct {
	src Source
	cfg Config

	mu   sync.Mutex
	list catalogue
	read time.Time // when list was read; zero if never
}

// New returns the handler of the API under /jaeger/api.
func New(src Source, cfg Config) http.Handler {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.now == nil {
		cfg.now = time.Now
	}
	s := &server{src: src, cfg: cfg}
	mux := http.NewServeMux()
	handle := func(path string, f func(*http.Request) (any, int, error)) {
		mux.HandleFunc("GET /jaeger/api"+path, s.serve(f))
	}
	handle("/services", s.services)
	handle("/services/{service}/operations", s.operationNames)
	handle("/operations", s.operations)
	handle("/traces", s.traces)
	handle("/traces/{id}", s.trace)
	handle("/dependencies", s.dependencies)
	return mux
}

// apiError is an error with its HTTP status.
type apiError struct {
	code int
	msg  string
}

func (e *apiError) Error() string { return e.msg }

func badRequest(format string, args ...any) error {
	return &apiError{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// envelope is what every answer of Jaeger's is wrapped in.
type envelope struct {
	Data   any           `json:"data"`
	Total  int           `json:"total"`
	Limit  int           `json:"limit"`
	Offset int           `json:"offset"`
	Errors []answerError `json:"errors"`
}

type answerError struct {
	Code int    `json:"code"`
	Msg  string `json:"msg"`
}

func (s *server) serve(f func(*http.Request) (any, int, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		data, total, err := f(r)
		env := envelope{Data: data, Total: total}
		code := http.StatusOK
		if err != nil {
			code = http.StatusInternalServerError
			if e, ok := err.(*apiError); ok {
				code = e.code
			}
			env = envelope{Errors: []answerError{{code, err.Error()}}}
		}
		body, err := json.Marshal(env)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		if _, err := w.Write(body); err != nil {
			s.cfg.Logger.Debug("jaeger: answer not delivered", "path", r.URL.Path, "err", err)
		}
	}
}

// operation is one entry of the list of operations.
type operation struct {
	Name string `json:"name"`
	Kind string `json:"spanKind"`
}

// catalogue lists what there is to search for.
type catalogue struct {
	services   []string
	operations map[string][]operation // by service, in order of name
	calls      []dependency
}

type dependency struct {
	Parent string `json:"parent"`
	Child  string `json:"child"`
	Count  int    `json:"callCount"`
}

// catalogue returns the list, read anew when it is old.
func (s *server) catalogue() catalogue {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.cfg.now(); s.read.IsZero() || now.Sub(s.read) > catalogueAge {
		s.list, s.read = collect(s.src.Traces(time.Time{}, time.Time{})), now
	}
	return s.list
}

// collect reads services, operations and who called whom from traces.
func collect(traces iter.Seq[[]*record.Span]) catalogue {
	seen := map[string]map[operation]struct{}{}
	calls := map[[2]string]int{}
	scanned, names := 0, 0
	for spans := range traces {
		service := make(map[record.SpanID]string, len(spans))
		for _, sp := range spans {
			svc := serviceOf(sp)
			service[sp.SpanID] = svc
			if seen[svc] == nil {
				seen[svc] = map[operation]struct{}{}
			}
			op := operation{sp.Name, kindOf(sp)}
			if _, ok := seen[svc][op]; !ok && names < maxNames {
				seen[svc][op] = struct{}{}
				names++
			}
		}
		for _, sp := range spans {
			if parent, ok := service[sp.ParentID]; ok && parent != serviceOf(sp) {
				calls[[2]string{parent, serviceOf(sp)}]++
			}
		}
		if scanned += len(spans); scanned > maxScanned {
			break
		}
	}
	return sortCatalogue(seen, calls)
}

func sortCatalogue(seen map[string]map[operation]struct{}, calls map[[2]string]int) catalogue {
	c := catalogue{services: []string{}, operations: map[string][]operation{}, calls: []dependency{}}
	for svc, ops := range seen {
		c.services = append(c.services, svc)
		for op := range ops {
			c.operations[svc] = append(c.operations[svc], op)
		}
		slices.SortFunc(c.operations[svc], func(a, b operation) int {
			return slices.Compare([]string{a.Name, a.Kind}, []string{b.Name, b.Kind})
		})
	}
	slices.Sort(c.services)
	for pair, n := range calls {
		c.calls = append(c.calls, dependency{pair[0], pair[1], n})
	}
	slices.SortFunc(c.calls, func(a, b dependency) int {
		return slices.Compare([]string{a.Parent, a.Child}, []string{b.Parent, b.Child})
	})
	return c
}

func (s *server) services(*http.Request) (any, int, error) {
	list := s.catalogue().services
	return list, len(list), nil
}

func (s *server) operations(r *http.Request) (any, int, error) {
	service := r.FormValue("service")
	if service == "" {
		return nil, 0, badRequest("parameter 'service' is required")
	}
	list := []operation{}
	for _, op := range s.catalogue().operations[service] {
		if kind := r.FormValue("spanKind"); kind == "" || kind == op.Kind {
			list = append(list, op)
		}
	}
	return list, len(list), nil
}

// operationNames is the older form: names alone.
func (s *server) operationNames(r *http.Request) (any, int, error) {
	list := []string{}
	for _, op := range s.catalogue().operations[r.PathValue("service")] {
		list = append(list, op.Name)
	}
	list = slices.Compact(list) // sorted by name; the kinds differ
	return list, len(list), nil
}

// dependencies answers who called whom, over all that is stored: Jaeger's own
// numbers come from a batch job, so its bounds of time are coarse as well.
func (s *server) dependencies(*http.Request) (any, int, error) {
	list := s.catalogue().calls
	return list, len(list), nil
}
