package kv

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxKeyLen is the length of the longest key, in bytes. Every backend
	// takes keys of this length.
	MaxKeyLen = 512

	// ReservedSegment is the path segment that marks polykv's own keys.
	ReservedSegment = ".polykv"
)

// CheckKey reports whether key obeys rules K1 and K3 of [Client]. The error
// matches ErrInvalidKey, quotes the key and says what is allowed.
func CheckKey(key string) error {
	if isPlain(key) {
		return nil
	}
	if err := checkForm(key); err != nil {
		return err
	}
	if Reserved(key) {
		return fmt.Errorf("%w: %q has the segment %q, which is polykv's own", ErrInvalidKey, key, ReservedSegment)
	}
	return nil
}

// CheckNamespace reports whether prefix can be put before the keys of a client
// with [Prefix]: it is empty, or ends in "/" and is a valid key without it.
func CheckNamespace(prefix string) error {
	if prefix == "" {
		return nil
	}
	bare, ok := strings.CutSuffix(prefix, "/")
	if !ok {
		return fmt.Errorf("%w: the prefix %q must be empty or end in \"/\"", ErrInvalidKey, prefix)
	}
	if bare == "" {
		return CheckKey(prefix) // which names it
	}
	return CheckKey(bare)
}

// isPlain reports whether key, at a glance, obeys rules K1 and K3: it is ASCII
// and has neither an empty segment nor one that begins with a dot. Nearly every
// key is, and it is checked on every call and on every key of a listing, so it
// is looked at eight bytes at a time.
func isPlain(key string) bool {
	if key == "" || len(key) > MaxKeyLen || key[len(key)-1] == '/' {
		return false
	}
	const (
		each = 0x0101010101010101
		high = 0x80 * each
	)
	afterSlash := uint64(0x80) // the high bit of each byte whose predecessor is a slash; the first counts as such
	i := 0
	for ; i+8 <= len(key); i += 8 {
		word := load8(key[i:])
		if word&high != 0 || (word+(0x80-0x20)*each)&high != high || (word+each)&high != 0 {
			return false // not ASCII, below 0x20, or 0x7f
		}
		// With ASCII bytes, adding 0x7f to each sets its high bit unless it is 0.
		slashes := ^((word ^ '/'*each) + 0x7f*each) & high
		dots := ^((word ^ '.'*each) + 0x7f*each) & high
		if (slashes<<8|afterSlash)&(slashes|dots) != 0 {
			return false
		}
		afterSlash = slashes >> 56
	}
	slash := afterSlash != 0
	for ; i < len(key); i++ {
		c := key[i]
		if c < 0x20 || c >= 0x7f || slash && (c == '/' || c == '.') {
			return false
		}
		slash = c == '/'
	}
	return true
}

// load8 returns the first eight bytes of s, the first one lowest. The compiler
// makes it a single load where the processor allows that.
func load8(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// checkForm is rule K1 alone.
func checkForm(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("%w: the key is empty; a key is 1 to %d bytes", ErrInvalidKey, MaxKeyLen)
	case len(key) > MaxKeyLen:
		return fmt.Errorf("%w: the key is %d bytes long, at most %d are allowed; it begins with %q", ErrInvalidKey, len(key), MaxKeyLen, key[:32])
	case !printable(key):
		return fmt.Errorf("%w: %q is not valid UTF-8 without control characters", ErrInvalidKey, key)
	}
	for rest, more := key, true; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		if segment == "" || segment == "." || segment == ".." {
			return fmt.Errorf("%w: %q has an empty, \".\" or \"..\" segment", ErrInvalidKey, key)
		}
	}
	return nil
}

func printable(key string) bool {
	ascii := true
	for i := range len(key) {
		c := key[i]
		if c < 0x20 || c == 0x7f {
			return false
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	if ascii {
		return true
	}
	return utf8.ValidString(key) && !strings.ContainsFunc(key, unicode.IsControl)
}

// Reserved reports whether a key is of polykv's own: one of its segments is
// [ReservedSegment].
func Reserved(key string) bool {
	return strings.Contains(key, ReservedSegment) && slices.Contains(strings.Split(key, "/"), ReservedSegment)
}
