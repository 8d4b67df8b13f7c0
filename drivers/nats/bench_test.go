package nats

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/kv"
)

// BenchmarkCAS compares calls with what nats.go itself does: an Update and a Get of
// its own bucket. Calls on one key share messages.
func BenchmarkCAS(b *testing.B) {
	n := start(b, nil)
	ctx := context.Background()
	conn, err := nats.Connect(n.ClientURL())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		b.Fatal(err)
	}
	raw, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "raw"})
	if err != nil {
		b.Fatal(err)
	}
	revision, err := raw.Create(ctx, "k", []byte("value"))
	if err != nil {
		b.Fatal(err)
	}
	s, err := Open(n.config(), nil)
	if err != nil {
		b.Fatal(err)
	}
	client := kv.New(s, codec.String{}, nil)
	defer func() {
		if err := client.Close(); err != nil {
			b.Error(err)
		}
	}()
	cas := func() error {
		return client.CAS(ctx, "k", func(any) (any, bool, error) { return "value", false, nil })
	}
	for name, call := range map[string]func() error{
		"cas/nats.go": func() (err error) {
			revision, err = raw.Update(ctx, "k", []byte("value"), revision)
			return err
		},
		"cas/alone": cas,
		"get/nats.go": func() error {
			_, err := raw.Get(ctx, "k")
			return err
		},
		"get/alone": func() error {
			_, err := client.Get(ctx, "k")
			return err
		},
	} {
		if err := call(); err != nil { // which opens the connection
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) { drivertest.InTurn(b, call) })
	}
	b.Run("cas/together", func(b *testing.B) { drivertest.AtOnce(b, cas) })
}
