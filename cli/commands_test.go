package cli_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/cli"
	"github.com/polykv/polykv/kv/factory"
)

// TestCommands runs every command on a real etcd and in memory.
func TestCommands(t *testing.T) {
	t.Run("etcd", func(t *testing.T) { testCommands(t, onEtcd(t), "") })
	t.Run("inmemory", func(t *testing.T) {
		flags, _ := inMemory(t)
		testCommands(t, flags, "polykv: note: the backend inmemory begins empty and ends with this command")
	})
}

func testCommands(t *testing.T, flags []string, note string) {
	do := func(stdin string, args ...string) result { return run(t, stdin, append(flags, args...)...) }
	if note != "" {
		note += "; for keys that stay, choose another\n"
	}
	file := writeFile(t, "value", "from a file\n")

	do("", "get", "a/b").want(t, 1, "", note+"polykv: the key \"a/b\" is absent\n")
	do("", "put", "a/b", "hello").want(t, 0, "", note)
	do("", "get", "a/b").want(t, 0, "hello", note)
	do("", "put", "a/b", "").want(t, 0, "", note)
	do("", "get", "a/b").want(t, 0, "", note)
	do("", "put", "a/file", "--file", file).want(t, 0, "", note)
	do("", "get", "a/file").want(t, 0, "from a file\n", note)
	do("\xff\x00 bytes", "put", "a/stdin", "-").want(t, 0, "", note)
	do("", "get", "a/stdin").want(t, 0, "\xff\x00 bytes", note)
	do("also stdin", "put", "z", "--file=-").want(t, 0, "", note)
	do("", "put", "a/minus", "--", "-5").want(t, 0, "", note)
	do("", "list").want(t, 0, "a/b\na/file\na/minus\na/stdin\nz\n", note)
	do("", "list", "a/s").want(t, 0, "a/stdin\n", note)
	do("", "list", "nothing").want(t, 0, "", note)
	do("", "list", "--values", "a/").want(t, 0, `{"key":"a/b","value":""}
{"key":"a/file","value":"from a file\n"}
{"key":"a/minus","value":"-5"}
{"key":"a/stdin","value_base64":"/wAgYnl0ZXM="}
`, note)
	do("", "watch", "--count=1", "z").want(t, 0, `{"type":"put","key":"z","value":"also stdin"}`+"\n", note)
	testConditional(t, do, note)
	do("", "delete", "z").want(t, 0, "", note)
	do("", "delete", "z").want(t, 0, "", note)
	do("", "get", "z").want(t, 1, "", `polykv: the key "z" is absent`)
}

func TestWatch(t *testing.T) {
	flags, client := inMemory(t)
	put := func(key, value string) {
		t.Helper()
		if err := client.CAS(t.Context(), key, func(any) (any, bool, error) { return []byte(value), false, nil }); err != nil {
			t.Fatal(err)
		}
	}
	put("w/1", "<one>")
	put("x", "outside")
	var stdout, stderr output
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan int)
	go func() {
		ended <- cli.Run(ctx, factory.Builtin(), append(flags, "watch", "--by-prefix", "w/"), nil, &stdout, &stderr)
	}()
	stdout.waitFor(t, "{\"type\":\"put\",\"key\":\"w/1\",\"value\":\"<one>\"}\n{\"type\":\"synced\"}\n")
	put("w/2", "\xff")
	stdout.waitFor(t, `{"type":"put","key":"w/2","value_base64":"/w=="}`+"\n")
	if err := client.Delete(t.Context(), "w/1"); err != nil {
		t.Fatal(err)
	}
	stdout.waitFor(t, `{"type":"delete","key":"w/1"}`+"\n")
	interrupt()
	if code := <-ended; code != 0 {
		t.Errorf("interrupted: exit code %d, stderr %q", code, stderr.String())
	}
	if n := strings.Count(stdout.String(), "\n"); n != 4 {
		t.Errorf("%d lines:\n%s", n, stdout.String())
	}
	run(t, "", append(flags, "watch", "-p", "--count", "2")...).want(t, 0,
		`{"type":"put","key":"w/2","value_base64":"/w=="}`+"\n"+`{"type":"put","key":"x","value":"outside"}`+"\n", "note")
}

// brokenPipe refuses what is written to it.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestStdoutThatIsGone(t *testing.T) {
	flags, client := inMemory(t)
	if err := client.CAS(t.Context(), "k", func(any) (any, bool, error) { return []byte("v"), false, nil }); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"get", "k"}, {"list"}, {"list", "--values"}, {"watch", "k"}, {"version"}} {
		var stderr output
		code := cli.Run(t.Context(), factory.Builtin(), append(flags, args...), nil, brokenPipe{}, &stderr)
		if code != 3 || !strings.Contains(stderr.String(), "closed pipe") {
			t.Errorf("%q: exit code %d, stderr %q", args, code, stderr.String())
		}
	}
}

// In a bubble time passes only while everything waits, so both come while the value is read, on a busy machine too.
func TestTimeoutAndInterruptWhileReadingStdin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		flags, client := inMemory(t)
		never, writer := io.Pipe()
		defer writer.Close()
		args := append(flags, "put", "k", "-")
		runWith(t.Context(), factory.Builtin(), never, append(args, "--timeout=50ms")...).
			want(t, 3, "", "polykv: gave up after --timeout 50ms: reading the value: context deadline exceeded\n")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Hour, nil)
		time.AfterFunc(50*time.Millisecond, cancel)
		runWith(ctx, factory.Builtin(), never, args...).want(t, 3, "", "polykv: interrupted: reading the value: context canceled\n")
		if keys, err := client.List(t.Context(), ""); err != nil || len(keys) > 0 {
			t.Errorf("written: %q, %v", keys, err)
		}
	})
}

func TestConfigurationFile(t *testing.T) {
	_, client := inMemory(t)
	file := writeFile(t, "polykv.yaml", "backend: etcd\nprefix: file/\ninmemory: {name: "+t.Name()+"}\n")
	// The flag wins over the file, and the file over the defaults.
	run(t, "", "--config", file, "--backend=inmemory", "put", "k", "v").want(t, 0, "", "note")
	if got, err := client.Get(t.Context(), "file/k"); err != nil || string(got.([]byte)) != "v" {
		t.Errorf("got %q, %v", got, err)
	}
	run(t, "", "get", "k", "--config", file, "--backend=inmemory", "--prefix=").want(t, 1, "", "absent")
}

func TestHelp(t *testing.T) {
	for _, command := range []string{"get", "put", "create", "delete", "list", "watch", "demo", "version"} {
		r := run(t, "", command, "--help")
		r.want(t, 0, "Examples:\n  ", "")
		if !strings.Contains(r.stdout, "polykv ") || strings.Contains(r.stdout, "--etcd.endpoints strings") {
			t.Errorf("%s --help:\n%s", command, r.stdout)
		}
	}
	run(t, "").want(t, 0, "Commands:\n", "")
	run(t, "", "help", "flags").want(t, 0, "--etcd.dial-timeout duration", "")
	run(t, "", "help", "config").want(t, 0, "backend: \"\"\nprefix: \"\"\nclient:\n    retry_timeout: 10s\n", "")
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		run(t, "", "completion", shell).want(t, 0, "polykv", "")
	}
	run(t, "", "__complete", "--backend", "").want(t, 0, "etcd\ninmemory\n", "Completion ended")
}
