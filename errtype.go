package kaizen

import (
	"context"
	"errors"
	"net"
	"reflect"
	"strconv"

	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/llmhttp"
)

// errorType returns the low-cardinality error.type of err, as the conventions
// want it: a name that can be counted, never the text. An error can name its own
// with a method ErrorType() string.
func errorType(err error) string {
	var named interface{ ErrorType() string }
	var panicked *hook.PanicError
	var denied *hook.DeniedError
	var api *llmhttp.APIError
	var netErr net.Error
	switch {
	case errors.As(err, &named):
		return named.ErrorType()
	case errors.As(err, &panicked):
		return "panic"
	case errors.As(err, &denied):
		return "denied"
	case errors.As(err, &api):
		if api.Type != "" {
			return api.Type
		}
		return strconv.Itoa(api.Status)
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.As(err, &netErr) && netErr.Timeout():
		return "timeout"
	}
	return typeName(err)
}

// typeName is the type of the innermost error, "_OTHER" (the conventions' word)
// where that is one of the nameless types of the standard library.
func typeName(err error) string {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			break
		}
		err = next
	}
	t := reflect.TypeOf(err)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.PkgPath() {
	case "", "errors", "fmt":
		return "_OTHER"
	}
	return t.String()
}

// stackOf returns the stack of a panic, "" for other errors.
func stackOf(err error) string {
	var panicked *hook.PanicError
	if errors.As(err, &panicked) {
		return string(panicked.Stack)
	}
	return ""
}
