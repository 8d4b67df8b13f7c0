package multi

import (
	"errors"
	"fmt"

	"github.com/polykv/polykv/kv"
)

// A version means something only to the store that gave it. So that one from
// before a change of the primary is never taken for one of the store that is
// primary now, the versions that a client shows carry, in their upper bits, by
// how many changes they are away from the first.
const (
	versionBits = 48
	versionMask = 1<<versionBits - 1
	epochMask   = 1<<(64-versionBits) - 1
)

var (
	errOtherVersion = fmt.Errorf("%w: the version is from before another store became primary", kv.ErrConflict)
	errOtherGuard   = fmt.Errorf("%w: the guard's version is from before another store became primary", kv.ErrFenced)
	errVersionRange = errors.New("the store's versions are too large to be told from those of another store")
)

// mark returns a store's version as users see it.
func mark(version kv.Version, epoch uint64) (kv.Version, error) {
	switch {
	case version == 0:
		return 0, nil
	case version > versionMask:
		return 0, fmt.Errorf("%w: %w: %d", kv.ErrNotSupported, errVersionRange, version)
	}
	return version | kv.Version(epoch&epochMask)<<versionBits, nil
}

// unmark is the reverse of mark. valid is false if the version is from another
// epoch.
func unmark(marked kv.Version, epoch uint64) (version kv.Version, valid bool) {
	if marked == 0 {
		return 0, true
	}
	return marked & versionMask, uint64(marked>>versionBits) == epoch&epochMask
}
