package consul_test

import (
	"log/slog"
	"testing"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/consul"
	"github.com/polykv/polykv/kv/driver"
)

// Twenty watches of one range read it once, and after a restart of the server
// once more: 2 MiB in base64 and JSON, and some lists of names.
func TestWatchesShareASession(t *testing.T) {
	t.Parallel()
	c := servertest.Consul(t, testserver.Options{})
	drivertest.WatchesShareASession(t, c, func(addr string, log *slog.Logger) (driver.Store, error) {
		cfg := consul.DefaultConfig()
		cfg.Address = addr
		return consul.Open(cfg, log)
	}, 5<<20, 5<<20)
}
