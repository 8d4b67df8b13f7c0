package cli_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/polykv/polykv/cli"
	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv/factory"
	"github.com/polykv/polykv/kv/memberlist"
)

// gossipFlags are those of a node of the tests' cluster.
func gossipFlags(name, join string) []string {
	flags := []string{
		"--backend=memberlist", "--memberlist.node-name=" + name, "--memberlist.cluster-label=cli",
		"--memberlist.bind-address=127.0.0.1", "--memberlist.bind-port=0",
	}
	if join != "" {
		flags = append(flags, "--memberlist.join="+join)
	}
	return flags
}

// gossipRun runs a node until the test ends, and returns its address and the
// URL of its page.
func gossipRun(t *testing.T) (address, page string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var stdout output
	ended := make(chan int, 1)
	go func() {
		ended <- runInto(ctx, &stdout, slices.Concat([]string{"gossip", "run", "--http=127.0.0.1:0"}, gossipFlags("runner", ""))...)
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-ended; code != 0 {
			t.Errorf("gossip run ended with %d", code)
		}
	})
	stdout.waitFor(t, "/\n")
	m := regexp.MustCompile(`^node runner at (127\.0\.0\.1:\d+)\npage (http://127\.0\.0\.1:\d+/)\n$`).FindStringSubmatch(stdout.String())
	if m == nil {
		t.Fatalf("gossip run wrote %q", stdout.String())
	}
	return m[1], m[2]
}

func TestGossip(t *testing.T) {
	address, page := gossipRun(t)
	do := func(args ...string) result {
		return run(t, "", slices.Concat(args, gossipFlags("visitor", address))...)
	}
	do("put", "config/color", "green").want(t, 0, "", "")
	do("get", "config/color").want(t, 0, "green", "")
	do("put", "config/\u009b31mred", "x").want(t, 2, "", "control")
	do("put", "gone", "x").want(t, 0, "", "")
	do("delete", "gone").want(t, 0, "", "")

	for _, from := range [][]string{{page}, gossipFlags("inspector", address)} {
		got := run(t, "", slices.Concat([]string{"gossip", "inspect", "--key=config/color", "--tombstones"}, from)...)
		if got.code != 0 || got.stderr != "" {
			t.Fatalf("%v: %+v", from, got)
		}
		for _, want := range []string{
			`(?m)^cluster +cli$`, `(?m)^state +well$`, `(?m)^runner +` + regexp.QuoteMeta(address) + ` +alive `,
			`(?m)^KEY \(1 in all\) `, `(?m)^config/color +bytes +5 +\d{4}-\S+ \S+ +"green"$`, `(?m)^gone +bytes `,
			`(?m)^config/color, version \S+:\n"green"$`,
		} {
			if !regexp.MustCompile(want).MatchString(got.stdout) {
				t.Errorf("%v: no %s in\n%s", from, want, got.stdout)
			}
		}
	}
	got := run(t, "", "gossip", "inspect", "--json", "--prefix=config/", strings.TrimPrefix(page, "http://"))
	if got.code != 0 || !strings.Contains(got.stdout, `"key": "config/color"`) {
		t.Errorf("as JSON: %+v", got)
	}
	got = run(t, "", "gossip", "inspect", "--key=absent", page)
	if got.code != 0 || !strings.Contains(got.stdout, "absent:\nthere is no such key") {
		t.Errorf("an absent key: %+v", got)
	}
}

// Values of a program's codec are its own: a command says that it can't read
// them, and fails where nothing was done.
func TestGossipOfAProgram(t *testing.T) {
	type ring struct{ Owner string }
	rings := codec.JSON[ring]{ID: "rings"}
	cfg := memberlist.DefaultConfig()
	cfg.NodeName, cfg.ClusterLabel, cfg.BindAddress, cfg.BindPort = "program", "cli", "127.0.0.1", 0
	node, err := memberlist.StartWith(t.Context(), cfg, memberlist.Options{}, rings)
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	client, err := node.Client(rings, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.CAS(t.Context(), "ring", func(any) (any, bool, error) { return ring{"a"}, false, nil }); err != nil {
		t.Fatal(err)
	}
	do := func(args ...string) result {
		return run(t, "", slices.Concat(args, gossipFlags("visitor", node.Address()))...)
	}
	const note = `polykv: note: the cluster has more keys, with values of the codecs "rings", which this command can't read`
	do("list").want(t, 0, "", note)
	do("list", "--values").want(t, 0, "", note)
	do("get", "ring").want(t, 3, "", `the key "ring" is not among those that this command can read; it may hold a value of the codecs "rings"`)
	do("delete", "ring").want(t, 3, "", `the key "ring" is not among those that this command can read`)
	if v, err := client.Get(t.Context(), "ring"); v != (ring{"a"}) || err != nil {
		t.Errorf("ring is %v, %v", v, err)
	}
	do("put", "plain", "v").want(t, 0, "", "")
	do("get", "plain").want(t, 0, "v", "")
	do("delete", "plain").want(t, 0, "", "")
	do("put", "plain", "v", "--if-version=0").want(t, 2, "", "--if-version: this store has no versions")
	do("get", "ring", "-o=json", "--memberlist.keep-values=rings").want(t, 0, `{"key":"ring","value":"{\"Owner\":\"a\"}"}`+"\n", "")

	keep := "--memberlist.keep-values=rings"
	do("list", keep).want(t, 0, "ring\n", "")
	do("get", "ring", keep).want(t, 0, `{"Owner":"a"}`, "")
	do("list", "--values", keep).want(t, 0, `{"key":"ring","value":"{\"Owner\":\"a\"}"}`+"\n", "")
}

// Alone, a command has nothing to read, and what it writes is gone with it.
func TestGossipWithoutOthers(t *testing.T) {
	for _, args := range [][]string{{"put", "k", "v"}, {"create", "k", "v"}, {"delete", "k"}, {"get", "k"}, {"list"}} {
		run(t, "", slices.Concat(args, gossipFlags("alone", ""))...).want(t, 3, "", "polykv: no other node of the gossip cluster is reached")
	}
}

func TestGossipWrongUse(t *testing.T) {
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"gossip", "walk"}, 2, `unknown command "gossip walk"`},
		{[]string{"gossip", "run", "x"}, 2, "no arguments"},
		{[]string{"gossip", "run", "--memberlist.bind-address=localhost"}, 2, `bind_address: "localhost" is not an IP address`},
		{[]string{"gossip", "run", "--memberlist.bind-address=127.0.0.1", "--memberlist.bind-port=0", "--http=nowhere"}, 2, "--http: "},
		{[]string{"gossip", "run", "--memberlist.bind-address=127.0.0.1", "--memberlist.bind-port=0", "--http=127.0.0.1:0", "--health=nowhere"}, 2, "--health: "},
		{[]string{"gossip", "inspect"}, 2, "URL of a status page, or --memberlist.join"},
		{[]string{"gossip", "inspect", "http://"}, 2, "is not the URL"},
		{[]string{"gossip", "inspect", "--limit=0", "x"}, 2, "--limit 0"},
		{[]string{"gossip", "inspect", "127.0.0.1:1"}, 3, "refused"},
		{[]string{"gossip", "inspect", other.URL}, 3, "404"},
	} {
		got := run(t, "", test.args...)
		if got.code != test.code || !strings.Contains(got.stderr, test.want) {
			t.Errorf("%q: %+v", test.args, got)
		}
	}
	var none factory.Drivers
	var stderr output
	if code := cli.Run(t.Context(), none, []string{"gossip", "run"}, strings.NewReader(""), &stderr, &stderr); code != 2 {
		t.Errorf("without the backend: %d, %s", code, stderr.String())
	}
}

// TestGossipManifestRuns runs the command of deploy/kubernetes/gossip.yaml, but
// for its ports, and probes it as a kubelet does.
func TestGossipManifestRuns(t *testing.T) {
	_ = os.Getenv("POLYKV_TREE") // set by make test, so that no result from before a change of other modules' files is taken
	text, err := os.ReadFile("../deploy/kubernetes/gossip.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var args []string
	path := ""
	for _, doc := range strings.Split(string(text), "\n---\n") {
		var set struct {
			Spec struct {
				Template struct {
					Spec struct {
						Containers []struct {
							Args           []string
							ReadinessProbe struct {
								HTTPGet struct{ Path string } `yaml:"httpGet"`
							} `yaml:"readinessProbe"`
						}
					}
				}
			}
		}
		if err := yaml.Unmarshal([]byte(doc), &set); err != nil {
			t.Fatal(err)
		}
		for _, c := range set.Spec.Template.Spec.Containers {
			args, path = c.Args, c.ReadinessProbe.HTTPGet.Path
		}
	}
	for i, arg := range args {
		switch name, _, _ := strings.Cut(arg, "="); name {
		case "--http", "--health":
			args[i] = name + "=127.0.0.1:0"
		}
	}
	args = append(args, "--memberlist.bind-address=127.0.0.1", "--memberlist.bind-port=0")
	ctx, cancel := context.WithCancel(t.Context())
	var stdout output
	ended := make(chan int, 1)
	go func() { ended <- runInto(ctx, &stdout, args...) }()
	defer func() {
		cancel()
		if code := <-ended; code != 0 {
			t.Errorf("it ended with %d", code)
		}
	}()
	pages := regexp.MustCompile(`(?m)^page (http://\S+)/$`)
	stdout.waitUntil(t, "both pages are served", func(text string) bool { return len(pages.FindAllString(text, -1)) == 2 })
	health := pages.FindAllStringSubmatch(stdout.String(), -1)[1][1]
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, health+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(string(body), "well\n") {
		t.Errorf("a node whose name does not resolve yet answers %s: %q, %v", resp.Status, body, err)
	}
}
