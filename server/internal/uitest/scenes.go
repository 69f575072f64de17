package uitest

import (
	"fmt"
	"strings"
	"time"
)

// Hostile is a name that would run as script in a page that takes text for
// markup; the canned data use it wherever a sender can put text.
const Hostile = `<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>"'&`

// BigSpans is how many spans the canned large trace has.
const BigSpans = 10000

// Names of canned traces that the tests open.
const (
	TeamTrace    = "invoke_agent supervisor"
	VoteTrace    = "invoke_agent moderator"
	ChainTrace   = "invoke_agent triage"
	FailedTrace  = "invoke_agent importer"
	RunningTrace = "invoke_agent watcher"
	BigTrace     = "invoke_agent crawler"
)

// all writes every scene.
func (b *builder) all() {
	b.big()
	b.quiet()
	b.failedRun()
	b.chain()
	b.vote()
	b.team()
	b.hostile()
	b.orphan()
	b.runningRun()
	for i := range 60 {
		b.small(i)
	}
}

// team is a supervisor with three workers: one retries, one is denied a tool,
// one streams.
func (b *builder) team() {
	d := b.trace(4*time.Minute, "support-4812", "u-17")
	system := []object{{"type": "text", "content": "You lead three workers. Split the question, then write one answer from what they find."}}
	question := text("user", "Which of our regions had the slowest checkout last week, and what would a fix cost?")
	lead := b.run(d, nil, "supervisor", 0, 18420, object{"attributes": object{"kaizen.run.input": "Which of our regions had the slowest checkout last week, and what would a fix cost?", "kaizen.run.output": "Region south, at 2.8 s. A second cache node costs about 140 USD a month."}})
	b.span(d, lead, "memory", "load memory", 12, 8, nil)
	b.span(d, lead, "plan", "plan", 25, 40, object{"attributes": object{"kaizen.plan.steps": 3}})
	plan := object{"role": "assistant", "finish_reason": "tool_calls", "parts": []object{
		{"type": "reasoning", "content": "Three independent parts: measurements, prices, and the history of incidents. They can run at once."},
		{"type": "text", "content": "I will ask the analyst, the pricer and the historian at once."},
		{"type": "tool_call", "id": "c1", "name": "delegate", "arguments": object{"to": []string{"analyst", "pricer", "historian"}}},
	}}
	b.model(d, lead, "claude-sonnet-4-5", 70, 2410, object{"system_instructions": system, "input_messages": messages(question), "output_messages": messages(plan),
		"tokens": usage(212, 3050, 640, 188, 402), "cost_usd": 0.014091, "first_chunk_ms": 610.0})
	b.analyst(d, b.span(d, lead, "specialist", "specialist analyst", 2500, 9100, object{"attributes": object{"kaizen.handoff.to": "analyst", "kaizen.pattern": "supervisor"}}))
	b.pricer(d, b.span(d, lead, "specialist", "specialist pricer", 2502, 6200, object{"attributes": object{"kaizen.handoff.to": "pricer", "kaizen.pattern": "supervisor"}}))
	b.historian(d, b.span(d, lead, "specialist", "specialist historian", 2503, 12300, object{"attributes": object{"kaizen.handoff.to": "historian", "kaizen.pattern": "supervisor"}}))
	answer := text("assistant", "Region south was slowest: 2.8 s at the 95th percentile, against 1.1 s elsewhere.\n\nA second cache node there costs about 140 USD a month. The incident of May had the same cause; its post-mortem could not be read, because access was denied.")
	b.model(d, lead, "claude-sonnet-4-5", 14900, 3400, object{"system_instructions": system, "input_messages": messages(question, plan, text("tool", "three reports")), "output_messages": messages(answer),
		"tokens": usage(1804, 3690, 0, 231, 96), "cost_usd": 0.011424, "first_chunk_ms": 480.0})
	b.span(d, lead, "checkpoint", "save checkpoint", 18330, 22, object{"attributes": object{"kaizen.checkpoint.size_bytes": 4120}})
	b.log(lead, "info", "desk.answer", "answer sent to the user", 18410, object{"characters": 262, "workers": 3})
}

func (b *builder) analyst(d *draft, parent object) {
	r := b.run(d, parent, "analyst", 2510, 9080, object{"attributes": object{"kaizen.run.input": "Compare checkout latency by region for last week."}})
	ask := text("user", "Compare checkout latency by region for last week.")
	call := object{"role": "assistant", "finish_reason": "tool_calls", "parts": []object{{"type": "tool_call", "id": "q1", "name": "query_metrics", "arguments": object{"query": "histogram_quantile(0.95, sum by (le, region) (rate(checkout_seconds_bucket[1w])))"}}}}
	b.model(d, r, "gpt-5-mini", 2530, 1900, object{"input_messages": messages(ask), "output_messages": messages(call), "tokens": usage(640, 0, 0, 62, 128), "cost_usd": 0.000540})
	b.tool(d, r, "query_metrics", 4450, 812, object{"query": "histogram_quantile(0.95, sum by (le, region) (rate(checkout_seconds_bucket[1w])))"},
		object{"north": 1.08, "east": 1.12, "south": 2.81, "west": 1.15}, object{"attributes": object{"gen_ai.tool.call.id": "q1"}})
	m := b.model(d, r, "gpt-5-mini", 5300, 6200, object{"input_messages": messages(ask, call), "output_messages": messages(text("assistant", "South: 2.81 s at p95. North 1.08, east 1.12, west 1.15.")),
		"tokens": usage(820, 512, 0, 48, 256), "cost_usd": 0.000826, "first_chunk_ms": 4100.0, "attributes": object{"kaizen.attempts": 2},
		"events": []object{{"name": "retry", "time": stamp(d.at.Add(ms(6900))), "attributes": object{"http.response.status_code": 429, "wait_ms": 1500}}}})
	b.log(m, "warning", "kaizen.model", "model call retried after 429: rate limit reached for requests", 6900, object{"attempt": 1, "wait_ms": 1500})
}

func (b *builder) pricer(d *draft, parent object) {
	r := b.run(d, parent, "pricer", 2512, 6180, nil)
	b.model(d, r, "local-llama", 2540, 2200, object{"tokens": usage(410, 0, 0, 96, 0)}) // no price is known for it, and no content was recorded
	b.tool(d, r, "price_list", 4760, 310, object{"sku": "cache.node.medium", "region": "south"}, "cache.node.medium in south: 139.90 USD a month, 1,540 USD a year when paid ahead", nil)
	b.model(d, r, "local-llama", 5100, 3500, nil) // streamed without usage
}

func (b *builder) historian(d *draft, parent object) {
	r := b.run(d, parent, "historian", 2515, 12270, nil)
	b.model(d, r, "gpt-5-mini", 2535, 1500, object{"input_messages": messages(text("user", "Has checkout in region south been slow before?")), "output_messages": messages(text("assistant", "I will look at past incidents.")), "tokens": usage(380, 0, 0, 22, 64), "cost_usd": 0.000267})
	b.span(d, r, "retrieval", "search incidents", 4050, 640, nil)
	b.tool(d, r, "search_incidents", 4800, 1200, object{"text": "checkout south", "limit": 5}, []object{{"id": "INC-311", "title": "Checkout slow in south", "date": "2026-05-14"}}, nil)
	p := b.span(d, r, "permission", "permission read_postmortem", 6100, 30, object{"status": "denied", "error_type": "permission_denied", "status_message": "read_postmortem needs the role incident-reader", "attributes": object{"kaizen.decision": "deny", "kaizen.decided_by": "policy", "kaizen.reason": "read_postmortem needs the role incident-reader"}})
	b.entry(p, "permission.check", "denied", 6130, object{"tool": "read_postmortem", "reason": "needs the role incident-reader"})
	t := b.tool(d, r, "read_postmortem", 6135, 2, object{"id": "INC-311"}, nil, object{"status": "denied", "error_type": "permission_denied", "status_message": "read_postmortem needs the role incident-reader"})
	b.log(t, "error", "kaizen.tool", "tool read_postmortem denied: needs the role incident-reader", 6137, object{"tool": "read_postmortem", "role": "incident-reader"})
	b.model(d, r, "gpt-5-mini", 6300, 8400, object{"input_messages": messages(text("user", "Has checkout in region south been slow before?"), text("assistant", "I will look at past incidents.")),
		"output_messages": messages(text("assistant", "Yes, on 14 May (INC-311). I was not allowed to read its post-mortem.")), "tokens": usage(910, 256, 0, 40, 192), "cost_usd": 0.000721})
}

// vote is a consensus of three.
func (b *builder) vote() {
	d := b.trace(11*time.Minute, "support-4811", "u-03")
	r := b.run(d, nil, "moderator", 0, 7200, nil)
	for i, voter := range []string{"voter-a", "voter-b", "voter-c"} {
		v := b.run(d, r, voter, 20+float64(i), 4200+float64(i)*900, nil)
		vote := []string{"approve", "approve", "reject"}[i]
		b.model(d, v, []string{"gpt-5", "claude-sonnet-4-5", "gpt-5-mini"}[i], 40, 4100+float64(i)*900, object{
			"input_messages": messages(text("user", "Refund of 84 USD for order 11873: approve or reject?")), "output_messages": messages(text("assistant", vote)),
			"tokens": usage(520, 1024, 0, 4, 310+100*i), "cost_usd": 0.0031 + 0.0007*float64(i)})
	}
	b.model(d, r, "gpt-5-mini", 6100, 1000, object{"input_messages": messages(text("user", "Votes: approve, approve, reject. Decide.")), "output_messages": messages(text("assistant", "Approved, two to one.")), "tokens": usage(90, 0, 0, 8, 0), "cost_usd": 0.0000385})
}

// chain hands its work on twice.
func (b *builder) chain() {
	d := b.trace(26*time.Minute, "support-4809", "u-17")
	var parent object
	from := 0.0
	for i, agent := range []string{"triage", "billing", "closer"} {
		length := 9000 - 2800*float64(i)
		r := b.run(d, parent, agent, from, length, nil)
		b.model(d, r, "gpt-5-mini", from+15, 1400, object{"input_messages": messages(text("user", "My invoice of March is wrong.")), "output_messages": messages(text("assistant", "I pass this on with my notes.")), "tokens": usage(300, 0, 0, 40, 0), "cost_usd": 0.000155})
		if i == 2 {
			b.tool(d, r, "close_ticket", from+1500, 90, object{"ticket": 4809}, object{"closed": true}, nil)
			break
		}
		to := []string{"billing", "closer"}[i]
		parent = b.span(d, r, "handoff", "handoff "+to, from+1500, length-1600, object{"attributes": object{"kaizen.handoff.from": agent, "kaizen.handoff.to": to, "kaizen.reason": "it is about an invoice"}})
		b.entry(parent, "agent.handoff", "success", from+1510, object{"from": agent, "to": to})
		from += 2000
	}
}

// failedRun ends in an error with a stack trace.
func (b *builder) failedRun() {
	d := b.trace(48*time.Minute, "nightly", "")
	r := b.run(d, nil, "importer", 0, 3120, failed("timeout", "import stopped: query_orders gave no answer within 2 s"))
	b.model(d, r, "gpt-5-mini", 10, 900, object{"tokens": usage(200, 0, 0, 30, 0), "cost_usd": 0.00011})
	t := b.tool(d, r, "query_orders", 950, 2000, object{"since": "2026-11-01"}, nil, with(failed("timeout", "query_orders gave no answer within 2 s"), object{"events": []object{{
		"name": "exception", "time": stamp(d.at.Add(ms(2950))), "attributes": object{"exception.type": "context.deadlineExceededError", "exception.message": "context deadline exceeded",
			"exception.stacktrace": "goroutine 41 [running]:\nmain.(*orders).query(0xc0000b2000)\n\t/src/orders.go:88 +0x1d4\nmain.run()\n\t/src/main.go:31 +0x5a"}}}}))
	b.log(t, "error", "orders", "query_orders: context deadline exceeded", 2951, object{"table": "orders", "timeout": "2s", "rows": 0})
	b.log(r, "critical", "importer", "import stopped, nothing was written", 3100, object{"imported": 0})
}

// runningRun has not ended.
func (b *builder) runningRun() {
	d := b.trace(38*time.Second, "watch-1", "")
	r := b.run(d, nil, "watcher", 0, -1, nil)
	b.model(d, r, "gpt-5-mini", 20, 1500, object{"tokens": usage(250, 0, 0, 20, 0), "cost_usd": 0.0001025})
	b.tool(d, r, "poll_queue", 1600, 30000, object{"queue": "alerts"}, object{"messages": 0}, nil)
	b.model(d, r, "gpt-5-mini", 31700, -1, nil)
}

// hostile carries markup wherever a sender can put text.
func (b *builder) hostile() {
	d := b.trace(2*time.Minute, "s-"+Hostile, "u-"+Hostile)
	r := b.run(d, nil, "agent-"+Hostile, 0, 900, failed(Hostile, Hostile))
	r["name"] = Hostile
	b.model(d, r, "m-"+Hostile, 10, 200, object{"input_messages": messages(text("user", Hostile)), "output_messages": messages(text("assistant", Hostile+strings.Repeat(" long", 900))), "tokens": usage(1, 0, 0, 1, 0), "attributes": object{Hostile: Hostile}})
	t := b.tool(d, r, Hostile, 220, 300, object{Hostile: Hostile}, Hostile, object{"links": []object{{"trace_id": d.id, "span_id": r["span_id"], "attributes": object{"why": Hostile}}},
		"events": []object{{"name": Hostile, "time": stamp(d.at.Add(ms(300))), "attributes": object{Hostile: Hostile}}}})
	b.log(t, "warning", Hostile, Hostile, 230, object{Hostile: Hostile})
	b.entry(t, Hostile, "failure", 240, object{Hostile: Hostile})
}

// orphan is a trace whose root never arrived.
func (b *builder) orphan() {
	d := b.trace(70*time.Minute, "", "")
	lost := object{"span_id": b.hex(8), "agent_name": "summariser", "agent_id": "summariser-1", "run_id": b.hex(8)}
	b.model(d, lost, "gpt-5-mini", 0, 700, object{"tokens": usage(80, 0, 0, 12, 0), "cost_usd": 0.000044})
	b.tool(d, lost, "write_summary", 800, 60, nil, nil, nil)
}

// quiet called no model at all.
func (b *builder) quiet() {
	d := b.trace(3*time.Hour, "", "")
	b.span(d, b.run(d, nil, "janitor", 0, 42, nil), "memory", "forget old notes", 4, 31, nil)
}

// small are the everyday runs that fill the list.
func (b *builder) small(i int) {
	d := b.trace(time.Duration(80+i*7)*time.Minute, fmt.Sprintf("support-%d", 4700-i/3), fmt.Sprintf("u-%02d", i%9))
	length := 600 + float64(i*i%37)*110
	more := object{}
	if i%13 == 5 {
		more = object{"status": "cancelled", "status_message": "the user left"}
	}
	r := b.run(d, nil, []string{"support", "summariser", "router"}[i%3], 0, length, more)
	b.model(d, r, []string{"gpt-5-mini", "gpt-5", "claude-sonnet-4-5"}[i%3], 5, length-60, object{"tokens": usage(100+i*13, i*40, 0, 20+i, 0), "cost_usd": 0.0004 + 0.00013*float64(i)})
	b.tool(d, r, "lookup", length-50, 40, object{"id": i}, object{"found": true}, nil)
}

// big has BigSpans spans, some failed, deep in the middle.
func (b *builder) big() {
	d := b.trace(5*time.Hour, "crawl-9", "")
	r := b.run(d, nil, "crawler", 0, 600000, nil)
	for len(d.spans) < BigSpans {
		n := float64(len(d.spans))
		it := b.span(d, r, "iteration", fmt.Sprintf("iteration %d", len(d.spans)/5), n*59, 280, nil)
		b.span(d, it, "model", "chat gpt-5-mini", n*59+1, 120, object{"operation": "chat", "provider": "openai", "model": "gpt-5-mini", "tokens": usage(300, 900, 0, 25, 0), "cost_usd": 0.00015})
		status := object{"operation": "execute_tool", "tool_name": "fetch_page"}
		if len(d.spans)%1000 < 5 {
			status = with(status, failed("http_503", "the page answered 503"))
		}
		t := b.span(d, it, "tool", "execute_tool fetch_page", n*59+125, 100, status)
		b.span(d, t, "other", "GET /page", n*59+130, 80, nil)
		b.span(d, it, "memory", "save memory", n*59+240, 12, nil)
	}
	d.spans = d.spans[:BigSpans]
}
