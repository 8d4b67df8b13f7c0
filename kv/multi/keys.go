package multi

import (
	"fmt"
	"slices"
	"strings"

	"github.com/polykv/polykv/kv"
)

// reserved reports whether a key is polykv's own, which is never mirrored.
func reserved(key string) bool {
	return strings.Contains(key, kv.ReservedSegment) && slices.Contains(strings.Split(key, "/"), kv.ReservedSegment)
}

// check refuses, before any request, the keys that the stores' clients refuse.
func (v *view) check(key string) error {
	if v.raw {
		return checkForm(key)
	}
	return kv.CheckKey(key)
}

// checkForm refuses keys that break rule K1, but not reserved ones.
func checkForm(key string) error {
	if !reserved(key) {
		return kv.CheckKey(key)
	}
	// The segment is a valid one of that length.
	plain := strings.ReplaceAll(key, kv.ReservedSegment, strings.Repeat("x", len(kv.ReservedSegment)))
	if err := kv.CheckKey(plain); err != nil {
		return fmt.Errorf("%q: %w", key, err)
	}
	return nil
}
