package cli_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polykv/polykv/cli"
	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/factory"
	"github.com/polykv/polykv/kv/memberlist"
)

// onServers are two real stores as the configuration file of an operator and of
// the clients has them.
type onServers struct {
	t      *testing.T
	config string // of two stores
}

func newOnServers(t *testing.T, primary, secondary string) *onServers {
	return &onServers{t, fmt.Sprintf("backend: multi\nmulti:\n  coordinated: true\n  primary: %s\n  secondary: %s\n", primary, secondary)}
}

// file writes the configuration, or another one, into a file.
func (s *onServers) file(config string) string { return writeFile(s.t, "polykv.yaml", config) }

func (s *onServers) run(args ...string) result {
	s.t.Helper()
	return run(s.t, "", append([]string{"--config", s.file(s.config)}, args...)...)
}

// client opens a coordinated client as the fleet has it.
func (s *onServers) client() kv.Client {
	s.t.Helper()
	cfg := factory.NewConfig()
	if err := cfg.Load(strings.NewReader(s.config)); err != nil {
		s.t.Fatal(err)
	}
	client, err := factory.New(s.t.Context(), cfg, codec.Bytes{}, factory.Deps{})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = client.Close() })
	return client
}

// seed writes keys with the program, by a client of the source alone.
func (s *onServers) seed(keys int, primary string) {
	s.t.Helper()
	cfg := factory.NewConfig()
	if err := cfg.Load(strings.NewReader(primary)); err != nil {
		s.t.Fatal(err)
	}
	client, err := factory.New(s.t.Context(), cfg, codec.Bytes{}, factory.Deps{})
	if err != nil {
		s.t.Fatal(err)
	}
	defer client.Close()
	work := make(chan int)
	var writers sync.WaitGroup
	for range 32 {
		writers.Go(func() {
			for i := range work {
				if err := putBytes(s.t.Context(), client, fmt.Sprintf("k%05d", i), "a value"); err != nil {
					s.t.Error(err)
				}
			}
		})
	}
	for i := range keys {
		work <- i
	}
	close(work)
	writers.Wait()
}

func putBytes(ctx context.Context, c kv.Client, key, value string) error {
	return c.CAS(ctx, key, func(any) (any, bool, error) { return []byte(value), false, nil })
}

// The careless operator: closed pipes, a stopped terminal, exchanged sections, a
// forgotten host, a target that hangs while writes wait, on real servers.
func TestCarelessOperator(t *testing.T) {
	source, target := plain.Get(t), startOwn(t)
	prefix := t.Name() + "/"
	primary := source.Section(prefix)
	secondary := strings.Replace(target.Section(prefix), "{backend: etcd,", "{backend: etcd, name: new,", 1)
	s := newOnServers(t, primary, secondary)
	s.seed(2_000, primary)
	s.run("migrate", "start").ends(t, 0, "new: standby")
	client := s.client()
	if err := putBytes(t.Context(), client, "k00000", "by the fleet"); err != nil {
		t.Fatal(err)
	}
	s.run("copy").ends(t, 0, "copied 1,999, deleted 0")
	s.run("migrate", "status", "--check").ends(t, 0, "READY")

	exchanged := *s
	exchanged.config = newOnServers(t, secondary, primary).config
	for _, command := range [][]string{
		{"migrate", "plan"}, {"migrate", "start"}, {"migrate", "cutover"}, {"migrate", "rollback"}, {"migrate", "abort"}, {"migrate", "finish"}, {"copy"}, {"verify"},
	} {
		r := exchanged.run(command...)
		if r.code != 1 || !strings.Contains(r.stderr, `from store "etcd" to store "new", but the configuration has "new" as the source`) {
			t.Errorf("%v with the sections exchanged: %d %s", command, r.code, r.stderr)
		}
	}
	if r := exchanged.run("migrate", "status"); r.code != 1 || !strings.Contains(r.stderr, "exchange the two") {
		t.Errorf("status with the sections exchanged: %+v", r)
	}

	// The target hangs while writes wait. Clients go on with the source within
	// the longest pause, give or take how long the undoing takes.
	var out output
	done := make(chan int)
	hung := make(chan struct{})
	go func() {
		sealed := onText(&out, "etcd: sealed", func() {
			defer close(hung)
			if err := target.Pause(); err != nil {
				t.Error(err)
			}
		})
		done <- runInto(t.Context(), sealed, "--config", s.file(s.config), "migrate", "cutover", "--max-pause=2s")
	}()
	<-hung
	began := time.Now()
	if err := putBytes(t.Context(), client, "k00001", "after the pause"); err != nil {
		t.Errorf("a write of the fleet: %v", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the write waited for %v", took)
	}
	if code := <-done; code != 1 {
		t.Errorf("the cutover that was undone: exit code %d\n%s", code, &out)
	}
	st := s.run("migrate", "status", "--check")
	if st.code != 3 || !strings.Contains(st.stdout, `store "new" can't be read, store "etcd" is primary`) {
		t.Errorf("status with the target lost: %d\n%s\n%s", st.code, st.stdout, st.stderr)
	}
	s.run("migrate", "force", "--on", "new").want(t, 1, "", `store "etcd" is not lost, it answers`)
	if err := target.Continue(); err != nil {
		t.Fatal(err)
	}
	s.run("migrate", "abort").ends(t, 0, "now:  store \"etcd\" is primary and is mirrored into store \"new\"")
	waitFor(t, "the fleet is ready again", func() bool { return s.run("migrate", "status", "--check").code == 0 })
	s.run("copy").ends(t, 0, "etcd to new: 2,000 keys compared")

	t.Run("closed pipe", func(t *testing.T) {
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		_ = read.Close() // nobody reads
		cmd, _, _ := command(t, "--config", s.file(s.config), "migrate", "cutover")
		cmd.Stdout, cmd.Stderr = write, write
		err = cmd.Run()
		_ = write.Close()
		if err != nil {
			t.Errorf("the cutover ended with %v", err)
		}
		s.run("migrate", "status").ends(t, 0, `now:  store "new" is primary and is mirrored back into store "etcd"`)
	})
	t.Run("stopped terminal", func(t *testing.T) {
		terminal := &stopped{goOn: make(chan struct{})}
		back := make(chan int)
		go func() {
			back <- cli.Run(t.Context(), factory.Builtin(), []string{"--config", s.file(s.config), "migrate", "rollback"}, strings.NewReader(""), terminal, terminal)
		}()
		waitFor(t, "the roll-back is done though its terminal is stopped", func() bool {
			return strings.Contains(s.run("migrate", "status").stdout, `store "etcd" is primary and is mirrored into store "new"`)
		})
		close(terminal.goOn)
		if code := <-back; code != 0 {
			t.Errorf("exit code %d", code)
		}
	})
	t.Run("a forgotten host", func(t *testing.T) {
		s.run("migrate", "cutover").ends(t, 0, "new: primary")
		forgotten := writeFile(t, "old.yaml", primary)
		run(t, "", "--config", forgotten, "put", "k00002", "lost").want(t, 3, "", `takes no writes of clients that know it alone: its record says "standby"`)
		run(t, "", "--config", forgotten, "--record-check=warn", "put", "k00002", "lost").want(t, 0, "", "takes no writes of clients")
		r := s.run("migrate", "finish")
		if r.code != 1 || !strings.Contains(r.stdout, "different  k00002") || !strings.Contains(r.stderr, "polykv copy --delete") {
			t.Errorf("finish: %+v", r)
		}
		s.run("copy", "--delete").ends(t, 0, "copied 1")
		s.run("migrate", "finish").ends(t, 0, "etcd: retired")
		s.run("verify").ends(t, 0, "store etcd is retired")
		run(t, "", "--config", forgotten, "put", "k", "v").want(t, 3, "", `configure this client for store "new"`)
	})
}

// ends is want for commands that may tell of their progress on stderr.
func (r result) ends(t *testing.T, code int, stdout string) {
	t.Helper()
	if r.code != code || !strings.Contains(r.stdout, stdout) {
		t.Errorf("exit code %d, want %d, and stdout with %q:\n%s\n%s", r.code, code, stdout, r.stdout, r.stderr)
	}
}

func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !cond(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after a minute: not yet: %s", what)
		}
	}
}

// onText is a writer that calls f once when a text is written, and passes on
// what is written.
func onText(to io.Writer, text string, f func()) io.Writer {
	return writerFunc(func(p []byte) (int, error) {
		if f != nil && strings.Contains(string(p), text) {
			f()
			f = nil
		}
		return to.Write(p)
	})
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// stopped is a terminal that takes nothing until it is let go on.
type stopped struct{ goOn chan struct{} }

func (s *stopped) Write(p []byte) (int, error) {
	<-s.goOn
	return len(p), nil
}

// A command waits for an agent that has no connection left.
func TestBusyConsulIsWaitedFor(t *testing.T) {
	busy := servertest.Consul(t, testserver.Options{Args: []string{"-hcl", "limits { http_max_conns_per_client = 2 }"}})
	prefix := t.Name() + "/"
	primary := busy.Section(prefix)
	s := newOnServers(t, primary, plain.Get(t).Section(prefix))
	// Two watches hold what connections there are.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var held sync.WaitGroup
	for range 2 {
		held.Go(func() {
			for ctx.Err() == nil {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, busy.URLs()[0]+"/v1/kv/x?wait=60s&index=1000000", http.NoBody)
				if err != nil {
					t.Error(err)
					return
				}
				if resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req); err == nil {
					_ = resp.Body.Close()
				}
			}
		})
	}
	var log output
	done := make(chan int)
	go func() {
		done <- cli.Run(t.Context(), factory.Builtin(), []string{"--config", s.file(s.config), "migrate", "plan", "--dry-run"}, strings.NewReader(""), io.Discard, &log)
	}()
	log.waitFor(t, "waiting for up to 2m0s: can't reach consul")
	cancel()
	held.Wait()
	if code := <-done; code != 0 {
		t.Errorf("exit code %d: %s", code, &log)
	}
}

// What the server of the target refuses is told by key before anything is
// sealed, whatever the configuration says of its limits.
func TestSizesAreTriedOnServers(t *testing.T) {
	source, target := plain.Get(t), servertest.Etcd(t, testserver.Options{NoFsync: true, Args: []string{"--max-request-bytes=65536"}})
	prefix := t.Name() + "/"
	s := newOnServers(t, source.Section(prefix), strings.Replace(target.Section(prefix), "{backend: etcd,", "{backend: etcd, name: new,", 1))
	s.seed(20, source.Section(prefix))
	for key, size := range map[string]int{"most": 60_000, "more": 70_000} {
		run(t, strings.Repeat("x", size), append(onEtcd(t), "put", key, "-")...).ends(t, 0, "")
	}
	r := s.run("migrate", "plan")
	if r.code != 1 || !strings.Contains(r.stdout, `key "more": the value has 70000 bytes, the server of store "new" refuses more than 6`) || strings.Contains(r.stdout, `key "most"`) {
		t.Errorf("plan: %+v", r)
	}
	s.run("migrate", "start").ends(t, 0, "new: standby")
	if r := s.run("copy"); r.code != 3 || !strings.Contains(r.stdout, "failed     more  ") {
		t.Errorf("copy: %+v", r)
	}
	r = s.run("migrate", "cutover", "--allow-no-clients", "--allow-differences")
	if r.code != 1 || !strings.Contains(r.stderr, "before it sealed anything") || !strings.Contains(r.stdout, "failed     more  ") {
		t.Errorf("cutover: %+v", r)
	}
	if r := s.run("migrate", "status"); !strings.Contains(r.stdout, `store "etcd" is primary`) {
		t.Errorf("status: %+v", r)
	}
}

// The wanted state in a file, on real servers, with a fleet that comes late.
func TestConvergeOnServers(t *testing.T) {
	prefix := t.Name() + "/"
	consul := servertest.Consul(t, testserver.Options{})
	primary := consul.Section(prefix)
	s := newOnServers(t, primary, plain.Get(t).Section(prefix))
	s.seed(300, primary)
	wanted := func(text string) string { return writeFile(t, "wanted.yaml", text) }
	for text, say := range map[string]string{
		"stage: done":                  `stage: "done" is not allowed; it must be one of: mirroring`,
		"stage: moved\nspeed: 3":       "the fields are stage, wait, expect_clients, max_pause and allow",
		"{stage: moved, allow: [all]}": `allow: "all" is not known; known are: differences, empty, keys`,
		"{stage: moved, wait: -1s}":    "wait: -1s must not be negative",
	} {
		s.run("migrate", "converge", "--wanted", wanted(text)).want(t, 2, "", say)
	}
	s.run("migrate", "converge").want(t, 2, "", "--wanted is missing")
	s.run("migrate", "converge", "--wanted", wanted("stage: moved")).ends(t, 1, "consul: primary")
	target := writeFile(t, "etcd.yaml", plain.Get(t).Section(prefix))
	run(t, "", "--config", target, "--record-check=ignore", "put", "extra", "x").want(t, 0, "", "")
	s.run("migrate", "converge", "--wanted", wanted("stage: copied")).want(t, 1, "", `keys differ though they were just copied: 1 of them, "extra" (extra) among them; run "polykv verify"`)
	run(t, "", "--config", target, "--record-check=ignore", "delete", "extra").want(t, 0, "", "")
	var log output
	done := make(chan result)
	go func() {
		var out output
		code := cli.Run(t.Context(), factory.Builtin(), []string{"--config", s.file(s.config), "migrate", "converge", "--wanted", wanted("{stage: moved, expect_clients: 2}"), "--wait-until-ready=5m"},
			strings.NewReader(""), &out, &log)
		done <- result{code, out.String(), log.String()}
	}()
	log.waitFor(t, "waiting: refused: not ready for the cutover")
	s.client()
	s.client()
	r := <-done
	if r.code != 0 || !strings.Contains(r.stdout, `the stage "moved" is reached`) {
		t.Fatalf("%+v", r)
	}
	s.run("migrate", "converge", "--wanted", wanted("stage: moved")).ends(t, 0, "the stage \"moved\" is reached\n")
	s.run("migrate", "converge", "--wanted", wanted("stage: mirroring")).ends(t, 0, "consul: primary (was filling)")
	s.run("migrate", "converge", "--wanted", wanted("{stage: finished, expect_clients: 2, wait: 1m}")).ends(t, 0, "consul: retired")
	s.run("migrate", "converge", "--wanted", wanted("stage: mirroring")).want(t, 1, "", "there is no way to the stage")
}

// A fleet that is not coordinated reads the very file that converge is given; gossip
// is one of its stores.
func TestConvergeOfAFleetThatIsNotCoordinated(t *testing.T) {
	prefix := t.Name() + "/"
	node := func(name string) string {
		return fmt.Sprintf("{backend: memberlist, name: gossip, prefix: %q, memberlist: {node_name: %s, cluster_label: wanted, bind_address: 127.0.0.1, bind_port: 0}}", prefix, name)
	}
	file := writeFile(t, "wanted.yaml", "{primary: gossip, mirror: true}")
	config := func(name string) *onServers {
		text := fmt.Sprintf("backend: multi\nmulti: {wanted_file: %s, client_name: %s, primary: %s, secondary: %s}\n", file, name, node(name), plain.Get(t).Section(prefix))
		return &onServers{t, text}
	}
	a, b := config("a"), config("b")
	converge := []string{"migrate", "converge", "--wanted", file}
	a.run(converge...).want(t, 1, "", "0 clients were seen, 1 were expected")
	a.client()
	b.client()
	a.run(append(converge, "--wait-until-ready=2m")...).ends(t, 0, `use store "gossip"`)
	if err := os.WriteFile(file, []byte("{primary: etcd, mirror: true, wait: 2m, expect_clients: 2}"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.run(converge...).ends(t, 0, `all 2 clients use store "etcd"`)
	a.run(append(converge, "--json")...).ends(t, 0, `"followed":2,"behind":[]`)
	for text, say := range map[string]string{
		"primary: consul":                   `there is no store "consul"; the stores are "gossip" and "etcd"`,
		"{primary: etcd, stage: moved}":     "stage is for coordinated clients, primary and mirror are for others",
		"{mirror: true, expect_clients: 2}": `stage: "" is not allowed`,
	} {
		a.run("migrate", "converge", "--wanted", writeFile(t, "wrong.yaml", text)).want(t, 2, "", say)
	}
}

// With gossip on both sides the clients tell of themselves there, and converge joins to
// hear it.
func TestConvergeOfAFleetBetweenGossipStores(t *testing.T) {
	var join [2]string
	for i := range join {
		cfg := memberlist.DefaultConfig()
		cfg.NodeName, cfg.ClusterLabel, cfg.BindAddress, cfg.BindPort = "seed", "wanted", "127.0.0.1", 0
		seed, err := memberlist.StartWith(t.Context(), cfg, memberlist.Options{}, codec.Bytes{})
		if err != nil {
			t.Fatal(err)
		}
		defer seed.Close()
		join[i] = seed.Address()
	}
	file, stuck := writeFile(t, "wanted.yaml", "{primary: old, mirror: true, expect_clients: 3}"), writeFile(t, "stuck.yaml", "{primary: old, mirror: true}")
	node := func(store, name, join string) string {
		return fmt.Sprintf("{backend: memberlist, name: %s, memberlist: {node_name: %s, cluster_label: wanted, bind_address: 127.0.0.1, bind_port: 0, join: [%s]}}", store, name, join)
	}
	config := func(name, file string, join [2]string) *onServers {
		text := fmt.Sprintf("backend: multi\nmulti: {wanted_file: %s, client_name: %s, primary: %s, secondary: %s}\n", file, name, node("old", name, join[0]), node("new", name, join[1]))
		return &onServers{t, text}
	}
	config("a", file, join).client()
	config("b", file, join).client()
	config("stuck", stuck, join).client()
	operator := config("operator", file, join)
	converge := []string{"migrate", "converge", "--wanted", file}
	operator.run(append(converge, "--wait-until-ready=2m")...).ends(t, 0, `all 3 clients use store "old"`)
	if err := os.WriteFile(file, []byte("{primary: new, mirror: true, expect_clients: 3}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := operator.run(converge...); r.code != 1 || !strings.Contains(r.stderr, "client stuck (") || !strings.Contains(r.stderr, `it uses store "old"`) {
		t.Errorf("with one that does not follow: %+v", r)
	}
	if err := os.WriteFile(stuck, []byte("{primary: new}"), 0o600); err != nil {
		t.Fatal(err)
	}
	operator.run(append(converge, "--wait-until-ready=2m")...).ends(t, 0, `all 3 clients use store "new"`)
	config("alone", file, [2]string{}).run(converge...).want(t, 3, "", "give --multi.primary.memberlist.join")
}

// The page of the fleet is served until the command is interrupted.
func TestStatusIsServed(t *testing.T) {
	s := newTwoStores(t)
	s.put(s.from, "k", "v")
	s.run("migrate", "start").want(t, 0, "new: standby", "")
	ctx, cancel := context.WithCancel(t.Context())
	var out output
	done := make(chan int)
	go func() {
		done <- cli.Run(ctx, factory.Builtin(), append([]string{"migrate", "status", "--serve=127.0.0.1:0"}, s.flags...), strings.NewReader(""), &out, io.Discard)
	}()
	out.waitFor(t, "page http://")
	url := strings.TrimSpace(strings.TrimPrefix(out.String(), "page "))
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(body), `store &#34;old&#34; is primary and is mirrored into store &#34;new&#34;`) {
		t.Errorf("%s, %v", body, err)
	}
	cancel()
	if code := <-done; code != 0 {
		t.Errorf("exit code %d after an interrupt", code)
	}
	http.DefaultClient.CloseIdleConnections()
	s.run("migrate", "status", "--serve", "nowhere").want(t, 2, "", "--serve: ")
}

// Every flag of two stores is listed.
func TestFlagsOfTwoStoresAreListed(t *testing.T) {
	r := run(t, "", "help", "flags")
	for _, flag := range []string{"--multi.coordinated", "--multi.fence-timeout", "--multi.client-name", "--multi.mirror-workers"} {
		if !strings.Contains(r.stdout, flag) {
			t.Errorf("it lacks %s", flag)
		}
	}
	if strings.Contains(r.stdout, "--multi.primary.etcd") {
		t.Error("it lists the flags of every backend three times")
	}
}
