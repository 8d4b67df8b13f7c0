package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/polykv/polykv/kv"
)

func (a *app) watchCommand() *cobra.Command {
	var byPrefix bool
	var count int
	cmd := &cobra.Command{
		Use:   "watch {KEY | --by-prefix [PREFIX]}",
		Short: "Follow a key or a prefix, one JSON line per event",
		Long: `Watch writes the current value of KEY, or of every key that begins with PREFIX, and
then each change, until it is interrupted; the exit code is then 0. Each event is
one line with a JSON object. If the server isn't there yet, watch says so on stderr and
waits for it.

  {"type":"put","key":"config/color","value":"green"}
  {"type":"put","key":"images/logo","value_base64":"iVBORw0="}   (not UTF-8)
  {"type":"delete","key":"config/color"}
  {"type":"synced"}                        (all that existed has been written)
  {"type":"interrupted","error":"..."}     (the store is lost; synced follows)`,
		Example: `  polykv --config polykv.yaml watch config/color
  polykv --config polykv.yaml watch --by-prefix config/ | jq -r .key
  polykv --config polykv.yaml watch --count 1 job/done`,
		Args: arguments(0, 1, "a key, or --by-prefix and one prefix at most"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var r kv.Range
			switch {
			case byPrefix:
				r = kv.PrefixRange(append(args, "")[0])
			case len(args) == 1:
				if err := a.checkKey(args[0]); err != nil {
					return err
				}
				r = kv.KeyRange(args[0])
			default:
				return usagef("watch needs a key, or --by-prefix to watch all that begin with a prefix")
			}
			if count < 0 {
				return usagef("--count %d: it must not be negative", count)
			}
			return a.watch(cmd.Context(), r, count)
		},
	}
	cmd.Flags().BoolVarP(&byPrefix, "by-prefix", "p", false, "watch every key that begins with PREFIX; without PREFIX all keys")
	cmd.Flags().IntVar(&count, "count", 0, "end after so many puts and deletes; 0: go on")
	return cmd
}

// watch writes events until it has written count puts and deletes, if count is
// not 0, or ctx ends.
func (a *app) watch(ctx context.Context, r kv.Range, count int) error {
	ctx, end := a.whileRead(ctx)
	defer end()
	client, err := a.open(ctx)
	if err != nil {
		return err
	}
	if err := a.mayWatch(ctx, client, r); err != nil {
		return errors.Join(err, client.Close())
	}
	written, noted, failed := 0, false, error(nil)
	err = kv.Watch(ctx, client, r, func(e kv.Event) bool {
		if failed = writeJSON(a.stdout, eventRecord(e)); failed != nil {
			return false
		}
		switch e.Type {
		case kv.Put, kv.Delete:
			written++
		case kv.Synced:
			if !noted {
				noted = true
				a.noteSkipped()
				a.noteUnreadable()
			}
		}
		return count == 0 || written < count
	})
	return errors.Join(followed(ctx, err), failed, client.Close())
}

// mayWatch returns an error if the store forbids reading the range, which a
// watch would go on trying, or is one that is never reached. It says so if the
// store doesn't answer yet.
func (a *app) mayWatch(ctx context.Context, client kv.Client, r kv.Range) error {
	err := a.needPeers()
	if err == nil {
		err = a.reach(ctx, client)
	}
	if isTLS(err) {
		return err // which doesn't pass
	}
	if err != nil && !errors.Is(err, kv.ErrPermission) {
		fmt.Fprintf(a.stderr, "polykv: note: waiting: %s\n", oneLine(err))
		return ctx.Err()
	}
	if !r.IsPrefix {
		_, err = client.Get(ctx, r.Key)
	} else {
		for _, err = range kv.Entries(ctx, client, r.Key) {
			break // the first page tells
		}
	}
	if errors.Is(err, kv.ErrPermission) {
		return a.explain(err)
	}
	return nil
}

func eventRecord(e kv.Event) record {
	r := record{Type: e.Type.String(), Key: e.Key}
	if e.Type == kv.Put {
		r = withValue(r, e.Value)
	}
	if e.Err != nil {
		r.Error = e.Err.Error()
	}
	return r
}
