package network

import (
	"io"
	"testing"
)

// BenchmarkDial opens a stream and closes it, and BenchmarkStream sends a
// message of the layer above to a peer that sends it back; over TCP.

func BenchmarkDial(b *testing.B) {
	benchmarkStreams(b, func(b *testing.B, n node) {
		for b.Loop() {
			conn, err := n.Dial(b.Context(), n.Peers()[0])
			if err != nil {
				b.Fatal(err)
			}
			_ = conn.Close()
		}
	})
}

func BenchmarkStream(b *testing.B) {
	benchmarkStreams(b, func(b *testing.B, n node) {
		conn, err := n.Dial(b.Context(), n.Peers()[0])
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		message := make([]byte, 256<<10)
		back := make([]byte, len(message))
		b.SetBytes(2 * int64(len(message)))
		for b.Loop() {
			go func() { _, _ = conn.Write(message) }()
			if _, err := io.ReadFull(conn, back); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func benchmarkStreams(b *testing.B, run func(*testing.B, node)) {
	for name, keys := range map[string][][]byte{"clear": nil, "sealed": {key(1)}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			run(b, cluster(b, func(name string) Config {
				cfg := testConfig(name)
				cfg.Keys = keys
				cfg.Logger = discard()
				return cfg
			}, 2)[0])
		})
	}
}
