package nats

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver"
)

// Each way to log in, and what else a connection begins with.
func TestOptionsOfConnections(t *testing.T) {
	of := func(change func(*Config)) (o struct {
		user, password, token string
		secure                bool
	},
	) {
		cfg := *NewConfig()
		change(&cfg)
		opts, err := open(t, cfg).options(t.Context(), []string{"nats://a:1"}, "word")
		if err != nil || opts.PingInterval != cfg.PingInterval || opts.MaxPingsOut != 2 || opts.Timeout != cfg.DialTimeout || opts.AllowReconnect || !opts.SkipHostLookup {
			t.Errorf("%+v begins with %+v, %v", cfg, opts, err)
		}
		o.user, o.password, o.token = opts.User, opts.Password, opts.Token
		o.secure = opts.Secure && opts.TLSConfig != nil
		return o
	}
	want := of(func(*Config) {})
	if want.token != "word" || want.user != "" || want.secure {
		t.Errorf("a token: %+v", want)
	}
	if o := of(func(c *Config) { c.Username, c.Password = "me", config.NewSecret("word") }); o.user != "me" || o.password != "word" || o.token != "" {
		t.Errorf("a user: %+v", o)
	}
	if o := of(func(c *Config) { c.TLS.Enabled = true }); !o.secure {
		t.Errorf("TLS: %+v", o)
	}
}

// Without its credentials a connection isn't made, where it would be anybody's; they
// may come later.
func TestCredentialsFile(t *testing.T) {
	n := start(t, nil)
	cfg := n.config()
	cfg.CredentialsFile = filepath.Join(t.TempDir(), "creds")
	s := open(t, cfg)
	if res, err := s.Swap(t.Context(), driver.Swap{Key: "k", ID: 1}); res.Outcome != driver.NotApplied || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without the file: %v, %v", res.Outcome, err)
	}
	const creds = `-----BEGIN NATS USER JWT-----
at which this server does not look
------END NATS USER JWT------
-----BEGIN USER NKEY SEED-----
SUAHRFG753TNAXITIVHEXTYIDROFN5KLOVWTL4BA2V3LEJHGRZ4XHVVBM4
------END USER NKEY SEED------
`
	if err := os.WriteFile(cfg.CredentialsFile, []byte(creds), 0o600); err != nil {
		t.Fatal(err)
	}
	drivertest.Put(t, s, "k", "v")
	if o, err := s.options(t.Context(), nil, "word"); err != nil || o.UserJWT == nil || o.SignatureCB == nil || o.Token != "" {
		t.Errorf("%+v, %v", o, err)
	}
}

// A bucket that is made is like those of other tools, but for what it can do more.
func TestBucketIsLikeOthers(t *testing.T) {
	n := start(t, nil)
	js := asOther(t, n)
	bucket, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "theirs"})
	if err != nil {
		t.Fatal(err)
	}
	drivertest.Put(t, open(t, n.config()), "k", "v")
	of := func(name string) jetstream.StreamConfig {
		stream, err := js.Stream(t.Context(), "KV_"+name)
		if err != nil {
			t.Fatal(err)
		}
		return stream.CachedInfo().Config
	}
	ours, theirs := of("polykv"), of(bucket.Bucket())
	if !ours.AllowMsgTTL || !ours.AllowAtomicPublish {
		t.Errorf("markers would stay, or guards be refused: %+v", ours)
	}
	theirs.Name, theirs.Subjects, theirs.Description, theirs.Metadata = ours.Name, ours.Subjects, ours.Description, ours.Metadata
	theirs.AllowMsgTTL, theirs.AllowAtomicPublish = true, true
	if !reflect.DeepEqual(ours, theirs) {
		t.Errorf("ours:   %+v\ntheirs: %+v", ours, theirs)
	}
}

// Requests go to the domain, also those that the server refuses.
func TestDomain(t *testing.T) {
	n := start(t, func(o *server.Options) { users(o); o.JetStreamDomain = "hub" })
	as := func(user, domain string) *store {
		cfg := n.config()
		cfg.Username, cfg.Password, cfg.Domain = user, config.NewSecret("secret"), domain
		return open(t, cfg)
	}
	all := as("all", "hub")
	if all.api != "$JS.hub.API." {
		t.Errorf("requests go to %s", all.api)
	}
	drivertest.Put(t, all, "k", "v")
	drivertest.Follow(t.Context(), t, all, driver.Range{Key: "k"}, nil).Sees(t, map[string]string{"k": "v"})
	ctx := drivertest.WithTimeout(t, time.Minute)
	if _, err := as("nobody", "hub").Get(ctx, driver.GetRequest{Key: "k"}); !errors.Is(err, driver.ErrPermission) {
		t.Errorf("a read by nobody: %v", err)
	}
	if res, err := as("all", "elsewhere").Swap(ctx, driver.Swap{Key: "k", ID: 1}); res.Outcome != driver.NotApplied || err == nil || driver.IsPermanent(err) {
		t.Errorf("a write to a domain that isn't there: %v, %v", res.Outcome, err)
	}
}

// Each connection is an epoch, and no request is remembered once it ended.
func TestConnections(t *testing.T) {
	n := start(t, nil)
	s := open(t, n.config())
	drivertest.Put(t, s, "k", "v")
	before := s.Epoch()
	drivertest.Get(t, s, "k")
	if s.Epoch() != before {
		t.Error("another epoch on the same connection")
	}
	n.down()
	if err := n.up(); err != nil {
		t.Fatal(err)
	}
	drivertest.Eventually(t, func() error {
		_, err := s.Get(t.Context(), driver.GetRequest{Key: "k"})
		return err
	})
	if s.Epoch() == before {
		t.Error("the epoch of another connection")
	}
	s.refusals.Range(func(_, what any) bool {
		t.Errorf("a request that ended is remembered: %v", what)
		return true
	})
}

// A refusal ends every request that it may be about, and no other.
func TestRefusals(t *testing.T) {
	refusalOf := func(kind, subject string) error {
		return fmt.Errorf("nats: Permissions Violation for %s to %q", kind, subject)
	}
	for _, test := range []struct {
		api     string
		refused error
		asked   string
		ends    bool
	}{
		{"$JS.API.", refusalOf("Publish", "$JS.API.STREAM.INFO.KV_b"), `STREAM.INFO.KV_b"`, true},
		{"$JS.API.", refusalOf("Publish", "$JS.API.STREAM.INFO.KV_b2"), `STREAM.INFO.KV_b"`, false},
		{"$JS.hub.API.", refusalOf("Publish", "$JS.API.STREAM.INFO.KV_b"), `STREAM.INFO.KV_b"`, true},
		{"$JS.hub.API.", refusalOf("Publish", "$JS.hub.API.STREAM.INFO.KV_b"), `STREAM.INFO.KV_b"`, true},
		{"$JS.API.", refusalOf("Publish", "$JS.API.CONSUMER.CREATE.KV_b.c"), "CONSUMER.CREATE.KV_b.", true},
		{"$JS.API.", refusalOf("Subscription", "_INBOX.x.*"), `STREAM.INFO.KV_b"`, true},
	} {
		s := &store{api: test.api}
		var asked []context.Context
		for range 3 {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			s.refusals.Store(&cancel, `Publish to "`+s.api+test.asked)
			asked = append(asked, ctx)
		}
		if deaf := s.refused(test.refused); deaf != strings.Contains(test.refused.Error(), "Subscription") {
			t.Errorf("%v: nobody listens: %v", test.refused, deaf)
		}
		for _, ctx := range asked {
			if ended := ctx.Err() != nil; ended != test.ends || ended && !errors.Is(context.Cause(ctx), test.refused) {
				t.Errorf("%v, and %s: %v", test.refused, test.asked, context.Cause(ctx))
			}
		}
	}
}

// Close waits for no server that says nothing, and a name that can't be looked up is no
// server.
func TestServersThatAreNone(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	cfg := *NewConfig()
	cfg.Servers, cfg.DialTimeout = []string{silent.Addr().String()}, time.Hour
	s, err := Open(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() {
		_, err := s.Get(t.Context(), driver.GetRequest{Key: "k"})
		got <- err
	}()
	conn, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	for name, done := range map[string]chan error{"Close": closed, "Get": got} {
		select {
		case err := <-done:
			if (name == "Get") != (err != nil) {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s waits for a server that says nothing", name)
		}
	}

	cfg = *NewConfig()
	cfg.Servers = []string{"dnssrv+" + strings.Repeat("a", 64) + ".b"} // which is no name
	if res, err := open(t, cfg).Swap(t.Context(), driver.Swap{Key: "k", ID: 1}); res.Outcome != driver.NotApplied || err == nil || driver.IsPermanent(err) {
		t.Errorf("a name of nothing: %v, %v", res.Outcome, err)
	}
}
