package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/internal/query"
)

// Values of error.code.
const (
	codeBadRequest  = "bad_request"
	codeNotFound    = "not_found"
	codeTooLarge    = "too_large"
	codeUnsupported = "unsupported_media_type"
	codeUnavailable = "unavailable"
	codeInternal    = "internal"
	codeCancelled   = "cancelled"
	codeHeld        = "held"
)

// apiError is an error as the caller sees it.
type apiError struct {
	status        int
	code, message string
}

func (e *apiError) Error() string { return e.message }

func badRequest(format string, args ...any) error {
	return &apiError{http.StatusBadRequest, codeBadRequest, fmt.Sprintf(format, args...)}
}

// seen translates an error. What is not the caller's to know is logged.
func (a *api) seen(r *http.Request, err error) *apiError {
	var known *apiError
	var filter *query.FilterError
	var entry *audit.EntryError
	var held *audit.HeldError
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &filter):
		return &apiError{http.StatusBadRequest, codeBadRequest, filter.Error()}
	case errors.As(err, &entry):
		return &apiError{http.StatusBadRequest, codeBadRequest, err.Error()}
	case errors.As(err, &held):
		return &apiError{http.StatusConflict, codeHeld, held.Error()}
	case errors.Is(err, query.ErrNotFound), errors.Is(err, audit.ErrNotFound), errors.Is(err, audit.ErrNoHold):
		return &apiError{http.StatusNotFound, codeNotFound, err.Error()}
	case errors.Is(err, audit.ErrClosed), errors.Is(err, audit.ErrFailed), errors.Is(err, audit.ErrFull):
		a.cfg.Logger.Error("api: ledger", "path", r.URL.Path, "error", err)
		return &apiError{http.StatusServiceUnavailable, codeUnavailable, "the audit ledger takes nothing at this moment"}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &apiError{http.StatusServiceUnavailable, codeCancelled, "the request ended before its answer"}
	}
	a.cfg.Logger.Error("api: request failed", "path", r.URL.Path, "error", err)
	return &apiError{http.StatusInternalServerError, codeInternal, "internal error; the server's log says more"}
}

func (a *api) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := a.seen(r, err)
	b, err := json.Marshal(map[string]any{"error": map[string]string{"code": e.code, "message": e.message}})
	if err != nil { // two strings
		b = nil
	}
	if e.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5")
	}
	a.write(w, e.status, "application/json", b)
}
