// Package nats is a polykv driver over the key-value buckets of NATS JetStream.
// It needs nats-server 2.10 or newer, 2.12 for guards. The command polykv has it
// built in.
//
// # The bucket
//
// All keys live in one bucket, which is a stream with one subject for each key;
// the command nats kv reads and writes the same. The version of an entry is the
// sequence number of its message. Stream sequences never come back, so a key
// that is deleted and created again never has a version that it had before.
//
// A slash in a key separates the tokens of its subject, so that the server finds
// the keys below "a/b/" by itself. Bytes other than letters, digits, "-" and "_"
// are written as "=" and two hexadecimal digits, and an empty token as "=". Names
// in the bucket that are not such encodings are no keys and are not seen.
//
// A removal is a message too, a marker. Where the server can let messages expire
// (2.11), markers go after Config.MarkerTTL.
//
// # What a bucket can't give
//
// Reads are answered by the leader of the stream, out of its memory. A leader
// that was cut off from the other replicas notices it after some seconds, and
// until then answers reads with what it has. Writes need the other replicas and
// are always safe. With one replica there is no such time.
//
// A server tells a write as done when it is in the operating system's memory. To
// survive a power failure of all replicas, let it sync each write
// ("sync_interval: always").
//
// A write with guards is a batch, for which a server with one replica makes files:
// it takes milliseconds, where another write takes a tenth of one.
//
// Whoever purges messages of the stream itself, below the bucket, leaves no
// marker: a watch that is running hears of it when it begins again.
package nats
