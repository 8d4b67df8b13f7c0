package memberlist

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv/config"
)

func base64Key(b byte) string {
	return base64.StdEncoding.EncodeToString([]byte(strings.Repeat(string(rune(b)), 32)))
}

func TestValidateNamesTheWrongField(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Fatalf("the defaults: %v", err)
	}
	secret := base64Key('s')
	for _, test := range []struct {
		field  string
		change func(*Config)
	}{
		{"node_name: ", func(c *Config) { c.NodeName = strings.Repeat("x", 129) }},
		{"node_name: ", func(c *Config) { c.NodeName = "a\nb" }},
		{"cluster_label: has 256 bytes; at most 255", func(c *Config) { c.ClusterLabel = strings.Repeat("x", 256) }},
		{"accept_cluster_labels: ", func(c *Config) { c.AcceptClusterLabels = []string{strings.Repeat("x", 256)} }},
		{"encryption_keys: key 2 is not base64", func(c *Config) { c.EncryptionKeys = config.NewSecret(secret + ",#") }},
		{"encryption_keys: key 1 has 3 bytes; 16, 24 and 32", func(c *Config) { c.EncryptionKeys = config.NewSecret("AAAA") }},
		{"encryption_keys_file: ", func(c *Config) { c.EncryptionKeysFile = "/no/such/file" }},
		{"encryption_keys_file: is set beside", func(c *Config) {
			c.EncryptionKeys, c.EncryptionKeysFile = config.NewSecret(secret), "/f"
		}},
		{"accept_plaintext: ", func(c *Config) { c.AcceptPlaintext = true }},
		{"send_plaintext: ", func(c *Config) { c.SendPlaintext = true }},
		{"send_plaintext: ", func(c *Config) { c.EncryptionKeys, c.SendPlaintext = config.NewSecret(secret), true }},
		{`bind_address: "localhost"`, func(c *Config) { c.BindAddress = "localhost" }},
		{"bind_port: 65536", func(c *Config) { c.BindPort = 65536 }},
		{`advertise_address: "x"`, func(c *Config) { c.AdvertiseAddress = "x" }},
		{"advertise_address: 0.0.0.0", func(c *Config) { c.AdvertiseAddress = "0.0.0.0" }},
		{"advertise_address: ", func(c *Config) { c.AdvertiseAddress = "fe80::1%eth0" }},
		{"interface_names: one is empty", func(c *Config) { c.InterfaceNames = []string{"eth0", ""} }},
		{"interface_names: is set beside advertise_address", func(c *Config) { c.InterfaceNames, c.AdvertiseAddress = []string{"eth0"}, "10.0.0.1" }},
		{"interface_names: is set, but the node listens on the bind_address 127.0.0.1", func(c *Config) {
			c.InterfaceNames, c.BindAddress = []string{"eth0"}, "127.0.0.1"
		}},
		{"advertise_port: -1", func(c *Config) { c.AdvertisePort = -1 }},
		{`allowed_cidrs: "10.0.0.1"`, func(c *Config) { c.AllowedCIDRs = []string{"10.0.0.0/8", "10.0.0.1"} }},
		{`join: "http://a"`, func(c *Config) { c.Join = []string{"http://a"} }},
		{"rejoin_interval: -1s", func(c *Config) { c.RejoinInterval = -time.Second }},
		{"probe_timeout: 2s", func(c *Config) { c.ProbeTimeout = 2 * time.Second }},
		{"tombstone_timeout: 19s", func(c *Config) { c.TombstoneTimeout = 19 * time.Second }},
		{"partition_tolerance: ", func(c *Config) { c.PartitionTolerance = time.Second }},
		{`keep_values: the codec id "" has 0 bytes`, func(c *Config) { c.KeepValues = []string{"a", ""} }},
		{"keep_maps: the codec id ", func(c *Config) { c.KeepMaps = []string{strings.Repeat("x", 256)} }},
		{`keep_maps: "a" is in keep_values too`, func(c *Config) { c.KeepValues, c.KeepMaps = []string{"a"}, []string{"a"} }},
		{"max_packet_bytes: 10 is not allowed; it must be 1024 to 65000", func(c *Config) { c.MaxPacketBytes = 10 }},
		{"max_value_bytes: 0", func(c *Config) { c.MaxValueBytes = 0 }},
	} {
		cfg := DefaultConfig()
		test.change(&cfg)
		err := cfg.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), test.field) {
			t.Errorf("error %v, want %q", err, test.field)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("the error shows a key: %v", err)
		}
		if _, err := Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), test.field) {
			t.Errorf("Start: error %v, want %q", err, test.field)
		}
	}
}

// TestEveryDurationIsChecked finds durations that Validate forgets.
func TestEveryDurationIsChecked(t *testing.T) {
	fields := reflect.TypeFor[Config]()
	for i := range fields.NumField() {
		f := fields.Field(i)
		if f.Type != reflect.TypeFor[time.Duration]() {
			continue
		}
		cfg := DefaultConfig()
		reflect.ValueOf(&cfg).Elem().Field(i).SetInt(-1)
		err := cfg.Validate()
		if name := f.Tag.Get("yaml"); err == nil || !strings.HasPrefix(err.Error(), name+": ") {
			t.Errorf("%s is -1ns: %v", name, err)
		}
	}
}

func TestFlagsAndYAMLReachEveryField(t *testing.T) {
	cfg := DefaultConfig()
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	cfg.RegisterFlags(fs, "m.")
	fields := reflect.TypeFor[Config]()
	for i := range fields.NumField() {
		name := fields.Field(i).Tag.Get("yaml")
		flag := "m." + strings.ReplaceAll(name, "_", "-")
		if name == "" || fs.Lookup(flag) == nil {
			t.Errorf("field %s: name %q, no flag %s", fields.Field(i).Name, name, flag)
		}
	}
	if err := fs.Parse([]string{"--m.join=a:1,dnssrv+b", "--m.encryption-keys=" + base64Key('k'), "--m.bind-port=99"}); err != nil {
		t.Fatal(err)
	}
	if len(cfg.Join) != 2 || cfg.BindPort != 99 || cfg.EncryptionKeys.Reveal() != base64Key('k') {
		t.Errorf("flags gave %+v", cfg)
	}
	text, err := yaml.Marshal(cfg)
	if err != nil || strings.Contains(string(text), base64Key('k')) || strings.Contains(fmt.Sprintf("%+v", cfg), base64Key('k')) {
		t.Errorf("a key shows: %v\n%s", err, text)
	}
	var back Config
	if err := yaml.Unmarshal(text, &back); err != nil || back.BindPort != 99 || back.ProbeInterval != cfg.ProbeInterval {
		t.Errorf("read back: %v, %+v", err, back)
	}
}

func writeKeys(t *testing.T, path string, keys ...string) {
	t.Helper()
	next := path + ".next"
	if err := os.WriteFile(next, []byte(strings.Join(keys, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

func TestKeysFileIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	writeKeys(t, path, base64Key('a'))
	withFile := nodeConfig("file")
	withFile.EncryptionKeysFile = path
	n := startNode(t, withFile, nil)
	security, err := withFile.security()
	if err != nil {
		t.Fatal(err)
	}
	n.wg.Go(func() { n.watchKeys(n.closing, security, 5*time.Millisecond) }) // as Start's, but for the interval

	other := nodeConfig("other")
	other.EncryptionKeys = config.NewSecret(base64Key('b'))
	other.Join = []string{n.Address()}
	o := startNode(t, other, nil)
	<-o.net.Joined()
	if len(o.Peers()) != 0 {
		t.Fatal("nodes with different keys are peers")
	}
	writeKeys(t, path, "rubbish") // the last keys stay
	writeKeys(t, path, base64Key('a'), base64Key('b'))
	if err := o.SetEncryptionKeys(base64Key('b'), base64Key('a')); err != nil {
		t.Fatal(err)
	}
	awaitPeerCount(t, o, 1)
	putValue(t, clientOf(t, o, codec.String{}), "key", "value")
	awaitStored(t, clientOf(t, n, codec.String{}), "key", "value")
	if err := o.SetEncryptionKeys("rubbish"); err == nil || strings.Contains(err.Error(), "rubbish") {
		t.Errorf("error %v", err)
	}
	for _, none := range [][]string{nil, {""}} {
		if err := o.SetEncryptionKeys(none...); err == nil || !o.net.Encrypted() {
			t.Errorf("without a key: error %v, encrypted: %v", err, o.net.Encrypted())
		}
	}
}

// A file of keys that can't be read is told of each time that this begins.
func TestUnreadableKeysFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "keys")
		var log bytes.Buffer
		n := &Node{cfg: DefaultConfig(), logger: slog.New(slog.NewTextHandler(&log, nil))}
		n.cfg.EncryptionKeysFile = path
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		writeKeys(t, path, base64Key('a'))
		security, err := n.cfg.security()
		if err != nil {
			t.Fatal(err)
		}
		go n.watchKeys(ctx, security, time.Second)
		for range 2 {
			writeKeys(t, path, "rubbish")
			time.Sleep(3 * time.Second) // of virtual time
			writeKeys(t, path, base64Key('a'))
			time.Sleep(3 * time.Second)
		}
		cancel()
		synctest.Wait()
		if got := strings.Count(log.String(), "can't be read"); got != 2 {
			t.Errorf("it is told %d times, want 2:\n%s", got, &log)
		}
	})
}

// A node ends its idle streams before the other side does: those that weren't used for
// half of StreamTimeout, at the next housekeeping.
func TestHousekeepingFollowsStreamTimeout(t *testing.T) {
	for _, timeout := range []time.Duration{3 * time.Second, 5 * time.Second, 10 * time.Second, time.Hour} {
		cfg := DefaultConfig()
		cfg.StreamTimeout = timeout
		if h := cfg.spread().Housekeeping; h < time.Second || h >= timeout/2 {
			t.Errorf("with a stream_timeout of %v, housekeeping is due each %v", timeout, h)
		}
	}
}
