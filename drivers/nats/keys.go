package nats

import (
	"strings"

	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/kit"
)

// subjects are those of a bucket's messages: its prefix and one token for each
// part of a key between slashes. An encoded token is a valid name for the
// command nats kv, too.
type subjects string

// of returns the subject of a key.
func (s subjects) of(key string) string {
	tokens := strings.Split(key, "/")
	for i, token := range tokens {
		if tokens[i] = kit.Escape(token, literal); token == "" {
			tokens[i] = "="
		}
	}
	return string(s) + strings.Join(tokens, ".")
}

func literal(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// key returns the key of a subject. A subject that of wouldn't make has none:
// two subjects would have one key.
func (s subjects) key(subject string) (key string, ok bool) {
	tokens := strings.Split(strings.TrimPrefix(subject, string(s)), ".")
	for i, token := range tokens {
		tokens[i] = kit.Unescape(token)
	}
	key = strings.Join(tokens, "/")
	return key, s.of(key) == subject
}

// filter returns the narrowest filter of subjects that has all of r.
func (s subjects) filter(r driver.Range) string {
	if !r.IsPrefix {
		return s.of(r.Key)
	}
	if i := strings.LastIndexByte(r.Key, '/'); i >= 0 {
		return s.of(r.Key[:i]) + ".>"
	}
	return string(s) + ">"
}
