package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/factory"
)

// noteSkipped says on stderr what the client left out, since it breaks the rules
// for keys, so that a store never looks empty that isn't.
func (a *app) noteSkipped() {
	keys, more := a.skipped.Keys()
	count := fmt.Sprint(len(keys), " keys of the store are")
	switch {
	case len(keys) == 0:
		return
	case more:
		count = "more than " + count
	case len(keys) == 1:
		count = "1 key of the store is"
	}
	fmt.Fprintf(a.stderr, "polykv: note: %s left out, which polykv's rules for keys forbid; one is %q%s\n", count, keys[0], a.rootFor(keys[0]))
}

// rootFlag is the flag for the bytes before every key that belong to a store's
// address.
const rootFlag = "etcd.root"

// rootFor returns what to do about a key that begins with "/", for a message;
// nothing if there is nothing to do.
func (a *app) rootFor(key string) string {
	below, ok := strings.CutPrefix(key, "/")
	if !ok || a.config.Backend != "etcd" || a.ownFlags.Lookup(rootFlag) == nil {
		return ""
	}
	root := "/"
	if folder, _, inFolder := strings.Cut(below, "/"); inFolder && folder != "" {
		root += folder + "/"
	}
	return fmt.Sprintf("; with --%s %s the keys below that are shown without it", rootFlag, root)
}

// checkKey checks a key that the user gave.
func (a *app) checkKey(key string) error {
	err := kv.CheckKey(key)
	onEtcd := a.config.Backend == "etcd" || a.config.Backend == "" // which a file may say, that is not read yet
	if err != nil && strings.HasPrefix(key, "/") && onEtcd && a.ownFlags.Lookup(rootFlag) != nil {
		return fmt.Errorf("%w; what keys in etcd begin with goes to --%s, as in --%s /app/ and the key x for /app/x", err, rootFlag, rootFlag)
	}
	return err
}

// hintRoot adds to an error about a prefix "/app/" where such a thing goes.
func (a *app) hintRoot(err error) error {
	var field *factory.FieldError
	if errors.As(err, &field) && field.Field == "prefix" && strings.HasPrefix(a.config.Prefix, "/") {
		if hint := a.rootFor(a.config.Prefix); hint != "" {
			return fmt.Errorf("%w%s", err, hint)
		}
	}
	return err
}
