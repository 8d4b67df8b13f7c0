package etcd_test

import (
	"log/slog"
	"testing"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/etcd"
)

// Twenty watches of one range read it once, and after a restart of the server
// next to nothing.
func TestWatchesShareASession(t *testing.T) {
	c := servertest.Etcd(t, testserver.Options{NoFsync: true})
	drivertest.WatchesShareASession(t, c, func(addr string, log *slog.Logger) (driver.Store, error) {
		cfg := etcd.DefaultConfig()
		cfg.Endpoints = []string{addr}
		return etcd.Open(cfg, log)
	}, 3<<20, 100_000)
}
