package etcd

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/driver"
)

func TestZapGoesToSlog(t *testing.T) {
	var out bytes.Buffer
	handler := slog.NewTextHandler(&out, &slog.HandlerOptions{
		Level: slog.LevelInfo,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey && a.Value.Time().IsZero() {
				return slog.String("time", "missing")
			}
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})
	lg := newZap(slog.New(handler)).Named("client").With(zap.String("member", "a"))
	lg.Debug("not asked for")
	lg.Info("hello", zap.Int("n", 1), zap.Duration("took", time.Second))
	lg.Warn("careful", zap.Error(errors.New("oops")))
	lg.Error("wrong")
	want := `level=INFO msg=hello member=a logger=client n=1 took=1s
level=WARN msg=careful member=a logger=client error=oops
level=ERROR msg=wrong member=a logger=client
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

// Neither the etcd client nor gRPC writes to stderr or stdout, whatever goes
// wrong: another process tries.
func TestStandardErrorStaysEmpty(t *testing.T) {
	const mode = "POLYKV_TEST_FAIL_AT"
	if endpoint := os.Getenv(mode); endpoint != "" {
		failInEveryWay(t, endpoint)
		return
	}
	proxy := servertest.Proxy(t, single.Get(t).Endpoints()[0])
	proxy.SwallowResponses()
	cmd := exec.Command(os.Args[0], "-test.run=^TestStandardErrorStaysEmpty$")
	cmd.Env = append(os.Environ(), mode+"="+proxy.Addr())
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	said := stdout.String()
	if testing.CoverMode() != "" { // the test binary says by itself how much was covered
		said, _, _ = strings.Cut(said, "coverage: ")
	}
	if err != nil || stderr.Len() > 0 || strings.TrimSpace(said) != "PASS" {
		t.Errorf("%v\nstderr:\n%s\nstdout:\n%s", err, &stderr, &stdout)
	}
}

func failInEveryWay(t *testing.T, endpoint string) {
	for _, ep := range []string{endpoint, drivertest.Unused(t), "https://" + endpoint, "name.invalid:1", "unix:///nowhere/etcd"} {
		cfg := DefaultConfig()
		cfg.Endpoints = []string{ep}
		s := open(t, cfg)
		for _, patience := range []time.Duration{0, time.Millisecond, 300 * time.Millisecond} {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			if _, err := s.Get(ctx, driver.GetRequest{Key: "k"}); err == nil {
				t.Errorf("%s answers", ep)
			}
			_, _ = s.Swap(ctx, driver.Swap{Key: "k", ID: 1})
			_ = s.Watch(ctx, driver.WatchRequest{Range: driver.Range{Key: "k"}}, func(driver.Event) {})
			cancel()
		}
	}
}
