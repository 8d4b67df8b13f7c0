package servertest_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
)

var shared = servertest.SharedEtcd(testserver.Options{NoFsync: true})

func TestMain(m *testing.M) { goleak.VerifyTestMain(servertest.Main(m, shared)) }

func TestShared(t *testing.T) {
	c := shared.Get(t)
	if again := shared.Get(t); again != c {
		t.Error("two tests share two clusters")
	}
	servertest.WaitReady(t, c)
	if leader := servertest.Leader(t, c); leader != 0 {
		t.Errorf("node %d of one leads", leader)
	}
}

func TestClusterEndsWithTest(t *testing.T) {
	var c *testserver.Cluster
	t.Run("inner", func(t *testing.T) {
		c = servertest.Etcd(t, testserver.Options{NoFsync: true})
		servertest.Proxy(t, c.Endpoints()[0])
	})
	if pid := c.Pid(0); pid != 0 {
		t.Errorf("process %d outlived its test", pid)
	}
	if _, err := os.Stat(c.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder outlived its test (%v)", err)
	}
}

// A recorder notes how a test ends instead of ending it.
type recorder struct {
	testing.TB
	outcome string
}

type ended struct{}

func (r *recorder) Output() io.Writer { return io.Discard }
func (r *recorder) Fatal(args ...any) { r.end("fatal: " + fmt.Sprint(args...)) }
func (r *recorder) Skip(args ...any)  { r.end("skipped: " + fmt.Sprint(args...)) }
func (r *recorder) SkipNow()          { r.end("skipped") }

func (r *recorder) end(outcome string) {
	r.outcome = outcome
	panic(ended{})
}

func TestMissingServerFails(t *testing.T) {
	absent := filepath.Join(t.TempDir(), "absent")
	t.Setenv("POLYKV_ETCD", absent)
	t.Setenv("POLYKV_CONSUL", absent)
	tests := []struct {
		variable string
		start    func(testing.TB)
	}{
		{"POLYKV_ETCD", func(t testing.TB) { servertest.Etcd(t, testserver.Options{}) }},
		{"POLYKV_CONSUL", func(t testing.TB) { servertest.Consul(t, testserver.Options{}) }},
		{"POLYKV_CONSUL", func(t testing.TB) { servertest.SharedConsul(testserver.Options{}).Get(t) }},
	}
	for _, test := range tests {
		r := &recorder{TB: t}
		func() {
			defer func() {
				if p := recover(); p != nil && p != any(ended{}) {
					panic(p)
				}
			}()
			test.start(r)
		}()
		if !strings.HasPrefix(r.outcome, "fatal: ") || !strings.Contains(r.outcome, test.variable) {
			t.Errorf("a test without its server ended %q; want fatal, and %s", r.outcome, test.variable)
		}
	}
}
