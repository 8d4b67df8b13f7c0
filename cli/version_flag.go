package cli

import (
	"context"
	"errors"
	"strconv"

	"github.com/spf13/pflag"

	"github.com/polykv/polykv/kv"
)

// versionFlag is the flag --if-version.
type versionFlag struct {
	version kv.Version
	given   bool
}

func (v *versionFlag) addFlag(fs *pflag.FlagSet, usage string) {
	fs.Func("if-version", usage, func(text string) error {
		number, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return errors.New("it must be a whole number, as get --output json shows it")
		}
		v.version, v.given = kv.Version(number), true
		return nil
	})
}

// swap writes or removes a key that is at a version.
func (a *app) swap(ctx context.Context, client kv.Client, key string, version kv.Version, value any) error {
	versioned, err := a.versioned(client)
	if err == nil {
		_, err = versioned.SwapVersion(ctx, key, version, value)
	}
	switch {
	case errors.Is(err, kv.ErrNotSupported):
		return usagef("--if-version: this store has no versions that another command could have read: %w", err)
	case errors.Is(err, kv.ErrConflict) && version == 0:
		return negative("the key %q exists: nothing was done", key)
	case errors.Is(err, kv.ErrConflict):
		return negative("the key %q is not at version %d: nothing was done", key, version)
	}
	return err
}

// versioned is kv.Versioned where versions mean something to other processes:
// those of gossip are each node's own.
func (a *app) versioned(client kv.Client) (kv.VersionedClient, error) {
	if a.node != nil {
		return nil, kv.ErrNotSupported
	}
	return kv.Versioned(client)
}
