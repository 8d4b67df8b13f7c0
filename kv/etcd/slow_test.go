package etcd_test

import (
	"testing"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/etcd"
)

func TestSlowLine(t *testing.T) {
	t.Parallel()
	drivertest.SlowLine(t, servertest.Etcd(t, testserver.Options{NoFsync: true}), func(addr string) (driver.Store, error) {
		cfg := etcd.DefaultConfig()
		cfg.Endpoints = []string{addr}
		return etcd.Open(cfg, nil)
	})
}
