package multi

import (
	"fmt"
	"strings"

	"github.com/polykv/polykv/kv"
)

// check refuses, before any request, the keys that the stores' clients refuse.
func (v *view) check(key string) error {
	if v.raw {
		return checkForm(key)
	}
	return kv.CheckKey(key)
}

// checkForm refuses keys that break rule K1, but not reserved ones.
func checkForm(key string) error {
	if !kv.Reserved(key) {
		return kv.CheckKey(key)
	}
	// The segment is a valid one of that length.
	plain := strings.ReplaceAll(key, kv.ReservedSegment, strings.Repeat("x", len(kv.ReservedSegment)))
	if err := kv.CheckKey(plain); err != nil {
		return fmt.Errorf("%q: %w", key, err)
	}
	return nil
}
