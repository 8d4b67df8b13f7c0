package consul_test

import (
	"testing"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/consul"
	"github.com/polykv/polykv/kv/driver"
)

func TestSlowLine(t *testing.T) {
	t.Parallel()
	drivertest.SlowLine(t, servertest.Consul(t, testserver.Options{}), func(addr string) (driver.Store, error) {
		cfg := consul.DefaultConfig()
		cfg.Address = addr
		return consul.Open(cfg, nil)
	})
}
