package cli_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/polykv/polykv/cli"
	"github.com/polykv/polykv/kv/factory"
)

// testConditional tries what changes a key only as it is.
func testConditional(t *testing.T, do func(stdin string, args ...string) result, note string) {
	do("", "create", "if/a", "first").want(t, 0, "", note)
	do("", "create", "if/a", "second").want(t, 1, "", "polykv: the key \"if/a\" exists: nothing was written\n")
	do("from stdin", "create", "if/b", "-").want(t, 0, "", note)
	do("", "get", "if/b").want(t, 0, "from stdin", note)

	versionOf := func(key string) string {
		t.Helper()
		r := do("", "get", key, "--output", "json")
		_, version, found := strings.Cut(strings.TrimSuffix(r.stdout, "}\n"), `"version":`)
		if r.code != 0 || !found {
			t.Fatalf("%+v", r)
		}
		return version
	}
	old := versionOf("if/a")
	do("", "get", "-o=json", "if/a").want(t, 0, `{"key":"if/a","value":"first","version":`+old+"}\n", note)
	do("", "put", "if/a", "second", "--if-version", old).want(t, 0, "", note)
	do("", "put", "if/a", "third", "--if-version", old).want(t, 1, "", `polykv: the key "if/a" is not at version `+old+": nothing was done\n")
	do("", "delete", "if/a", "--if-version", old).want(t, 1, "", `is not at version `+old)
	do("", "put", "if/a", "third", "--if-version=0").want(t, 1, "", `polykv: the key "if/a" exists: nothing was done`)
	do("", "get", "if/a").want(t, 0, "second", note)
	do("", "delete", "if/a", "--if-version", versionOf("if/a")).want(t, 0, "", note)
	do("", "put", "if/a", "again", "--if-version=0").want(t, 0, "", note)
	do("", "list", "if/", "--output=json").want(t, 0, `{"key":"if/a","value":"again","version":`+versionOf("if/a")+"}\n"+
		`{"key":"if/b","value":"from stdin","version":`+versionOf("if/b")+"}\n", note)
	do("", "get", "if/absent", "-o", "json").want(t, 1, "", "absent")
	for _, key := range []string{"if/a", "if/b"} {
		do("", "delete", key).want(t, 0, "", note)
	}
}

// A store never looks empty that isn't.
func TestKeysThatAreLeftOut(t *testing.T) {
	c := plain.Get(t)
	client, err := c.EtcdClient()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	folder := "/" + t.Name() + "/"
	for _, key := range []string{folder + "a", folder + "b", t.Name() + "/good", t.Name() + "//bad"} {
		if _, err := client.Put(t.Context(), key, "v"); err != nil {
			t.Fatal(err)
		}
	}
	endpoint := "--etcd.endpoints=" + c.Endpoints()[0]
	do := func(args ...string) result {
		return run(t, "", append([]string{"--backend=etcd", endpoint}, args...)...)
	}
	for _, args := range [][]string{{"list", folder}, {"list", folder, "--values"}, {"list", folder, "-o=json"}} {
		r := do(args...)
		if r.code != 0 || r.stdout != "" || !strings.HasPrefix(r.stderr, "polykv: note: 2 keys of the store are left out, which polykv's rules for keys forbid; one is \""+folder) ||
			strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("%q: %+v", args, r)
		}
	}
	do("list", t.Name()+"/").want(t, 0, t.Name()+"/good\n", "polykv: note: 1 key of the store is left out, which polykv's rules for keys forbid; one is \""+t.Name()+"//bad\"\n")
	do("get", folder+"a").want(t, 2, "", "polykv: invalid key")
	r := do("--prefix", folder, "list")
	if r.code != 2 || !strings.Contains(r.stderr, "prefix: invalid key") {
		t.Errorf("%+v", r)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stdout, stderr output
	ended := make(chan int)
	go func() {
		ended <- cli.Run(ctx, factory.Builtin(), []string{"--backend=etcd", endpoint, "watch", "-p", folder}, nil, &stdout, &stderr)
	}()
	stderr.waitFor(t, "2 keys of the store are left out")
	cancel()
	<-ended
}

// A watch waits for a server that isn't there yet.
func TestWatchWaitsForTheServer(t *testing.T) {
	c := startOwn(t)
	endpoint := c.Endpoints()[0]
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stdout, stderr output
	ended := make(chan int)
	flags := []string{"--backend=etcd", "--etcd.endpoints=" + endpoint, "--etcd.dial-timeout=1s"}
	go func() {
		ended <- cli.Run(ctx, factory.Builtin(), slices.Concat(flags, []string{"watch", "k", "--count=1"}), nil, &stdout, &stderr)
	}()
	stderr.waitFor(t, "polykv: note: waiting: can't reach etcd at "+endpoint)
	if err := c.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(t, "", slices.Concat(flags, []string{"put", "k", "v", "--etcd.dial-timeout=10s"})...).want(t, 0, "", "")
	stdout.waitFor(t, `{"type":"put","key":"k","value":"v"}`)
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
}

func TestEnvironment(t *testing.T) {
	_, client := inMemory(t)
	file := writeFile(t, "app.yaml", "name: shop\nstorage:\n  kv:\n    backend: inmemory\n    prefix: file/\n    inmemory: {name: \"${TEST_STORE}\"}\n")
	t.Setenv("TEST_STORE", t.Name())
	t.Setenv("POLYKV_CONFIG", file)
	t.Setenv("POLYKV_CONFIG_SECTION", "storage.kv")
	t.Setenv("POLYKV_PREFIX", "env/")
	run(t, "", "put", "k", "v").want(t, 0, "", "note")
	run(t, "", "put", "k", "v", "--prefix=flag/").want(t, 0, "", "note")
	if keys, err := client.List(t.Context(), ""); err != nil || !slices.Equal(keys, []string{"env/k", "flag/k"}) {
		t.Errorf("%q, %v", keys, err)
	}
	run(t, "", "get", "k", "--config-section=storage.vk").want(t, 2, "", "polykv: --config: "+file+`: line 3: storage.vk: there is no such section`)
	t.Setenv("POLYKV_CONFIG", "")
	run(t, "", "get", "k").want(t, 2, "", "--config-section says where in a file to look: give --config too")
	t.Setenv("POLYKV_CONFIG_SECTION", "")
	t.Setenv("POLYKV_TIMEOUT", "soon")
	run(t, "", "get", "k").want(t, 2, "", "the environment variable POLYKV_TIMEOUT: ")
	t.Setenv("POLYKV_TIMEOUT", "")
	t.Setenv("POLYKV_ETCD_PASWORD", "hunter2")
	r := run(t, "", "get", "k")
	r.want(t, 2, "", "the environment variable POLYKV_ETCD_PASWORD is for no field, did you mean POLYKV_ETCD_PASSWORD?")
	oneLineWithout(t, r, "hunter2")
}
