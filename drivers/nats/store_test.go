package nats

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/certs"
	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver"
)

// asOther returns JetStream for a program that knows nothing of polykv.
func asOther(t testing.TB, n *node, options ...nats.Option) jetstream.JetStream {
	t.Helper()
	conn, err := nats.Connect(n.addr(), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func TestClosed(t *testing.T) {
	n := start(t, nil)
	s, err := Open(n.config(), nil)
	if err != nil {
		t.Fatal(err)
	}
	drivertest.EmptyValue(t, s, "k")
	drivertest.EndedCtx(t, s, driver.Swap{Key: "k", ID: 1})
	closeStore(t, s)
	closeStore(t, s)
	drivertest.AfterClose(t, s)
}

// Answers that are lost leave it to a read to tell what was written.
func TestLostAnswer(t *testing.T) {
	n := start(t, nil)
	direct := open(t, n.config())
	for name, lose := range drivertest.WaysToLose() {
		t.Run(name, func(t *testing.T) {
			proxy, err := testserver.NewProxy(n.addr())
			if err != nil {
				t.Fatal(err)
			}
			defer proxy.Close()
			cfg := n.config()
			cfg.Servers = []string{proxy.Addr()}
			s := open(t, cfg)
			for _, w := range []driver.Swap{
				{Key: name, Prev: drivertest.Get(t, s, name), Value: []byte("v"), ID: 7},
				{Key: name, Remove: true, ID: 8},
			} {
				if w.Remove {
					w.Prev = drivertest.Get(t, s, name)
				}
				now := drivertest.LostAnswer(t, direct, s, proxy, w, lose)
				if o := s.Resolve(w, now); o != driver.Applied {
					t.Errorf("Resolve: %v", o)
				}
				w.ID++
				if o := s.Resolve(w, now); o != driver.Unknown {
					t.Errorf("Resolve of another's write: %v", o)
				}
				if err := proxy.Heal(); err != nil {
					t.Fatal(err)
				}
				drivertest.Eventually(t, func() error { // on another connection
					_, err := s.Get(t.Context(), driver.GetRequest{Key: name})
					return err
				})
			}
		})
	}
}

func TestNobodyListens(t *testing.T) {
	n := start(t, func(o *server.Options) { o.JetStream = false })
	s := open(t, n.config())
	res, err := s.Swap(drivertest.WithTimeout(t, 10*time.Second), driver.Swap{Key: "k", ID: 1})
	if res.Outcome != driver.NotApplied || err == nil || driver.IsPermanent(err) {
		t.Errorf("without JetStream: %v, %v", res.Outcome, err)
	}
	cfg := n.config()
	cfg.Servers = []string{drivertest.Unused(t)}
	res, err = open(t, cfg).Swap(drivertest.WithTimeout(t, 10*time.Second), driver.Swap{Key: "k", ID: 1})
	if res.Outcome != driver.NotApplied || err == nil || driver.IsPermanent(err) {
		t.Errorf("without a server: %v, %v", res.Outcome, err)
	}
}

// A bucket that is deleted and made again is another history, though the
// sequences are the same.
func TestBucketIsMadeAgain(t *testing.T) {
	n := start(t, nil)
	s, js := open(t, n.config()), asOther(t, n)
	before := drivertest.Put(t, s, "k", "v")
	if err := js.DeleteKeyValue(t.Context(), s.cfg.Bucket); err != nil {
		t.Fatal(err)
	}
	drivertest.Eventually(t, func() error {
		_, err := s.Get(t.Context(), driver.GetRequest{Key: "k"})
		return err
	})
	now := drivertest.Put(t, open(t, n.config()), "k", "other")
	if now.Version != before.Version {
		t.Fatalf("version %d in the new bucket, %d in the old one", now.Version, before.Version)
	}
	if e := drivertest.Get(t, s, "k"); e.Generation == before.Generation {
		t.Errorf("the generation is still %d", e.Generation)
	}
	drivertest.Swap(t, s, driver.Swap{Key: "k", Prev: before, Value: []byte("late")}, driver.Conflict)
}

// Nobody tells those who are connected that the bucket is another; they look, and a
// session that hears nothing more ends.
func TestBucketIsMadeAgainUnseen(t *testing.T) {
	t.Parallel()
	n := start(t, nil)
	s, js := open(t, n.config()), asOther(t, n)
	cfg := n.config()
	cfg.Bucket = "other"
	quiet := drivertest.Follow(t.Context(), t, open(t, cfg), driver.Range{Key: "k"}, nil)
	quiet.IsSynced(t)
	before, epoch := drivertest.Put(t, s, "k", "v"), s.Epoch()
	f := drivertest.Follow(t.Context(), t, s, driver.Range{Key: "k"}, nil)
	f.Sees(t, map[string]string{"k": "v"})
	stream, err := js.Stream(t.Context(), s.stream)
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), s.stream); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), stream.CachedInfo().Config); err != nil {
		t.Fatal(err)
	}
	if now := drivertest.Put(t, open(t, n.config()), "k", "other"); now.Version != before.Version {
		t.Fatalf("version %d in the new bucket, %d in the old one", now.Version, before.Version)
	}
	drivertest.Eventually(t, func() error {
		if e := drivertest.Get(t, s, "k"); e.Generation == before.Generation {
			return fmt.Errorf("the generation is still %d", e.Generation)
		}
		return nil
	})
	drivertest.Swap(t, s, driver.Swap{Key: "k", Prev: before, Value: []byte("late")}, driver.Conflict)
	if s.Epoch() != epoch {
		t.Error("there is another connection")
	}
	if err := f.Ends(t); err == nil || t.Context().Err() != nil {
		t.Errorf("the session ended: %v", err)
	}
	select {
	case <-quiet.Done():
		t.Error("a session in which nothing happens ended, too")
	default:
	}
	drivertest.Follow(t.Context(), t, s, driver.Range{Key: "k"}, nil).Sees(t, map[string]string{"k": "other"})
}

// Markers go after a while, where nobody makes an older state current by that.
func TestMarkersExpire(t *testing.T) {
	n := start(t, nil)
	cfg := n.config()
	cfg.MarkerTTL = time.Second
	s, js := open(t, cfg), asOther(t, n)
	drivertest.Put(t, s, "k", "v")
	drivertest.Remove(t, s, "k")
	removed := drivertest.Get(t, s, "k")
	drivertest.Eventually(t, func() error {
		stream, err := js.Stream(t.Context(), s.stream)
		if err == nil && stream.CachedInfo().State.Msgs > 0 {
			err = errors.New("the marker is still there")
		}
		return err
	})
	drivertest.Swap(t, s, driver.Swap{Key: "k", Prev: removed, Value: []byte("again")}, driver.Applied)
}

// A bucket of somebody else's may keep more states. An older one must not come
// back when the marker goes, and other tools' marks count.
func TestBucketOfOthers(t *testing.T) {
	n := start(t, nil)
	js := asOther(t, n)
	bucket, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "theirs", History: 5, LimitMarkerTTL: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"app.key", "not=ours", "gone", "purged"} {
		if _, err := bucket.Put(t.Context(), name, []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(bucket.Delete(t.Context(), "gone"), bucket.Purge(t.Context(), "purged")); err != nil {
		t.Fatal(err)
	}
	cfg := n.config()
	cfg.Bucket, cfg.MarkerTTL = "theirs", time.Second
	s := open(t, cfg)
	page, err := s.Scan(t.Context(), driver.ScanRequest{})
	if err != nil || len(page.Entries) != 1 || page.Entries[0].Key != "app/key" {
		t.Errorf("Scan: %v, %v", page.Entries, err)
	}
	f := drivertest.Follow(t.Context(), t, s, driver.Range{IsPrefix: true}, nil)
	f.Sees(t, map[string]string{"app/key": "v"})
	drivertest.Remove(t, s, "app/key")
	f.Sees(t, map[string]string{})
	if l, _ := s.links.Get(t.Context()); l.rollup {
		t.Error("markers in a bucket that keeps older states would expire")
	}
	for _, key := range []string{"gone", "purged", "app/key"} {
		if e := drivertest.Get(t, s, key); e.Exists() {
			t.Errorf("%q is there: %+v", key, e)
		}
		drivertest.Put(t, s, key, "again")
	}
	guarded := driver.Swap{Key: "k", Guards: []driver.Guard{{Key: "gone", Version: 1}}}
	if res, err := s.Swap(t.Context(), guarded); res.Outcome != driver.NotApplied || !errors.Is(err, driver.ErrNotSupported) {
		t.Errorf("a guard in a bucket without batches: %v, %v", res.Outcome, err)
	}
}

func TestLargestValue(t *testing.T) {
	n := start(t, nil)
	s := open(t, n.config())
	limits := s.Limits()
	value := bytes.Repeat([]byte{0xff}, limits.Value)
	guard := drivertest.Put(t, s, "guard", "v")
	w := driver.Swap{Key: strings.Repeat("é", limits.Key/2), Value: value, ID: 1 << 63}
	w.Prev = drivertest.Swap(t, s, w, driver.Applied).Entry
	w.Guards = slices.Repeat([]driver.Guard{{Key: "guard", Version: guard.Version}}, limits.Guards)
	drivertest.Swap(t, s, w, driver.Applied)
	if e := drivertest.Get(t, s, w.Key); !bytes.Equal(e.Value, value) {
		t.Errorf("%d bytes came back as %d", len(value), len(e.Value))
	}
	w.Guards, w.Value = nil, make([]byte, s.cfg.MaxPayload)
	res, err := s.Swap(t.Context(), w)
	if res.Outcome != driver.NotApplied || !errors.Is(err, driver.ErrTooLarge) {
		t.Errorf("a value over the limit: %v, %v", res.Outcome, err)
	}
}

func TestFull(t *testing.T) {
	n := start(t, nil)
	js := asOther(t, n)
	if _, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "polykv", MaxBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	s := open(t, n.config())
	small := drivertest.Put(t, s, "small", "v")
	value := make([]byte, 600<<10)
	drivertest.Put(t, s, "large", string(value))
	res, err := s.Swap(t.Context(), driver.Swap{Key: "other", Value: value, ID: 1})
	if res.Outcome != driver.NotApplied || !errors.Is(err, driver.ErrFull) {
		t.Errorf("a write to a full bucket: %v, %v", res.Outcome, err)
	}
	drivertest.Swap(t, s, driver.Swap{Key: "small", Prev: small, Remove: true}, driver.Applied)
}

// users are one that may do all, one that may read, one that hears no answers, and one
// that may do nothing.
func users(o *server.Options) {
	reads := []string{"$JS.API.STREAM.INFO.*", "$JS.API.STREAM.MSG.GET.*", "$JS.API.CONSUMER.CREATE.>", "$JS.API.CONSUMER.DELETE.>", "_INBOX.>", "$JS.FC.>"}
	o.Users = []*server.User{
		{Username: "all", Password: "secret"},
		{Username: "reader", Password: "secret", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Allow: reads}}},
		{Username: "deaf", Password: "secret", Permissions: &server.Permissions{Subscribe: &server.SubjectPermission{Deny: []string{">"}}}},
		{Username: "nobody", Password: "secret", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{">"}}}},
	}
}

func TestPermissions(t *testing.T) {
	n := start(t, users)
	as := func(user, password string) *store {
		cfg := n.config()
		cfg.Username, cfg.Password = user, config.NewSecret(password)
		return open(t, cfg)
	}
	all := as("all", "secret")
	now := drivertest.Put(t, all, "k", "v")
	reader := as("reader", "secret")
	if e := drivertest.Get(t, reader, "k"); string(e.Value) != "v" {
		t.Errorf("the reader sees %+v", e)
	}
	f := drivertest.Follow(t.Context(), t, reader, driver.Range{Key: "k"}, nil)
	f.Sees(t, map[string]string{"k": "v"})
	ctx := drivertest.WithTimeout(t, time.Minute)
	refused := func(who string, s *store) {
		t.Helper()
		if res, err := s.Swap(ctx, driver.Swap{Key: "k", Prev: now, ID: 1}); res.Outcome != driver.NotApplied || !errors.Is(err, driver.ErrPermission) {
			t.Errorf("a write by %s: %v, %v", who, res.Outcome, err)
		}
	}
	refused("the reader", reader)
	for who, s := range map[string]*store{"nobody": as("nobody", "secret"), "the deaf": as("deaf", "secret"), "a stranger": as("all", "guess")} {
		refused(who, s)
		if _, err := s.Get(ctx, driver.GetRequest{Key: "k"}); !errors.Is(err, driver.ErrPermission) {
			t.Errorf("a read by %s: %v", who, err)
		}
		if _, err := s.Scan(ctx, driver.ScanRequest{}); !errors.Is(err, driver.ErrPermission) {
			t.Errorf("a listing by %s: %v", who, err)
		}
	}
}

func TestPasswordIsReplaced(t *testing.T) {
	n := start(t, func(o *server.Options) { o.Authorization = "token" })
	cfg := n.config()
	drivertest.PasswordIsReplaced(t, "token", func(file string) driver.Store {
		cfg.PasswordFile = file
		return open(t, cfg)
	})
}

func TestTLS(t *testing.T) {
	authority, err := certs.NewAuthority(t.TempDir(), "ca")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := authority.Server("server")
	if err != nil {
		t.Fatal(err)
	}
	n := start(t, func(o *server.Options) {
		c, err := server.GenTLSConfig(&server.TLSConfigOpts{CertFile: pair.CertFile, KeyFile: pair.KeyFile})
		if err != nil {
			t.Fatal(err)
		}
		o.TLS, o.TLSConfig = true, c
	})
	cfg := n.config()
	cfg.Servers = []string{"tls://" + n.addr()}
	if _, err := open(t, cfg).Get(t.Context(), driver.GetRequest{Key: "k"}); !driver.IsPermanent(err) {
		t.Errorf("a certificate of nobody known: %v", err)
	}
	cfg.TLS = config.TLS{Enabled: true, CAFile: authority.File()}
	drivertest.Put(t, open(t, cfg), "k", "v")
}
