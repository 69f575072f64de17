/**
 * The shapes that the JSON API answers with. Types only: this module is empty
 * at run time.
 *
 * @typedef {"running"|"ok"|"error"|"denied"|"cancelled"} Status
 *
 * @typedef {object} Tokens Disjoint counts.
 * @property {number} input
 * @property {number} cache_read
 * @property {number} cache_write
 * @property {number} output
 * @property {number} reasoning
 *
 * @typedef {object} TraceSummary
 * @property {string} trace_id
 * @property {string} name
 * @property {string} [run_id]
 * @property {string} [agent_name]
 * @property {string} [agent_id]
 * @property {string} [session_id]
 * @property {string} [user_id]
 * @property {string} [service]
 * @property {string} start
 * @property {string|null} end
 * @property {number|null} duration_ms
 * @property {Status} status
 * @property {number} spans
 * @property {number} errors
 * @property {number} runs
 * @property {number} model_calls
 * @property {number} tool_calls
 * @property {number} log_records
 * @property {number} audit_entries
 * @property {Tokens} tokens
 * @property {number|null} cost_usd
 * @property {number} unpriced_calls
 * @property {string[]|null} agents
 *
 * @typedef {object} Part
 * @property {string} type
 * @property {unknown} [content]
 * @property {string} [id]
 * @property {string} [name]
 * @property {unknown} [arguments]
 * @property {unknown} [response]
 * @property {unknown} [result]
 *
 * @typedef {object} Message
 * @property {string} role
 * @property {Part[]|null} [parts]
 * @property {string} [finish_reason]
 *
 * @typedef {object} SpanEvent
 * @property {string} name
 * @property {string} time
 * @property {Record<string, unknown>|null} [attributes]
 *
 * @typedef {object} SpanLink
 * @property {string} trace_id
 * @property {string} span_id
 * @property {Record<string, unknown>|null} [attributes]
 *
 * @typedef {object} Span
 * @property {string} trace_id
 * @property {string} span_id
 * @property {string} [parent_span_id]
 * @property {string} name
 * @property {string} kind
 * @property {string} start
 * @property {string|null} end
 * @property {number|null} duration_ms
 * @property {Status} status
 * @property {string} [status_message]
 * @property {string} [error_type]
 * @property {boolean} [pending]
 * @property {string} [service]
 * @property {string} [scope]
 * @property {string} [run_id]
 * @property {string} [agent_id]
 * @property {string} [agent_name]
 * @property {string} [session_id]
 * @property {string} [user_id]
 * @property {string} [operation]
 * @property {string} [provider]
 * @property {string} [model]
 * @property {string} [response_model]
 * @property {string} [tool_name]
 * @property {unknown} [tool_arguments]
 * @property {unknown} [tool_result]
 * @property {Tokens|null} [tokens]
 * @property {number|null} [cost_usd]
 * @property {number|null} [first_chunk_ms]
 * @property {Record<string, unknown>|null} [attributes]
 * @property {Record<string, unknown>|null} [resource]
 * @property {SpanEvent[]|null} [events]
 * @property {SpanLink[]|null} [links]
 * @property {Message[]|null} [input_messages]
 * @property {Message[]|null} [output_messages]
 * @property {Part[]|null} [system_instructions]
 *
 * @typedef {object} Log
 * @property {string} timestamp
 * @property {string} level
 * @property {string} message
 * @property {string} [logger]
 * @property {string} [trace_id]
 * @property {string} [span_id]
 * @property {string} [agent_id]
 * @property {string} [session_id]
 * @property {string} [run_id]
 * @property {string} [user_id]
 * @property {string} [service]
 * @property {Record<string, unknown>|null} [context]
 *
 * @typedef {object} Entry One audit entry.
 * @property {number} index
 * @property {string} id
 * @property {string} time
 * @property {string} agent_id
 * @property {string} action
 * @property {"success"|"failure"|"denied"} result
 * @property {Record<string, unknown>|null} [details]
 * @property {unknown} [user_id] A string, or {"erased": true} or {"encrypted": true}.
 * @property {string} [session_id]
 * @property {string} [run_id]
 * @property {string} [trace_id]
 * @property {string} [span_id]
 * @property {string} [parent]
 * @property {string} [severity]
 * @property {Record<string, unknown>|null} [metadata]
 *
 * @typedef {object} Hold A legal hold: on the entries that match all it names.
 * @property {string} id
 * @property {string} [agent]
 * @property {string} [user]
 * @property {string} [subject]
 * @property {string} [session]
 * @property {string} [run]
 * @property {string} [trace]
 * @property {string} [since]
 * @property {string} [until]
 * @property {string} [reason]
 *
 * @typedef {object} Exemplar
 * @property {string} metric
 * @property {Record<string, string>|null} [labels]
 * @property {number} value
 * @property {string} timestamp
 *
 * @typedef {object} SpanRecords
 * @property {Span} span
 * @property {Log[]|null} logs
 * @property {Entry[]|null} audit
 * @property {Exemplar[]|null} exemplars
 *
 * @typedef {object} SessionRow
 * @property {string} session_id
 * @property {string} [user_id]
 * @property {string} first
 * @property {string} last
 * @property {number} runs
 * @property {number} runs_failed
 * @property {number} model_calls
 * @property {number} tool_calls
 * @property {Tokens} tokens
 * @property {number|null} cost_usd
 * @property {string[]|null} agents
 *
 * @typedef {object} AgentRow
 * @property {string} agent
 * @property {string[]|null} agent_ids
 * @property {number} runs
 * @property {number} runs_failed
 * @property {number} active
 * @property {number} model_calls
 * @property {number} tool_calls
 * @property {number} tool_calls_failed
 * @property {Tokens} tokens
 * @property {number|null} cost_usd
 * @property {string} last
 * @property {number|null} run_p50_ms
 * @property {number|null} run_p95_ms
 *
 * @typedef {object} CostRow
 * @property {string} key
 * @property {number} model_calls
 * @property {Tokens} tokens
 * @property {number|null} cost_usd
 * @property {number} unpriced_calls
 *
 * @typedef {object} Costs
 * @property {string} by
 * @property {number|null} total_usd
 * @property {number} unpriced_calls
 * @property {number} model_calls
 * @property {CostRow[]|null} rows
 *
 * @typedef {object} Checkpoint
 * @property {string} origin
 * @property {number} size
 * @property {string} root Hex or base64.
 * @property {string} note The signed note.
 * @property {string} vkey
 *
 * @typedef {object} Stats
 * @property {number} runs
 * @property {number} runs_failed
 * @property {number} spans
 * @property {number} model_calls
 * @property {number} model_calls_failed
 * @property {number} model_calls_unpriced
 * @property {number} tool_calls
 * @property {number} tool_calls_failed
 * @property {number} log_records
 * @property {number} sessions
 * @property {number} agents
 * @property {Tokens} tokens
 * @property {number|null} cost_usd
 * @property {number} audit_entries
 */
export {};
