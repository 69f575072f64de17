package redact

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strconv"
	"time"
	"unicode/utf8"
)

// maxDepth bounds how deep values are followed; what lies deeper is replaced.
const maxDepth = 32

// tooDeep stands for values beyond maxDepth, among them those that hold
// themselves.
const tooDeep = "[REDACTED:too deep]"

// Field reports whether name tells that its value is secret, so that the value
// is to be replaced whatever it is.
func (r *Redactor) Field(name string) bool {
	return r.has(Field) && r.names.kind(name) != harmless
}

// Value returns a redacted copy of v, of v's type wherever that can hold a
// marker. Maps, slices, arrays, pointers and structs are followed; fields and
// keys with a telling name lose their value, a number or bool becoming zero.
// v itself is not changed; parts without findings may be shared with it.
func (r *Redactor) Value(v any) any {
	return r.value(v, 0)
}

func (r *Redactor) value(v any, depth int) any {
	if depth > maxDepth {
		return tooDeep
	}
	switch v := v.(type) {
	case nil, bool, int, int64, int32, int16, int8, uint, uint64, uint32, uint16, uint8, float64, float32, time.Time, time.Duration:
		return v
	case string:
		return r.String(v)
	case []byte:
		return r.bytes(v)
	case json.RawMessage:
		return json.RawMessage(r.bytes(v))
	case map[string]any:
		return r.object(v, depth)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = r.value(v[i], depth+1)
		}
		return out
	case []string:
		out := make([]string, len(v))
		for i := range v {
			out[i] = r.String(v[i])
		}
		return out
	case error:
		return r.error(v)
	}
	return r.reflected(v, depth)
}

// reflected follows a value of any other type. A foreign method or a map that
// is written meanwhile may panic: then the value is replaced, not let through.
func (r *Redactor) reflected(v any, depth int) (out any) {
	defer func() {
		if p := recover(); p != nil {
			out = fmt.Sprintf("[REDACTED:unreadable %T]", v)
		}
	}()
	rv := reflect.ValueOf(v)
	if rv.Kind() == reflect.Pointer && rv.IsNil() {
		return v
	}
	if text, ok := ownText(v); ok {
		clean := r.String(text)
		if clean == text {
			return v
		}
		if json.Valid([]byte(clean)) {
			return json.RawMessage(clean)
		}
		return clean
	}
	return r.copy(rv, depth).Interface()
}

// ownText returns what a value that writes itself writes. Its fields say
// little about that, and a copy made of them might not write itself at all.
func ownText(v any) (string, bool) {
	var text []byte
	var err error
	switch v := v.(type) {
	case json.Marshaler:
		text, err = v.MarshalJSON()
	case encoding.TextMarshaler:
		text, err = v.MarshalText()
	default:
		return "", false
	}
	return string(text), err == nil
}

func (r *Redactor) bytes(b []byte) []byte {
	if !utf8.Valid(b) {
		return b
	}
	s := string(b)
	if out := r.String(s); out != s {
		return []byte(out)
	}
	return b
}

func (r *Redactor) object(m map[string]any, depth int) map[string]any {
	if m == nil {
		return nil
	}
	out := make(map[string]any, len(m))
	for k, v := range m {
		key := freeKey(out, r.String(k))
		if r.hides(k, v) {
			out[key] = r.marker()
			continue
		}
		out[key] = r.value(v, depth+1)
	}
	return out
}

// freeKey returns key, numbered where two keys became the same marker.
func freeKey[V any](m map[string]V, key string) string {
	free := key
	for n := 2; ; n++ {
		if _, taken := m[free]; !taken {
			return free
		}
		free = key + "#" + strconv.Itoa(n)
	}
}

func (r *Redactor) marker() string {
	r.counts[Field].Add(1)
	return markers[Field]
}

// hides reports whether the value under name is to be replaced. Numbers, bools
// and nothing remain under names that also stand beside counts, as in
// {"token": 512}, and nothing at all needs no hiding.
func (r *Redactor) hides(name string, v any) bool {
	if !r.has(Field) {
		return false
	}
	kind := r.names.kind(name)
	if kind == harmless {
		return false
	}
	switch v := v.(type) {
	case nil, bool:
		return false
	case string:
		return v != "" && v != tooDeep && !hasFold(v, "[redacted:")
	case int, int64, int32, int16, int8, uint, uint64, uint32, uint16, uint8, float64, float32, time.Duration, time.Time, json.Number:
		return kind == strong
	}
	return true
}

// error keeps an error whose text is clean, so that errors.Is works on it.
func (r *Redactor) error(err error) (out any) {
	defer func() {
		if p := recover(); p != nil {
			out = fmt.Errorf("[REDACTED:unreadable %T]", err)
		}
	}()
	text := err.Error()
	if clean := r.String(text); clean != text {
		return errors.New(clean)
	}
	return err
}

// copy returns a redacted copy of a value of any type.
func (r *Redactor) copy(v reflect.Value, depth int) reflect.Value {
	if depth > maxDepth {
		return reflect.Zero(v.Type())
	}
	switch v.Kind() {
	case reflect.String:
		out := reflect.New(v.Type()).Elem()
		out.SetString(r.String(v.String()))
		return out
	case reflect.Interface:
		return r.copyInterface(v, depth)
	case reflect.Pointer:
		if v.IsNil() {
			return v
		}
		out := reflect.New(v.Type().Elem())
		out.Elem().Set(r.copy(v.Elem(), depth+1))
		return out
	case reflect.Slice:
		if v.IsNil() {
			return v
		}
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return reflect.ValueOf(r.bytes(v.Bytes())).Convert(v.Type())
		}
		out := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		for i := range v.Len() {
			out.Index(i).Set(r.copy(v.Index(i), depth+1))
		}
		return out
	case reflect.Array:
		out := reflect.New(v.Type()).Elem()
		for i := range v.Len() {
			out.Index(i).Set(r.copy(v.Index(i), depth+1))
		}
		return out
	case reflect.Map:
		return r.copyMap(v, depth)
	case reflect.Struct:
		return r.copyStruct(v, depth)
	}
	return v
}

func (r *Redactor) copyInterface(v reflect.Value, depth int) reflect.Value {
	if v.IsNil() {
		return v
	}
	out := reflect.New(v.Type()).Elem()
	inner := reflect.ValueOf(r.value(v.Interface(), depth+1))
	if inner.Type().AssignableTo(v.Type()) {
		out.Set(inner)
	} // else nil: the redacted form does not fit, the raw one must not pass
	return out
}

func (r *Redactor) copyMap(v reflect.Value, depth int) reflect.Value {
	if v.IsNil() {
		return v
	}
	out := reflect.MakeMapWithSize(v.Type(), v.Len())
	for it := v.MapRange(); it.Next(); {
		key, elem := it.Key(), it.Value()
		name := key
		if key.Kind() == reflect.Interface && !key.IsNil() {
			name = key.Elem()
		}
		if name.Kind() == reflect.String {
			text := name.String()
			elem = r.under(text, elem, depth)
			if clean := r.String(text); clean != text {
				key = freeReflectKey(out, key, clean)
			}
		} else {
			elem = r.copy(elem, depth+1)
		}
		out.SetMapIndex(key, elem)
	}
	return out
}

func freeReflectKey(m, key reflect.Value, clean string) reflect.Value {
	for n := 1; ; n++ {
		text := clean
		if n > 1 {
			text += "#" + strconv.Itoa(n)
		}
		free := reflect.ValueOf(text).Convert(stringType(key))
		if !m.MapIndex(free).IsValid() {
			return free
		}
	}
}

func stringType(key reflect.Value) reflect.Type {
	if key.Kind() == reflect.Interface {
		return reflect.TypeFor[string]()
	}
	return key.Type()
}

// under returns what stands under a name: nothing readable if the name tells.
func (r *Redactor) under(name string, v reflect.Value, depth int) reflect.Value {
	if !v.CanInterface() || !r.hides(name, v.Interface()) {
		return r.copy(v, depth+1)
	}
	r.counts[Field].Add(1)
	marker := reflect.ValueOf(markers[Field])
	out := reflect.New(v.Type()).Elem()
	switch {
	case v.Kind() == reflect.String:
		out.SetString(markers[Field])
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		out.SetBytes([]byte(markers[Field]))
	case v.Kind() == reflect.Pointer && v.Type().Elem().Kind() == reflect.String:
		out.Set(reflect.New(v.Type().Elem()))
		out.Elem().SetString(markers[Field])
	case marker.Type().AssignableTo(v.Type()):
		out.Set(marker)
	}
	return out
}

// copyStruct copies exported fields redacted. Fields that are not exported are
// left zero where they could hold a text: they cannot be read safely. Types
// that keep everything to themselves, such as time.Time, pass as they are.
func (r *Redactor) copyStruct(v reflect.Value, depth int) reflect.Value {
	t := v.Type()
	if v.CanInterface() {
		if text, ok := ownText(v.Interface()); ok {
			if r.String(text) != text {
				return reflect.Zero(t) // its type cannot hold the redacted form
			}
			return v
		}
	}
	exported := 0
	for i := range t.NumField() {
		if t.Field(i).IsExported() {
			exported++
		}
	}
	if exported == 0 {
		return v
	}
	out := reflect.New(t).Elem()
	for i := range t.NumField() {
		field := t.Field(i)
		if !field.IsExported() {
			continue
		}
		value := r.under(field.Name, v.Field(i), depth)
		if tag := jsonName(field); tag != "" && tag != field.Name && value.CanInterface() && r.hides(tag, value.Interface()) {
			value = r.under(tag, v.Field(i), depth)
		}
		out.Field(i).Set(value)
	}
	return out
}

func jsonName(field reflect.StructField) string {
	tag := field.Tag.Get("json")
	for i := range len(tag) {
		if tag[i] == ',' {
			return tag[:i]
		}
	}
	return tag
}

// Attr returns a redacted copy of a log attribute. A value that resolves
// itself ([slog.LogValuer]) is resolved first.
func (r *Redactor) Attr(a slog.Attr) slog.Attr {
	return r.attr(a, 0)
}

func (r *Redactor) attr(a slog.Attr, depth int) slog.Attr {
	if depth > maxDepth {
		return slog.String(a.Key, tooDeep)
	}
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindString:
		if text := v.String(); r.hides(a.Key, text) {
			return slog.String(a.Key, r.marker())
		} else if clean := r.String(text); clean != text {
			return slog.String(a.Key, clean)
		}
	case slog.KindGroup:
		group := v.Group()
		clean := make([]slog.Attr, len(group))
		for i := range group {
			clean[i] = r.attr(group[i], depth+1)
		}
		if r.Field(a.Key) {
			r.counts[Field].Add(1)
			return slog.String(a.Key, markers[Field])
		}
		return slog.Attr{Key: a.Key, Value: slog.GroupValue(clean...)}
	case slog.KindAny:
		if r.hides(a.Key, v.Any()) {
			return slog.String(a.Key, r.marker())
		}
		return slog.Any(a.Key, r.value(v.Any(), depth+1))
	case slog.KindInt64, slog.KindUint64, slog.KindFloat64, slog.KindDuration, slog.KindTime:
		if r.has(Field) && r.names.kind(a.Key) == strong {
			return slog.String(a.Key, r.marker())
		}
	}
	return slog.Attr{Key: a.Key, Value: v}
}
