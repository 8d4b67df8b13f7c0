package kit

import (
	"encoding/hex"
	"strings"
)

// Escape returns s with each byte that literal denies as "=" and two hexadecimal
// digits, for a store whose names may not hold all that a key may. literal must
// deny "=".
func Escape(s string, literal func(c byte) bool) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if literal(c) {
			b.WriteByte(c)
		} else {
			b.WriteString("=" + strings.ToUpper(hex.EncodeToString([]byte{c})))
		}
	}
	return b.String()
}

// Unescape undoes Escape. Of a text that Escape never returns it may make
// anything, so whoever needs to know compares.
func Unescape(text string) string {
	parts := strings.Split(text, "=")
	for i, part := range parts[1:] {
		if c, err := hex.DecodeString(part[:min(2, len(part))]); err == nil {
			parts[i+1] = string(c) + part[min(2, len(part)):]
		}
	}
	return strings.Join(parts, "")
}
