package cli_test

import (
	"strings"
	"testing"

	"github.com/polykv/polykv/cli"
	"github.com/polykv/polykv/kv/factory"
)

func TestDemo(t *testing.T) {
	short := []string{"--duration=1100ms", "--clients=2", "--workers=3", "--counters=2"}
	for _, c := range []struct {
		name string
		args []string
		on   string
	}{
		{"by default in memory", []string{"demo"}, "inmemory"},
		{"in memory", []string{"demo", "--from=inmemory", "--to=inmemory"}, "inmemory"},
		{"etcd", onEtcd(t, "demo", "--from=etcd"), "etcd at 127.0.0.1:"},
		{"a server of its own", []string{"demo", "--from=etcd", "--start-servers"}, "etcd at 127.0.0.1:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := run(t, "", append(c.args, short...)...)
			r.want(t, 0, "polykv demo on "+c.on, " calls\n")
			r.want(t, 0, "\nAll 9 promises kept.\n", "\nverifying ...\ncleaning up ...\n")
			r.want(t, 0, "clients 2, workers of each 3, counters 2, keys below ", "s  ")
		})
	}
	run(t, "", onEtcd(t, "list")...).want(t, 0, "", "") // nothing is left
}

func TestDemoOfAServerThatIsKilled(t *testing.T) {
	c := startOwn(t)
	var stdout, stderr output
	ended := make(chan int)
	go func() {
		ended <- cli.Run(t.Context(), factory.Builtin(), []string{
			"demo", "--from=etcd", "--etcd.endpoints=" + c.Endpoints()[0], "--duration=2s", "--client.retry-timeout=500ms",
		}, nil, &stdout, &stderr)
	}()
	stderr.waitFor(t, " calls\n")
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	code, text := <-ended, stderr.String()
	if code != 3 || !strings.Contains(text, "polykv: can't reach etcd at "+c.Endpoints()[0]) ||
		!strings.Contains(text, "keys of the demo may be left below polykv-demo/") || strings.Contains(stdout.String(), "kept") {
		t.Errorf("exit code %d\n%s\n%s", code, stdout.String(), text)
	}
}
