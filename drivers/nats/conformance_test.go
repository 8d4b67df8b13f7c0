package nats

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	conformance.Run(t, harness())
}

// harness runs every case on a server of its own.
func harness() conformance.Harness {
	h := conformance.Harness{Parallel: 4, Patience: time.Minute} // a guarded write takes the server several files
	h.New = func(t conformance.T) conformance.Store {
		n := start(t, nil)
		openAt := func(addr string, log *slog.Logger) (driver.Store, error) {
			cfg := n.config()
			cfg.Servers = []string{addr}
			return Open(cfg, log)
		}
		inner := conformance.Driver(func(conformance.T) conformance.Opener {
			return func() (driver.Store, error) { return openAt(n.addr(), nil) }
		}).New(t)
		inner.OpenLine = func(c codec.Codec, o kv.Options) (kv.Client, conformance.Line, error) {
			return drivertest.OpenLine(n.addr(), "nats", openAt, c, o)
		}
		inner.Restart = func(context.Context) error { n.down(); return n.up() }
		inner.Compact, inner.Snapshot, inner.Full = n.compact, n.snapshot, n.full
		return inner
	}
	return h.Declared("nats")
}

// admin runs f with a plain client of the server.
func (n *node) admin(f func(jetstream.JetStream) error) error {
	conn, err := nats.Connect(n.ClientURL())
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	return f(js)
}

func (n *node) compact(ctx context.Context) error { return n.compactBucket(ctx, NewConfig().Bucket) }

// compactBucket purges the markers of what was removed, as "nats kv compact" does.
func (n *node) compactBucket(ctx context.Context, name string) error {
	return n.admin(func(js jetstream.JetStream) error {
		bucket, err := js.KeyValue(ctx, name)
		if err != nil {
			return err
		}
		return bucket.PurgeDeletes(ctx, jetstream.DeleteMarkersOlderThan(-1))
	})
}

// full lets the stream of the bucket take no more than it has and a little.
func (n *node) full(ctx context.Context) (drain func(context.Context) error, err error) {
	limit := func(ctx context.Context, room int64) error {
		return n.admin(func(js jetstream.JetStream) error {
			stream, err := js.Stream(ctx, "KV_"+NewConfig().Bucket)
			if err != nil {
				return err
			}
			c := stream.CachedInfo().Config
			if c.MaxBytes = -1; room > 0 {
				c.MaxBytes = int64(stream.CachedInfo().State.Bytes) + room
			}
			_, err = js.UpdateStream(ctx, c)
			return err
		})
	}
	return func(ctx context.Context) error { return limit(ctx, 0) }, limit(ctx, 16<<10)
}

// snapshot copies the folder of a server that is down.
func (n *node) snapshot(context.Context) (restore func(context.Context) error, err error) {
	saved, err := os.MkdirTemp("", "backup")
	if err != nil {
		return nil, err
	}
	copyTo := func(to, from string) error {
		n.down()
		return errors.Join(os.RemoveAll(to), os.CopyFS(to, os.DirFS(from)), n.up())
	}
	return func(context.Context) error {
		return errors.Join(copyTo(n.opts.StoreDir, saved), os.RemoveAll(saved))
	}, copyTo(saved, n.opts.StoreDir)
}
