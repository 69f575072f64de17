package llmhttp

import (
	"bytes"

	"github.com/tidwall/gjson"
)

// chunkShape is what a stream's chunks have in common. Most chunks of a chat
// are the one before with another piece of text, so comparing them with its
// bytes says all there is to say, at a tenth of the cost of looking for each
// key: what is between the parts is within a string, and stays there as long as
// it holds no quote and no backslash.
type chunkShape struct {
	index  int64    // of the choice whose text it is
	parts  [][]byte // of the chunk, around the text and the padding; nil for none learned
	misses int      // chunks in a row that it did not fit
}

// maxMisses is after how many misses in a row no other shape is learned: some
// servers change more than the text with each chunk.
const maxMisses = 16

// match reports whether a chunk has the shape, and returns its text.
func (s *chunkShape) match(raw []byte) (text []byte, ok bool) {
	for i, part := range s.parts {
		rest, has := bytes.CutPrefix(raw, part)
		if !has {
			return nil, false
		}
		if i == len(s.parts)-1 {
			if len(rest) > 0 {
				return nil, false
			}
			s.misses = 0
			return text, true
		}
		end := bytes.IndexByte(rest, '"')
		if end < 0 || bytes.IndexByte(rest[:end], '\\') >= 0 {
			return nil, false
		}
		if i == 0 {
			text = rest[:end]
		}
		raw = rest[end:]
	}
	return nil, false
}

// learn takes the shape of a chunk that carried nothing but a piece of text.
func (s *chunkShape) learn(raw []byte) {
	if s.misses == maxMisses {
		return
	}
	s.misses++
	s.parts = nil
	choices := gjson.GetBytes(raw, "choices").Array()
	if len(choices) != 1 {
		return
	}
	messages, texts, others := 0, 0, 0
	choices[0].ForEach(func(k, _ gjson.Result) bool {
		if k.Str == "delta" || k.Str == "message" {
			messages++
		}
		return true
	})
	choices[0].Get("delta").ForEach(func(k, v gjson.Result) bool {
		switch {
		case k.Str == "content" && v.Type == gjson.String:
			texts++
		case k.Str != "role" && v.Type != gjson.Null:
			others++
		}
		return true
	})
	if messages != 1 || texts != 1 || others != 0 {
		return
	}
	s.index = choices[0].Get("index").Int()
	own := bytes.Clone(raw)
	from := 0
	var parts [][]byte
	for i, path := range []string{"choices.0.delta.content", "obfuscation"} { // OpenAI pads its chunks with the latter
		v := gjson.GetBytes(own, path)
		start, end := v.Index+1, v.Index+len(v.Raw)-1
		if v.Type != gjson.String || v.Index <= from || end > len(own) || string(own[v.Index:end+1]) != v.Raw {
			if i == 0 {
				return // the text must be found
			}
			continue
		}
		parts, from = append(parts, own[from:start]), end
	}
	s.parts = append(parts, own[from:])
}
