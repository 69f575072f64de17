/** Makes a span for the tests, named by its id, ms after a fixed moment. */
export function span(id, parent, from, length, more = {}) {
  const at = (ms) => new Date(Date.UTC(2026, 0, 1) + ms).toISOString();
  return {
    trace_id: "t", span_id: id, parent_span_id: parent, name: id, kind: "other", status: "ok", start: at(from),
    end: length === null ? null : at(from + length), duration_ms: length, ...more,
  };
}
