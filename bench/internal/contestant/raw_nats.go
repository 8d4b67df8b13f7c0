package contestant

import (
	"context"
	"errors"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/polykv/polykv/bench/workload"
)

// rawNATS is a bucket of nats.go, in which dots divide keys.
type rawNATS struct {
	jetstream.KeyValue
	conn *nats.Conn
}

func openRawNATS(t workload.Target) (rawClient, error) {
	conn, err := nats.Connect(t.Endpoints[0])
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, err
	}
	bucket, err := js.CreateOrUpdateKeyValue(context.Background(), jetstream.KeyValueConfig{Bucket: "raw"})
	return &rawNATS{bucket, conn}, err
}

func (c *rawNATS) Close() error {
	c.conn.Close()
	return nil
}

var dots, slashes = strings.NewReplacer("/", "."), strings.NewReplacer(".", "/")

// List implements workload.Client.
func (c *rawNATS) List(ctx context.Context, prefix string) (keys []string, err error) {
	found, err := c.ListKeysFiltered(ctx, dots.Replace(prefix)+">")
	if err != nil {
		return nil, err
	}
	for key := range found.Keys() {
		keys = append(keys, slashes.Replace(key))
	}
	return keys, nil
}

func (c *rawNATS) read(ctx context.Context, key string) (state, error) {
	e, err := c.Get(ctx, dots.Replace(key))
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return state{}, nil
	case err != nil:
		return state{}, err
	}
	return state{string(e.Value()), e.Revision()}, nil
}

func (c *rawNATS) swap(ctx context.Context, key, value string, version uint64) (state, bool, error) {
	revision, err := c.Update(ctx, dots.Replace(key), []byte(value), version)
	var refused jetstream.JetStreamError
	if errors.As(err, &refused) { // all of them: what is wrong otherwise is so for a read, too
		now, err := c.read(ctx, key)
		return now, false, err
	}
	return state{value, revision}, true, err
}

// watch is of a key only.
func (c *rawNATS) watch(ctx context.Context, key string, _ bool, f func(string, any) bool) {
	w, err := c.Watch(ctx, dots.Replace(key))
	if err != nil {
		return
	}
	for e := range w.Updates() {
		if e != nil && !f(key, string(e.Value())) { // nil: what was there is told
			break
		}
	}
	_ = w.Stop() // it fails where the connection did
}
