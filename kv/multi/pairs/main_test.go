// Package pairs runs the conformance suite of multi-clients on pairs of stores,
// real servers and gossip among them, and a whole migration between servers,
// Consul to etcd and back, with coordinated clients that write all the while.
// The fleet of processes that is moved between them is in e2e.
package pairs

import (
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
)

var (
	quiet        = slog.New(slog.DiscardHandler)
	etcdServer   = servertest.SharedEtcd(testserver.Options{NoFsync: true})
	consulServer = servertest.SharedConsul(testserver.Options{})
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(servertest.Main(m, etcdServer, consulServer))
}

func soak() bool { return os.Getenv("POLYKV_SOAK") != "" }
