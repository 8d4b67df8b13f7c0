package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/factory"
)

// twoStores are two stores in memory that last as long as the test, with the
// flags that lead to them.
type twoStores struct {
	t        *testing.T
	from, to kv.Client
	flags    []string
}

func newTwoStores(t *testing.T) *twoStores {
	s := &twoStores{t: t, flags: []string{"--multi.primary.name=old", "--multi.secondary.name=new"}}
	open := func(word, role string) kv.Client {
		cfg := factory.NewConfig()
		cfg.Backend, cfg.InMemory.Name = "inmemory", t.Name()+"/"+word
		client, err := factory.New(t.Context(), cfg, codec.Bytes{}, factory.Deps{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		s.flags = append(s.flags, "--multi."+role+".backend=inmemory", "--multi."+role+".inmemory.name="+cfg.InMemory.Name)
		return client
	}
	s.from, s.to = open("from", "primary"), open("to", "secondary")
	return s
}

func (s *twoStores) run(args ...string) result {
	s.t.Helper()
	return run(s.t, "", append(args, s.flags...)...)
}

func (s *twoStores) put(c kv.Client, key, value string) {
	s.t.Helper()
	if err := c.CAS(s.t.Context(), key, func(any) (any, bool, error) { return []byte(value), false, nil }); err != nil {
		s.t.Fatal(err)
	}
}

func (s *twoStores) get(c kv.Client, key string) string {
	s.t.Helper()
	value, err := c.Get(s.t.Context(), key)
	if err != nil {
		s.t.Fatal(err)
	}
	data, _ := value.([]byte)
	return string(data)
}

func TestMigrateFromBeginningToEnd(t *testing.T) {
	s := newTwoStores(t)
	for i := range 250 {
		s.put(s.from, fmt.Sprintf("k%03d", i), "v")
	}
	s.run("migrate", "status").want(t, 0, "now:  there is no migration: neither store has a record\n", "")
	s.run("migrate", "plan").want(t, 0, "old: 250 keys, 1,250 bytes, the longest key 4 bytes, the largest value 1 bytes (k000)\n", "")
	s.run("migrate", "cutover").want(t, 1, "", "polykv: refused: cutover can't go on here: there is no migration: neither store has a record; to begin, run")
	s.run("migrate", "start", "--dry-run").want(t, 0, "old: would become primary (was without a record), epoch 1\nnew: would become standby (was without a record), epoch 1\nnothing was changed\n", "")
	s.run("migrate", "start").want(t, 0, "old: primary (was without a record), epoch 1\nnew: standby (was without a record), epoch 1\nnow:  store \"old\" is primary and is mirrored into store \"new\"\n", "")
	s.run("migrate", "start").want(t, 0, "there was nothing to do\n", "")
	s.run("verify").want(t, 1, "missing    k000  1 bytes 4c94485e0c21\n", "polykv: 250 keys differ between old and new\n")
	s.run("copy").want(t, 0, "old to new: 250 keys compared, copied 250, deleted 0\n", "")
	s.run("verify").want(t, 0, "old and new: 250 keys compared (1,250 bytes), 0 differ\n", "")
	s.run("migrate", "cutover").want(t, 1, "", "no client answered: none runs coordinated with these two stores (--allow-no-clients goes on all the same)")
	cutover := s.run("migrate", "cutover", "--allow-no-clients")
	cutover.want(t, 0, "verified while writes waited: 250 keys, 0 copied, 0 deleted\nwrites waited for ", "")
	cutover.want(t, 0, "new: primary (was filling), epoch 2\n", "")
	s.run("migrate", "status").want(t, 0, "old    standby  2", "")
	s.run("copy").want(t, 0, "new to old: 250 keys compared, copied 0, deleted 0\n", "")
	s.run("migrate", "rollback", "--allow-no-clients").want(t, 0, "old: primary (was filling), epoch 3\n", "")
	s.run("migrate", "finish").want(t, 1, "", "polykv: refused: finish can't go on here")
	s.run("migrate", "cutover", "--allow-no-clients").want(t, 0, "new: primary (was filling), epoch 4\n", "")
	s.put(s.from, "foreign", "v")
	s.run("migrate", "finish").want(t, 1, "extra      foreign  1 bytes 4c94485e0c21\n", "not coordinated")
	s.run("migrate", "finish", "--allow-differences").want(t, 0, "old: retired (was standby), epoch 4\n", "")
	s.run("migrate", "abort").want(t, 1, "", "refused")
	s.run("copy").want(t, 1, "", "the migration is finished")
}

// What programs read.
func TestMigrateJSON(t *testing.T) {
	s := newTwoStores(t)
	s.put(s.from, "k", "v")
	s.put(s.from, "l", "v")
	s.put(s.to, "l", "w")
	decode := func(line string, into any) {
		t.Helper()
		dec := json.NewDecoder(strings.NewReader(line))
		if err := dec.Decode(into); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
	}
	var plan struct {
		Ready  bool
		Checks []struct{ Name string }
	}
	r := s.run("migrate", "plan", "--json", "--allow-keys")
	decode(r.stdout, &plan)
	if r.code != 0 || !plan.Ready || len(plan.Checks) != 12 {
		t.Errorf("plan: %d, %+v\n%s", r.code, plan, r.stdout)
	}
	var failed struct{ Error string }
	r = s.run("migrate", "start", "--json")
	decode(r.stdout, &failed)
	if r.code != 1 || !strings.Contains(failed.Error, "holds 1 keys") {
		t.Errorf("start: %d, %s", r.code, r.stdout)
	}
	var done struct {
		Result struct {
			Phase   string
			Changes []struct{ Store, To string }
		}
	}
	r = s.run("migrate", "start", "--json", "--allow-keys")
	decode(r.stdout, &done)
	if r.code != 0 || done.Result.Phase != "mirroring" || len(done.Result.Changes) != 2 || strings.Count(r.stdout, "\n") != 1 {
		t.Errorf("start: %d, %s", r.code, r.stdout)
	}
	r = s.run("verify", "--json")
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	var difference struct{ Key, Reason string }
	decode(lines[1], &difference)
	var summary struct{ Result struct{ Different int } }
	decode(lines[2], &summary)
	if r.code != 1 || len(lines) != 3 || difference.Key != "l" || difference.Reason != "different" || summary.Result.Different != 2 {
		t.Errorf("verify: %d, %s", r.code, r.stdout)
	}
	var copied struct{ Result struct{ Copied int } }
	r = s.run("copy", "--json")
	decode(r.stdout, &copied)
	if r.code != 0 || copied.Result.Copied != 2 {
		t.Errorf("copy: %d, %s", r.code, r.stdout)
	}
	var status struct {
		Phase  string
		Source struct{ Record struct{ State string } }
	}
	r = s.run("migrate", "status", "--json")
	decode(r.stdout, &status)
	if r.code != 0 || status.Phase != "mirroring" || status.Source.Record.State != "primary" {
		t.Errorf("status: %d, %s", r.code, r.stdout)
	}
}

// A store that is away is no reason to say more than was seen.
func TestMigrateWithAStoreAway(t *testing.T) {
	s := newTwoStores(t)
	s.put(s.from, "k", "v")
	s.run("migrate", "start").want(t, 0, "new: standby", "")
	away := *s
	away.flags = append(slices.Clone(s.flags), "--multi.secondary.backend=etcd", "--multi.secondary.etcd.endpoints=127.0.0.1:1", "--multi.secondary.etcd.dial-timeout=200ms",
		"--multi.secondary.client.retry-timeout=200ms")
	r := away.run("migrate", "abort")
	if r.code != 0 || !strings.Contains(r.stdout, "now:  store \"new\" can't be read, store \"old\" is primary\nnext: clients write to store \"old\"; make store \"new\" reachable") {
		t.Errorf("abort: %+v", r)
	}
	wanted := writeFile(t, "wanted.yaml", "stage: moved")
	for _, command := range [][]string{{"cutover"}, {"rollback"}, {"finish"}, {"converge", "--wanted", wanted}} {
		away.run(append([]string{"migrate"}, command...)...).want(t, 1, "", "polykv: the "+command[0]+" failed before it sealed anything, clients go on as before: can't reach etcd at 127.0.0.1:1")
	}
}

func TestCopyFlags(t *testing.T) {
	s := newTwoStores(t)
	s.put(s.from, "a/k", "v")
	s.put(s.from, "b/k", "v")
	s.put(s.to, "a/x", "v")
	s.run("copy", "--dry-run", "--delete").want(t, 0, "old to new: 3 keys compared, would have copied 2, deleted 1\n", "")
	s.run("copy", "--keys", "a/").want(t, 0, "old to new: 2 keys compared, copied 1, deleted 0, kept 1 that only new has\n", "")
	s.run("verify", "--keys=a/").want(t, 1, "extra      a/x  1 bytes", "1 keys differ")
	s.run("copy", "--delete").want(t, 0, "copied 1, deleted 1\n", "")
	if s.get(s.to, "b/k") != "v" || s.get(s.to, "a/x") != "" {
		t.Error("wrong keys were copied or deleted")
	}
	s.put(s.from, "big", strings.Repeat("x", 2000))
	s.flags = append(s.flags, "--multi.secondary.client.max-value-size=1000")
	s.run("copy").want(t, 3, "failed     big  ", "polykv: 1 keys could not be copied")
	s.run("migrate", "plan").want(t, 1, `key "big": the value has 2000 bytes, store "new" takes 1000`, "polykv: not ready for a migration, see above\n")
}

func TestTwoStoresAreConfiguredByFiles(t *testing.T) {
	s := newTwoStores(t)
	s.put(s.from, "k", "v")
	from := writeFile(t, "old.yaml", "backend: inmemory\ninmemory:\n  name: "+t.Name()+"/from\n")
	to := writeFile(t, "new.yaml", "backend: inmemory\nprefix: below/\ninmemory:\n  name: "+t.Name()+"/to\n")
	args := []string{"copy", "--from", from, "--to", to, "--to-name=new"}
	run(t, "", args...).want(t, 0, "inmemory to new: 1 keys compared, copied 1, deleted 0\n", "")
	if s.get(s.to, "below/k") != "v" {
		t.Error("the prefix of the file has no effect")
	}
	both := writeFile(t, "both.yaml", `backend: multi
prefix: ignored/
multi:
  primary: {backend: inmemory, inmemory: {name: `+t.Name()+`/from}}
  secondary: {backend: inmemory, name: elsewhere, prefix: elsewhere/, inmemory: {name: `+t.Name()+`/to}}
`)
	run(t, "", "--config", both, "copy").want(t, 0, "inmemory to elsewhere: 1 keys compared, copied 1, deleted 0\n", "")
	if s.get(s.to, "elsewhere/k") != "v" {
		t.Error("the section multi has no effect")
	}
}

func TestTwoStoresBadInput(t *testing.T) {
	s := newTwoStores(t)
	good := writeFile(t, "good.yaml", "backend: inmemory\n")
	below := writeFile(t, "below.yaml", "{backend: inmemory, prefix: below/}\n")
	wrong := writeFile(t, "wrong.yaml", "backend: etdc\n")
	both := writeFile(t, "both.yaml", "backend: multi\nmulti:\n  primary: {backend: inmemory, name: a}\n  secondary: {backend: inmemory, name: b}\n")
	for _, c := range []struct {
		args []string
		say  string
	}{
		{[]string{"migrate", "begin"}, `unknown command "begin" for "polykv migrate"`},
		{[]string{"migrate", "start", "now"}, "start takes no arguments"},
		{[]string{"copy"}, "multi.primary: no backend chosen: give --config with a file that has two stores in its section multi, or --from and --to"},
		{[]string{"copy", "--config", good}, `the backend is "inmemory"; two stores are needed`},
		{[]string{"verify", "--from", good}, "--to is missing"},
		{[]string{"verify", "--from", good, "--to", below, "--to-name", "new"}, `of their prefixes "" and "below/" one begins with the other; neither must`},
		{[]string{"verify", "--from", good, "--to", good}, `both stores are named "inmemory"; give them --from-name and --to-name`},
		{[]string{"verify", "--from", "absent.yaml", "--to", good}, "--from: open absent.yaml"},
		{[]string{"verify", "--from", wrong, "--to", good}, `unknown backend "etdc", did you mean "etcd"?`},
		{[]string{"verify", "--from", both, "--to", good}, `the backend is "multi"; it must be one store`},
		{[]string{"verify", "--config", good, "--from", good, "--to", good}, "exclude each other"},
		{[]string{"verify", "--config", both, "--to-name=x"}, "in the section multi it is multi.secondary.name"},
		{
			[]string{"verify", "--multi.primary.backend=etcd", "--multi.secondary.backend=etcd", "--multi.secondary.name=new", "--multi.primary.prefix=a/new/", "--multi.secondary.prefix=a/"},
			`multi.secondary.prefix: both stores are one, and of their prefixes "a/new/" and "a/" one begins with the other; neither must`,
		},
		{[]string{"verify", "--multi.primary.backend=etcd", "--multi.secondary.backend=etcd"}, `both stores are named "etcd"`},
		{append([]string{"migrate", "status", "--every=-1s"}, s.flags...), "--every -1s: it must not be negative"},
	} {
		run(t, "", c.args...).want(t, 2, "", c.say)
	}
	s.run("migrate", "finish", "--on", "third").want(t, 1, "", `refused: there is no store "third"`)
	away := writeFile(t, "away.yaml", "backend: etcd\netcd: {endpoints: ['127.0.0.1:1'], dial_timeout: 200ms}\n")
	run(t, "", "verify", "--from", good, "--to", away).want(t, 3, "", "can't reach etcd at 127.0.0.1:1")
	run(t, "", "verify", "--from", good, "--to", away).want(t, 3, "", "away.yaml: etcd.*")
	run(t, "", "verify", "--multi.primary.backend=inmemory", "--multi.secondary.backend=etcd", "--multi.secondary.etcd.endpoints=127.0.0.1:1",
		"--multi.secondary.etcd.dial-timeout=200ms").want(t, 3, "", "in --multi.secondary.etcd.*")
}

func TestMigrateStatusAgainAndAgain(t *testing.T) {
	s := newTwoStores(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan result, 1)
	var out output
	go func() {
		code := runInto(ctx, &out, append([]string{"migrate", "status", "--every=1ms"}, s.flags...)...)
		done <- result{code: code}
	}()
	out.waitFor(t, "there is no migration")
	s.run("migrate", "start").want(t, 0, "new: standby", "")
	out.waitFor(t, `store "old" is primary and is mirrored into store "new"`)
	cancel()
	if r := <-done; r.code != 0 {
		t.Errorf("exit code %d after an interrupt", r.code)
	}
}
