package kit

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxRoot is the longest root, in bytes.
const maxRoot = 256

// Root is what stands in the store before every key, and belongs to the store's
// address: clients see nothing of it and rule K1 doesn't hold for it. So a
// program can use the keys of a tool that begins its keys with a slash.
type Root string

// Validate reports what is wrong with the root, as the field root of a configuration.
func (r Root) Validate() error {
	if len(r) > maxRoot {
		return fmt.Errorf("root: has %d bytes; allowed are %d", len(r), maxRoot)
	}
	if !utf8.ValidString(string(r)) || strings.ContainsFunc(string(r), func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return fmt.Errorf("root: %q holds characters that no key may have: it must be UTF-8 without control characters", string(r))
	}
	return nil
}

// In returns the name in the store of a key, or of a prefix of keys.
func (r Root) In(key string) string { return string(r) + key }

// Out returns the key of a name in the store.
func (r Root) Out(name string) string { return strings.TrimPrefix(name, string(r)) }
