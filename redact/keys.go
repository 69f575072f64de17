package redact

import "strings"

// keyRule describes the keys of one vendor by their prefix.
type keyRule struct {
	prefix   string
	detector Detector
	// min and max bound the bytes after the prefix; max 0 is no bound.
	min, max int
	set      *byteSet
}

// keyTable lists prefixes as the vendors document them; a longer prefix stands
// before a shorter one that it begins with.
var keyTable = []keyRule{
	{"sk-ant-", Anthropic, 20, 0, nil},
	{"sk-or-", APIKey, 20, 0, nil}, // OpenRouter
	{"sk-lf-", APIKey, 20, 0, nil}, // Langfuse
	{"pk-lf-", APIKey, 20, 0, nil},
	{"sk-", OpenAI, 20, 0, nil}, // also sk-proj-, sk-svcacct-, and DeepSeek's
	{"AKIA", AWS, 16, 16, &upperAlnum},
	{"ASIA", AWS, 16, 16, &upperAlnum},
	{"ABIA", AWS, 16, 16, &upperAlnum},
	{"ACCA", AWS, 16, 16, &upperAlnum},
	{"ghp_", GitHub, 30, 0, nil},
	{"gho_", GitHub, 30, 0, nil},
	{"ghu_", GitHub, 30, 0, nil},
	{"ghs_", GitHub, 30, 0, nil},
	{"ghr_", GitHub, 30, 0, nil},
	{"github_pat_", GitHub, 22, 0, nil},
	{"xoxb-", Slack, 16, 0, nil},
	{"xoxa-", Slack, 16, 0, nil},
	{"xoxp-", Slack, 16, 0, nil},
	{"xoxr-", Slack, 16, 0, nil},
	{"xoxs-", Slack, 16, 0, nil},
	{"xoxc-", Slack, 16, 0, nil},
	{"xoxd-", Slack, 16, 0, nil},
	{"xoxe.", Slack, 16, 0, &dotted},
	{"xapp-", Slack, 16, 0, nil},
	{"hooks.slack.com/services/", Slack, 20, 0, &path},
	{"sk_live_", Stripe, 16, 0, nil},
	{"sk_test_", Stripe, 16, 0, nil},
	{"rk_live_", Stripe, 16, 0, nil},
	{"rk_test_", Stripe, 16, 0, nil},
	{"pk_live_", Stripe, 16, 0, nil},
	{"pk_test_", Stripe, 16, 0, nil},
	{"whsec_", Stripe, 16, 0, &base64Set},
	{"AIza", Google, 35, 0, nil},
	{"GOCSPX-", Google, 20, 0, nil},
	{"ya29.", Google, 20, 0, &dotted},
	{"hf_", HuggingFace, 30, 0, nil},
	{"api_org_", HuggingFace, 30, 0, nil},
	{"xai-", APIKey, 40, 0, nil},
	{"gsk_", APIKey, 40, 0, nil}, // Groq
	{"pplx-", APIKey, 40, 0, nil},
	{"r8_", APIKey, 36, 0, nil}, // Replicate
	{"nvapi-", APIKey, 40, 0, nil},
	{"tvly-", APIKey, 20, 0, nil},
	{"lsv2_pt_", APIKey, 32, 0, nil}, // LangSmith
	{"lsv2_sk_", APIKey, 32, 0, nil},
	{"SG.", APIKey, 40, 0, &dotted}, // SendGrid
	{"glpat-", APIKey, 20, 0, nil},  // GitLab
	{"npm_", APIKey, 36, 0, nil},
	{"pypi-AgEI", APIKey, 40, 0, nil},
	{"dop_v1_", APIKey, 60, 0, nil}, // DigitalOcean
	{"dckr_pat_", APIKey, 20, 0, nil},
	{"glsa_", APIKey, 32, 0, nil}, // Grafana
	{"hvs.", APIKey, 24, 0, nil},  // Vault
	{"shpat_", APIKey, 32, 0, nil},
	{"lin_api_", APIKey, 32, 0, nil},
	{"AGE-SECRET-KEY-1", APIKey, 50, 0, &upperAlnum},
}

// keyRules is keyTable by first byte.
var keyRules = func() (byFirst [256][]keyRule) {
	for _, rule := range keyTable {
		if rule.set == nil {
			rule.set = &token
		}
		first := rule.prefix[0]
		byFirst[first] = append(byFirst[first], rule)
	}
	return byFirst
}()

// word looks for what begins with a letter: vendor keys, JWT, Bearer, IBAN.
func (sc *scan) word(i int) (finding, bool) {
	first, second := sc.s[i], sc.byteAt(i+1)
	rules := keyRules[first]
	for k := range rules {
		if rules[k].prefix[1] == second && sc.r.has(rules[k].detector) {
			if end := sc.key(i, &rules[k]); end > 0 {
				return found(rules[k].detector, i, end)
			}
		}
	}
	switch {
	case first == 'e' && second == 'y':
		return sc.jwt(i)
	case (first | 0x20) == 'b':
		if f, ok := sc.bearer(i); ok {
			return f, true
		}
	}
	if isUpper(first) && isUpper(second) && isDigit(sc.byteAt(i+2)) {
		return sc.iban(i)
	}
	return finding{}, false
}

// key returns the end of a key that begins at i, 0 if there is none.
func (sc *scan) key(i int, rule *keyRule) int {
	if !strings.HasPrefix(sc.s[i:], rule.prefix) {
		return 0
	}
	body := i + len(rule.prefix)
	end := sc.sentence(body, sc.runEnd(body, rule.set))
	n := end - body
	if n < rule.min || rule.max > 0 && (n > rule.max || token.has[sc.byteAt(end)]) {
		return 0
	}
	// Sixteen capitals after AKIA need no further proof.
	if rule.max == 0 && !random(sc.s[body:end]) {
		return 0
	}
	return end
}

// sentence takes back from end the signs that close a sentence, three at most.
func (sc *scan) sentence(start, end int) int {
	for least := max(start, end-3); end > least && (sc.s[end-1] == '.' || sc.s[end-1] == '-'); {
		end--
	}
	return end
}

// random reports whether s looks drawn rather than worded: at least eight
// different bytes, and digits or both cases among them. It tells
// sk-proj-4fT… from sk-learn-pipeline-of-the-team.
func random(s string) bool {
	if len(s) > 64 {
		s = s[len(s)-64:] // the start may be words, as in sk-proj-
	}
	var seen [4]uint64
	distinct, digits, upper, lower := 0, 0, 0, 0
	for _, c := range []byte(s) {
		if bit := uint64(1) << (c & 63); seen[c>>6]&bit == 0 {
			seen[c>>6] |= bit
			distinct++
		}
		switch {
		case isDigit(c):
			digits++
		case isUpper(c):
			upper++
		case isLower(c):
			lower++
		}
	}
	return distinct >= 8 && (digits >= 2 || upper >= 2 && lower >= 2)
}

// jwt looks for three base64url parts of which the first is a JSON object.
func (sc *scan) jwt(i int) (finding, bool) {
	if !sc.r.has(JWT) || !strings.HasPrefix(sc.s[i:], "eyJ") {
		return finding{}, false
	}
	head := sc.runEnd(i, &token)
	if head-i < 16 || sc.byteAt(head) != '.' {
		return finding{}, false
	}
	body := sc.runEnd(head+1, &token)
	if body-head < 5 || sc.byteAt(body) != '.' {
		return finding{}, false
	}
	end := sc.runEnd(body+1, &token) // the signature is empty in an unsigned token
	return found(JWT, i, end)
}

// bearer looks for "Bearer <token>" and "Basic <credentials>".
func (sc *scan) bearer(i int) (finding, bool) {
	if !sc.r.has(Bearer) {
		return finding{}, false
	}
	rest, at := sc.s[i:], 0
	switch {
	case hasFold(rest, "bearer "):
		at = i + len("bearer ")
	case strings.HasPrefix(rest, "Basic "):
		at = i + len("Basic ")
	default:
		return finding{}, false
	}
	for sc.byteAt(at) == ' ' && at < i+16 {
		at++
	}
	end := sc.sentence(at, sc.runEnd(at, &base64Set))
	if end-at < 12 || !random(sc.s[at:end]) {
		return finding{}, false
	}
	return found(Bearer, at, end)
}
