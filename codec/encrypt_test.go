package codec_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/polykv/polykv/codec"
)

func TestNewKeyChecksItsArguments(t *testing.T) {
	for _, id := range []string{"", strings.Repeat("k", codec.MaxKeyIDLength+1), "a b", "a/b", "ä", "a\x00", "@", "[", "`", "{", ":"} {
		if _, err := codec.NewKey(id, testSecret(1)); err == nil || !strings.Contains(err.Error(), "it must be 1 to 64 letters") {
			t.Errorf("the id %q: %v", id, err)
		}
	}
	for _, id := range []string{"a", "z", "A", "Z", "0", "9", "_", "-", ".", strings.Repeat("k", codec.MaxKeyIDLength)} {
		c := mustEncrypt(t, codec.String{}, testKey(t, id, 1))
		if got := mustDecode(t, c, mustEncode(t, c, "v")); got != "v" {
			t.Errorf("the id %q: got %q", id, got)
		}
	}
	for _, size := range []int{0, 16, codec.KeySize - 1, codec.KeySize + 1} {
		_, err := codec.NewKey("k", bytes.Repeat([]byte("S"), size))
		want := fmt.Sprintf(`the secret of key "k" has %d bytes; it must have 32`, size)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "SS") {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestEncryptChecksItsArguments(t *testing.T) {
	key := testKey(t, "k", 1)
	many := make([]codec.Key, codec.MaxKeys+1)
	for i := range many {
		many[i] = testKey(t, fmt.Sprint(i), byte(i))
	}
	for _, test := range []struct {
		inner codec.Codec
		keys  []codec.Key
		want  string
	}{
		{nil, []codec.Key{key}, "needs a codec"},
		{codec.String{}, nil, "there are 0 keys; 1 to 64 are allowed"},
		{codec.String{}, many, "there are 65 keys; 1 to 64 are allowed"},
		{codec.String{}, []codec.Key{key, {}}, "key 2 of 2 is empty; make it with NewKey"},
		{codec.String{}, []codec.Key{key, testKey(t, "k", 2)}, `two keys have the id "k"`},
	} {
		c, err := codec.Encrypt(test.inner, test.keys...)
		if err == nil || c != nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, %v, want %q", c, err, test.want)
		}
	}
	mustEncrypt(t, codec.String{}, many[:codec.MaxKeys]...)
}

// storedForEver is "hunter2" as TestEncryptWritesTheFormat writes it.
const storedForEver = "00706b6501026b3190aeb13600b3adde7490583cb38895a6063a7e83099798ca94bb509f994685c2199b45"

// The stored bytes are those of the format, for whoever reads them with another program.
func TestEncryptWritesTheFormat(t *testing.T) {
	data := mustEncode(t, mustEncrypt(t, codec.String{}, testKey(t, "k1", 1)), "hunter2")
	head := "\x00pke\x01\x02k1"
	if !strings.HasPrefix(string(data), head) || len(data) != len("hunter2")+2+34 {
		t.Fatalf("%d bytes: %q", len(data), data)
	}
	key, err := hkdf.Expand(sha256.New, testSecret(1), "polykv codec: AES-256-GCM", 32)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := aead.Open(nil, data[len(head):len(head)+12], data[len(head)+12:], []byte(head))
	if err != nil || string(plain) != "hunter2" {
		t.Errorf("got %q, %v", plain, err)
	}
	// Values stay readable for ever.
	want, err := hex.DecodeString(storedForEver)
	if err != nil || !bytes.Equal(data, want) {
		t.Errorf("got %x, %v", data, err)
	}
}

func TestEncryptRotation(t *testing.T) {
	oldKey, newKey := testKey(t, "old", 1), testKey(t, "new", 2)
	before := mustEncrypt(t, codec.String{}, oldKey)
	learn := mustEncrypt(t, codec.String{}, oldKey, newKey)
	use := mustEncrypt(t, codec.String{}, newKey, oldKey)
	after := mustEncrypt(t, codec.String{}, newKey)
	for _, pair := range [][2]codec.Codec{{before, learn}, {learn, before}, {learn, use}, {use, learn}, {use, after}, {after, use}} {
		if got := mustDecode(t, pair[1], mustEncode(t, pair[0], "v")); got != "v" {
			t.Errorf("got %q", got)
		}
	}
	_, err := after.Decode(mustEncode(t, before, "hunter2"))
	wantKeyError(t, err, `encrypted with the key "old", which this program doesn't have`)
}

func wantKeyError(t *testing.T, err error, want string) {
	t.Helper()
	var own *codec.Error
	if !errors.Is(err, codec.ErrKey) || !errors.As(err, &own) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "BCDE")) {
		t.Errorf("a secret is in %q", err)
	}
}

func TestEncryptNoticesEveryChange(t *testing.T) {
	c := mustEncrypt(t, codec.String{}, testKey(t, "k1", 1), testKey(t, "j1", 1))
	data := mustEncode(t, c, "hunter2")
	for i := range data {
		for bit := range 8 {
			changed := bytes.Clone(data)
			changed[i] ^= 1 << bit
			if value, err := c.Decode(changed); err == nil {
				t.Fatalf("byte %d, bit %d was changed, and it is read as %q", i, bit, value)
			}
		}
	}
	for n := range data {
		if _, err := c.Decode(data[:n]); err == nil {
			t.Fatalf("%d of %d bytes are read", n, len(data))
		} else if n < len(data)-len("hunter2") && !strings.Contains(err.Error(), "not an encrypted value, or cut off") {
			t.Errorf("%d of %d bytes: %v", n, len(data), err)
		}
	}
	if _, err := c.Decode(append([]byte("\x00pke\x01\x01\n"), make([]byte, 40)...)); err == nil || !strings.Contains(err.Error(), "not an encrypted value") {
		t.Errorf("an id that is none: %v", err)
	}
	_, err := c.Decode(append(bytes.Clone(data), 0))
	wantKeyError(t, err, "the value was changed since it was encrypted, or the secret of the key")

	// The id is authenticated too: the same secret under another id doesn't open it.
	moved := bytes.Replace(data, []byte("k1"), []byte("j1"), 1)
	_, err = c.Decode(moved)
	wantKeyError(t, err, "the value was changed since it was encrypted")

	_, err = mustEncrypt(t, codec.String{}, testKey(t, "k1", 2)).Decode(data)
	wantKeyError(t, err, `or the secret of the key "k1" is another than it was then`)
}

// Equal values give equal bytes, others share neither nonce nor bytes, and keys nothing.
func TestEncryptNonces(t *testing.T) {
	a, b := mustEncrypt(t, codec.Bytes{}, testKey(t, "k", 1)), mustEncrypt(t, codec.Bytes{}, testKey(t, "k", 2))
	seen := map[string]bool{}
	for i := range 256 {
		for _, c := range []codec.Codec{a, b} {
			data := mustEncode(t, c, []byte{byte(i)})
			if !bytes.Equal(data, mustEncode(t, c, []byte{byte(i)})) {
				t.Fatal("the same value gave other bytes")
			}
			nonce := string(data[len("\x00pke\x01\x01k"):][:12])
			if seen[nonce] {
				t.Fatal("a nonce was used for two values")
			}
			seen[nonce] = true
		}
	}
}

func TestEncryptReturnsInnersErrors(t *testing.T) {
	c := mustEncrypt(t, codec.JSON[int]{}, testKey(t, "k", 1))
	if _, err := c.Encode("hunter2"); !errors.Is(err, codec.ErrType) {
		t.Errorf("got %v", err)
	}
	data := mustEncode(t, mustEncrypt(t, codec.String{}, testKey(t, "k", 1)), "no number")
	if _, err := c.Decode(data); err == nil || !strings.HasPrefix(err.Error(), "codec json/int: decode: ") {
		t.Errorf("got %v", err)
	}
}

func TestKeyDoesNotShow(t *testing.T) {
	secret := []byte("hunter2-hunter2-hunter2-hunter2!")
	key, err := codec.NewKey("k1", secret)
	if err != nil {
		t.Fatal(err)
	}
	if key.ID() != "k1" || key.String() != "k1" {
		t.Errorf("the id is %q, %q", key.ID(), key.String())
	}
	before := mustEncode(t, mustEncrypt(t, codec.String{}, key), "v")
	clear(secret)
	if !bytes.Equal(before, mustEncode(t, mustEncrypt(t, codec.String{}, key), "v")) {
		t.Error("the key changed with the slice that it was made of")
	}
	nested := struct{ hidden []codec.Key }{[]codec.Key{key}}
	var printed strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&printed, verb+verb+verb, key, &key, nested)
	}
	if text := fmt.Sprintf("%v %d", key, key); text != "k1 k1" {
		t.Errorf("it is printed as %s, not its id", text)
	}
	slog.New(slog.NewJSONHandler(&printed, nil)).Info("m", "key", key)
	if !strings.Contains(printed.String(), `"key":"k1"`) {
		t.Errorf("it is not logged as its id: %s", printed.String())
	}
	slog.New(slog.NewTextHandler(&printed, nil)).Info("m", "key", nested)
	asJSON, err := json.Marshal(key)
	if err != nil || string(asJSON) != `"k1"` {
		t.Errorf("JSON: %s, %v", asJSON, err)
	}
	if text := printed.String(); strings.Contains(text, "hunter2") || strings.Contains(text, fmt.Sprintf("%x", "hunter2")) || strings.Contains(text, "104 117 110") {
		t.Errorf("the secret shows in %s", text)
	}
}
