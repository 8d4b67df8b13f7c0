package cortex

import (
	"flag"
	"slices"
	"strings"
	"testing"
	"time"

	cortexkv "github.com/cortexproject/cortex/pkg/ring/kv"
	"github.com/cortexproject/cortex/pkg/ring/kv/memberlist"
	"go.yaml.in/yaml/v3"

	"github.com/polykv/polykv/adapters/hostconfig"
	"github.com/polykv/polykv/kv/factory"
)

// read parses what a user of the host wrote, flags first.
func read(t *testing.T, args []string, text, gossip string) (*factory.Config, []hostconfig.Note, error) {
	t.Helper()
	var cfg cortexkv.Config
	var ml memberlist.KVConfig
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	cfg.RegisterFlagsWithPrefix("", "collectors/", fs)
	ml.RegisterFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(text), &cfg); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(gossip), &ml); err != nil {
		t.Fatal(err)
	}
	return Config(cfg, &ml)
}

func notes(all []hostconfig.Note) string {
	var lines []string
	for _, n := range all {
		lines = append(lines, n.String())
	}
	return strings.Join(lines, "\n")
}

func TestConsul(t *testing.T) {
	cfg, told, err := read(t, []string{"-consul.hostname=consul.example:8500", "-consul.watch-rate-limit=5"},
		"store: consul\nconsul: {acl_token: s3cret, consistent_reads: true}\n", "")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Backend != "consul" || cfg.Prefix != "collectors/" || cfg.Consul.Address != "consul.example:8500" ||
		cfg.Consul.Token.Reveal() != "s3cret" || cfg.Consul.Consistency != "consistent" {
		t.Errorf("got %v", cfg)
	}
	if want := "consul.watch_rate_limit (-consul.watch-rate-limit) is 5: not carried over; polykv's watches need no limit"; notes(told) != want {
		t.Errorf("told\n%s\nwant\n%s", notes(told), want)
	}
	cfg, told, err = read(t, nil, "", "")
	if err != nil || len(told) > 0 || cfg.Consul.Consistency != "default" {
		t.Errorf("of the host's defaults: %v, %v, %v", cfg, told, err)
	}
}

func TestEtcd(t *testing.T) {
	cfg, told, err := read(t, []string{"-ring.store=etcd", "-etcd.endpoints=a:2379", "-etcd.endpoints=b:2379"},
		"etcd: {dial_timeout: 3s, max_retries: 7, username: u, password: s3cret, tls_ca_path: /unused}\n", "")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Backend != "etcd" || !slices.Equal(cfg.Etcd.Endpoints, []string{"a:2379", "b:2379"}) || cfg.Etcd.DialTimeout != 3*time.Second ||
		cfg.Etcd.Username != "u" || cfg.Etcd.Password.Reveal() != "s3cret" || cfg.Etcd.TLS.Enabled || cfg.Etcd.TLS.CAFile != "" {
		t.Errorf("got %v", cfg)
	}
	if got := notes(told); !strings.HasPrefix(got, "etcd.max_retries (-etcd.max-retries) is 7: ") || strings.Contains(got, "\n") {
		t.Errorf("told %s", got)
	}
	_, _, err = read(t, []string{"-ring.store=etcd", "-etcd.endpoints=a:2379"}, "etcd: {tls_enabled: true, tls_ca_path: /missing.pem}\n", "")
	if err == nil || !strings.Contains(err.Error(), "etcd.tls.ca_file") {
		t.Errorf("TLS isn't carried over: %v", err)
	}
}

// What can't be a prefix of polykv's is put before the keys in the store itself.
func TestPrefix(t *testing.T) {
	for _, prefix := range []string{"rings", "/rings/", "a//b/"} {
		cfg, told, err := read(t, []string{"-ring.store=multi", "-multi.primary=consul", "-multi.secondary=etcd", "-etcd.endpoints=a:1", "-ring.prefix=" + prefix}, "", "")
		if err != nil {
			t.Fatal(err)
		}
		if m := cfg.Multi; cfg.Prefix != "" || string(m.Primary.Consul.Root) != prefix || string(m.Secondary.Etcd.Root) != prefix || !strings.Contains(notes(told), "prefix (-ring.prefix) is "+prefix+": becomes") {
			t.Errorf("%s: %v, told\n%s", prefix, cfg, notes(told))
		}
	}
}

func TestMemberlist(t *testing.T) {
	cfg, told, err := read(t, []string{"-ring.store=memberlist", "-memberlist.join=dns+gossip.example:7946", "-memberlist.gossip-nodes=5"}, "",
		"bind_addr: [10.0.0.1]\nbind_port: 7947\nadvertise_addr: 10.0.0.2\nleave_timeout: 9s\nabort_if_cluster_join_fails: false\n")
	if err != nil {
		t.Fatal(err)
	}
	m := cfg.Memberlist
	if cfg.Backend != "memberlist" || m.BindAddress != "10.0.0.1" || m.BindPort != 7947 || m.AdvertiseAddress != "10.0.0.2" ||
		!slices.Equal(m.Join, []string{"dns+gossip.example:7946"}) || m.CloseTimeout != 9*time.Second || m.RequirePeers != 0 {
		t.Errorf("got %v", cfg)
	}
	for _, want := range []string{"memberlist.gossip_nodes (-memberlist.gossip-nodes) is 5: ", "don't understand each other"} {
		if !strings.Contains(notes(told), want) {
			t.Errorf("%q isn't told in\n%s", want, notes(told))
		}
	}
	// Cortex' default: a process that is the first of all must start.
	cfg, told, err = read(t, []string{"-ring.store=memberlist", "-memberlist.join=a:1"}, "", "")
	if want := "memberlist.abort_if_cluster_join_fails (-memberlist.abort-if-join-fails) is true: not carried over"; err != nil || cfg.Memberlist.RequirePeers != 0 || !strings.Contains(notes(told), want) {
		t.Errorf("it waits for %d others: %v, told\n%s", cfg.Memberlist.RequirePeers, err, notes(told))
	}
}

func TestMulti(t *testing.T) {
	cfg, _, err := read(t, []string{"-ring.store=multi", "-multi.primary=consul", "-multi.secondary=etcd", "-etcd.endpoints=a:2379", "-multi.mirror-enabled"},
		"prefix: rings/\nmulti: {mirror_timeout: 3s}\n", "")
	if err != nil {
		t.Fatal(err)
	}
	m := cfg.Multi
	if cfg.Backend != "multi" || cfg.Prefix != "rings/" || m.Primary.Backend != "consul" || m.Primary.Consul.Address != "localhost:8500" ||
		m.Secondary.Backend != "etcd" || m.Secondary.Etcd.Endpoints[0] != "a:2379" || !m.Mirror || m.MirrorTimeout != 3*time.Second {
		t.Errorf("got %v", cfg)
	}
}

func TestWhatIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		args         []string
		text, gossip string
		want         string
	}{
		"prefix":        {args: []string{"-ring.store=inmemory", "-ring.prefix=rings"}, want: "prefix: "},
		"prefix of two": {args: []string{"-ring.store=multi", "-multi.primary=consul", "-multi.secondary=inmemory", "-ring.prefix=rings"}, want: "prefix: "},
		"no store":      {args: []string{"-ring.store=zookeeper"}, want: `store (-ring.store): is "zookeeper"`},
		"addresses":     {args: []string{"-ring.store=memberlist"}, gossip: "bind_addr: [10.0.0.1, 10.0.0.2]", want: "memberlist.bind_addr (-memberlist.bind-addr): "},
		"gossip by TLS": {args: []string{"-ring.store=memberlist", "-memberlist.tls-enabled"}, want: "encryption_keys"},
		"both":          {args: []string{"-ring.store=multi", "-multi.primary=consul", "-multi.secondary=ftp"}, want: `multi.secondary (-multi.secondary): is "ftp"`},
		"DynamoDB":      {args: []string{"-ring.store=dynamodb"}, want: `store (-ring.store): is "dynamodb"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := read(t, c.args, c.text, c.gossip)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
	switched := cortexkv.Config{Store: "multi"}
	switched.Multi.Primary, switched.Multi.Secondary = "consul", "inmemory"
	switched.Consul.Host = "localhost:8500"
	switched.Multi.MirrorTimeout = time.Second
	switched.Multi.ConfigProvider = func() <-chan cortexkv.MultiRuntimeConfig { return nil }
	if _, _, err := Config(switched, nil); err == nil || !strings.Contains(err.Error(), "ConfigProvider") {
		t.Errorf("a runtime configuration is dropped: %v", err)
	}
	if _, _, err := Config(cortexkv.Config{Store: "memberlist"}, nil); err == nil {
		t.Error("no configuration of gossip was missed")
	}
	if _, _, err := Config(cortexkv.Config{Mock: Client{}}, nil); err == nil {
		t.Error("a client in Mock was dropped")
	}
}

// TestEveryFieldIsKnown fails when a newer version of the host has a field that
// nobody has thought about.
func TestEveryFieldIsKnown(t *testing.T) {
	var cfg cortexkv.Config
	var ml memberlist.KVConfig
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	cfg.RegisterFlagsWithPrefix("", "", fs)
	ml.RegisterFlags(fs)
	names := hostconfig.Names(cfg)
	for _, name := range hostconfig.Names(ml) {
		names = append(names, "memberlist."+name)
	}
	known := hostconfig.Fields()
	flags := map[string]bool{"memberlist.transport-debug": true} // not a field
	for _, name := range names {
		switch name := known[name]; {
		case name == "":
		case fs.Lookup(name) == nil:
			t.Errorf("there is no flag -%s", name)
		default:
			flags[name] = true
		}
		if known[name] == "" {
			t.Errorf("the field %s isn't known", name)
		}
	}
	fs.VisitAll(func(f *flag.Flag) {
		if !flags[f.Name] {
			t.Errorf("the flag -%s isn't known", f.Name)
		}
	})
}
