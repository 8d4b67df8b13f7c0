package conformance

import (
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kvtest"
)

// StoreLine is a [Line] between the engine and a driver.
type StoreLine = kvtest.Store

var _ Line = (*StoreLine)(nil)

// Breakable returns a line to s, which it owns; see [kvtest.Wrap].
func Breakable(s driver.Store) *StoreLine { return kvtest.Wrap(s) }
