package codec

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// Bounds of a [Key] and of [Encrypt].
const (
	KeySize        = 32 // bytes of a key's secret
	MaxKeyIDLength = 64 // bytes of a key's id
	MaxKeys        = 64 // keys of one codec
)

// Key is a secret to encrypt with, and the id that values name it by. It prints as its id: no verb of fmt, no encoding
// and no logger shows the secret. [NewKey] makes one; the zero value is none. Keys may be copied and used concurrently.
type Key struct {
	id string

	// Behind pointers, so that not even fmt prints it when it comes across a Key in an unexported field, where it may
	// not call methods.
	material *keyMaterial
}

// keyMaterial is what a secret is used as: one key for each use, as none should have two.
type keyMaterial struct {
	aead  cipher.AEAD
	nonce []byte // the key of the function that makes nonces
}

// NewKey returns the key with the given id and secret. The id is stored in clear with every value: 1 to MaxKeyIDLength
// letters, digits, "_", "-" and ".". The secret is KeySize random bytes, such as `openssl rand 32` gives; a pass phrase
// is none. NewKey keeps no reference to it.
func NewKey(id string, secret []byte) (Key, error) {
	if !isKeyID(id) {
		return Key{}, fmt.Errorf(`codec: NewKey: the id %q is not allowed; it must be 1 to %d letters, digits, "_", "-" and "."`, id, MaxKeyIDLength)
	}
	if len(secret) != KeySize {
		return Key{}, fmt.Errorf("codec: NewKey: the secret of key %q has %d bytes; it must have %d, all random", id, len(secret), KeySize)
	}
	encryption, err := hkdf.Expand(sha256.New, secret, "polykv codec: AES-256-GCM", KeySize)
	if err != nil {
		return Key{}, fmt.Errorf("codec: NewKey: %w", err)
	}
	nonce, err := hkdf.Expand(sha256.New, secret, "polykv codec: nonce", KeySize)
	if err != nil {
		return Key{}, fmt.Errorf("codec: NewKey: %w", err)
	}
	block, err := aes.NewCipher(encryption)
	if err != nil {
		return Key{}, fmt.Errorf("codec: NewKey: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return Key{}, fmt.Errorf("codec: NewKey: %w", err)
	}
	return Key{id, &keyMaterial{aead, nonce}}, nil
}

func isKeyID(id string) bool {
	if len(id) < 1 || len(id) > MaxKeyIDLength {
		return false
	}
	for _, r := range []byte(id) {
		letter := r|0x20 >= 'a' && r|0x20 <= 'z'
		if !letter && (r < '0' || r > '9') && r != '_' && r != '-' && r != '.' {
			return false
		}
	}
	return true
}

// ID returns the id.
func (k Key) ID() string { return k.id }

// String returns the id.
func (k Key) String() string { return k.id }

// Format implements fmt.Formatter: the id for every verb.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.id) } // fmt has nowhere to report an error to

// LogValue implements slog.LogValuer.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.id) }

// MarshalText implements encoding.TextMarshaler: the id.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.id), nil }

// ErrKey says that an encrypted value can't be read with the keys that an [Encrypt] codec has: it names another key, or
// the value or the key is not what was written with. It is to be matched with [errors.Is].
var ErrKey = errors.New("no key fits")

// Encrypt returns a codec that encrypts what inner encodes, with AES-256-GCM. It writes with the first key and reads
// what any of them wrote. A stored value so can't be read, nor changed unnoticed, by who has the store and not the key.
//
// To change keys: give the new one as a second key everywhere, then as the first everywhere, with the old one after it;
// when all values have been written anew, drop the old one.
//
// Equal values give equal bytes, as for every codec here: the nonce is made of the value, by HMAC-SHA-256 under a key of
// its own. So who sees the store can tell that two values are equal, or that one is back to what it was, and how long
// values are. The name under which a value is stored is not part of it: who can write to the store can put an encrypted
// value in the place of another one, or an old one back. Compress inside, not around: encrypted bytes don't compress.
//
// What is stored: the bytes 00 "pke" 01, the length of the key's id in one byte, the id, the nonce in 12 bytes, and the
// encrypted value with its tag of 16 bytes at the end; all before the nonce is authenticated with it. So a value takes
// len(id) + 34 bytes more than inner's.
//
// Its CodecID is inner's followed by "+aes-gcm", whatever the keys. Errors of inner are returned as they are; no error
// tells anything of a key but its id. Encrypt fails without an inner codec or a key, with more than MaxKeys, and with
// two keys of one id.
func Encrypt(inner Codec, keys ...Key) (Codec, error) {
	switch {
	case inner == nil:
		return nil, errors.New("codec: Encrypt needs a codec to encrypt the values of")
	case len(keys) < 1 || len(keys) > MaxKeys:
		return nil, fmt.Errorf("codec: Encrypt: there are %d keys; 1 to %d are allowed", len(keys), MaxKeys)
	}
	e := &encrypted{inner: inner, id: inner.CodecID() + "+aes-gcm", first: keys[0], keys: map[string]Key{}}
	for i, k := range keys {
		switch {
		case k.material == nil:
			return nil, fmt.Errorf("codec: Encrypt: key %d of %d is empty; make it with NewKey", i+1, len(keys))
		case e.keys[k.id].material != nil:
			return nil, fmt.Errorf("codec: Encrypt: two keys have the id %q", k.id)
		}
		e.keys[k.id] = k
	}
	return e, nil
}

// encryptedMark begins every encrypted value. Neither text nor a protocol buffer message begins with a zero byte.
const encryptedMark = "\x00pke\x01"

const (
	gcmNonceSize = 12
	gcmTagSize   = 16
)

type encrypted struct {
	inner Codec
	id    string
	first Key
	keys  map[string]Key
}

func (e *encrypted) CodecID() string { return e.id }

func (e *encrypted) Encode(value any) ([]byte, error) {
	plain, err := e.inner.Encode(value)
	if err != nil {
		return nil, err
	}
	head := len(encryptedMark) + 1 + len(e.first.id)
	data := make([]byte, 0, head+gcmNonceSize+len(plain)+gcmTagSize)
	data = append(data, encryptedMark...)
	data = append(data, byte(len(e.first.id)))
	data = append(data, e.first.id...)
	mac := hmac.New(sha256.New, e.first.material.nonce)
	mac.Write(plain) // never fails
	data = append(data, mac.Sum(nil)[:gcmNonceSize]...)
	return e.first.material.aead.Seal(data, data[head:], plain, data[:head]), nil
}

func (e *encrypted) Decode(data []byte) (any, error) {
	id, head, ok := encryptedWith(data)
	if !ok {
		return nil, decodeError(e.id, "not an encrypted value, or cut off", nil)
	}
	key, known := e.keys[id]
	if !known {
		return nil, decodeError(e.id, fmt.Sprintf("encrypted with the key %q, which this program doesn't have", id), ErrKey)
	}
	plain, err := key.material.aead.Open(nil, data[head:head+gcmNonceSize], data[head+gcmNonceSize:], data[:head])
	if err != nil {
		return nil, decodeError(e.id, fmt.Sprintf("the value was changed since it was encrypted, or the secret of the key %q is another than it was then", id), ErrKey)
	}
	return e.inner.Decode(plain)
}

// encryptedWith returns the id of the key that data is encrypted with, and where its nonce begins.
func encryptedWith(data []byte) (id string, head int, ok bool) {
	rest, ok := bytes.CutPrefix(data, []byte(encryptedMark))
	if !ok || len(rest) == 0 {
		return "", 0, false
	}
	n := int(rest[0])
	head = len(encryptedMark) + 1 + n
	if len(data) < head+gcmNonceSize+gcmTagSize {
		return "", 0, false
	}
	id = string(rest[1 : 1+n])
	return id, head, isKeyID(id)
}

func (e *encrypted) wrote(data []byte) (yes, known bool) {
	return bytes.HasPrefix(data, []byte(encryptedMark)), true
}
