package memberlist

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/polykv/polykv/kv/memberlist/internal/network"
)

// maxKeysFile is how many bytes a file of keys may have.
const maxKeysFile = 64 << 10

// keysInterval is how often a file of keys is looked at.
const keysInterval = 5 * time.Second

// security returns labels and keys; its error begins with the field's name.
func (c Config) security() (network.Security, error) {
	s := network.Security{
		Label: c.ClusterLabel, AcceptLabels: c.AcceptClusterLabels,
		AcceptPlaintext: c.AcceptPlaintext, SendPlaintext: c.SendPlaintext,
	}
	var err error
	if c.EncryptionKeysFile != "" {
		if s.Keys, err = readKeys(c.EncryptionKeysFile); err != nil {
			return s, fmt.Errorf("encryption_keys_file: %w", err)
		}
		return s, nil
	}
	if s.Keys, err = parseKeys(c.EncryptionKeys.Reveal()); err != nil {
		return s, fmt.Errorf("encryption_keys: %w", err)
	}
	return s, nil
}

func readKeys(path string) ([][]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxKeysFile {
		return nil, fmt.Errorf("%s has %d bytes; at most %d are allowed", path, info.Size(), maxKeysFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	keys, err := parseKeys(string(text))
	if err == nil && len(keys) == 0 {
		err = errors.New("there is no key in it")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}

// parseKeys reads keys in base64. Its errors show none of them.
func parseKeys(text string) ([][]byte, error) {
	var keys [][]byte
	for i, field := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) }) {
		key, err := base64.StdEncoding.DecodeString(field)
		if err != nil {
			return nil, fmt.Errorf("key %d is not base64", i+1)
		}
		if n := len(key); n != 16 && n != 24 && n != 32 {
			return nil, fmt.Errorf("key %d has %d bytes; 16, 24 and 32 are allowed", i+1, n)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// SetEncryptionKeys replaces the keys at once, in base64 as in
// [Config].EncryptionKeys, without an interruption: the first one encrypts, all
// decrypt. An error means that nothing changed. To exchange a key, give all
// nodes old and new, then new and old, then the new one alone. Keys that were
// read from a file are replaced again when the file changes.
func (n *Node) SetEncryptionKeys(keys ...string) error {
	parsed, err := parseKeys(strings.Join(keys, ","))
	if err == nil && len(parsed) == 0 { // as of a variable that isn't set
		err = errors.New("there is none; at least one is required")
	}
	if err != nil {
		return fmt.Errorf("memberlist: encryption keys: %w", err)
	}
	s := network.Security{
		Label: n.cfg.ClusterLabel, AcceptLabels: n.cfg.AcceptClusterLabels, Keys: parsed,
		AcceptPlaintext: n.cfg.AcceptPlaintext, SendPlaintext: n.cfg.SendPlaintext,
	}
	if err := n.net.SetSecurity(s); err != nil {
		return fmt.Errorf("memberlist: encryption keys: %w", err)
	}
	return nil
}

// watchKeys reads the file of keys again when it changes; last is what it had. While
// it can't be read, as in the middle of its replacement, the last keys stay.
func (n *Node) watchKeys(ctx context.Context, last network.Security, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	failed := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, err := n.cfg.security()
		if err == nil && !slices.EqualFunc(now.Keys, last.Keys, bytes.Equal) {
			if err = n.net.SetSecurity(now); err == nil {
				last = now
				n.logger.Info("gossip: the encryption keys were read again", slog.String("file", n.cfg.EncryptionKeysFile))
			}
		}
		if err != nil && !failed {
			n.logger.Warn("gossip: the file of encryption keys can't be read; the last keys stay in use", "error", err)
		}
		failed = err != nil
	}
}
