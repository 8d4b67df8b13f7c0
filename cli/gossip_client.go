package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/memberlist"
)

// withNode is a client that closes its gossip node.
type withNode struct {
	kv.Forward
	node *memberlist.Node
}

// Close closes the client and its node, which hands on what no other has yet.
func (w withNode) Close() error { return errors.Join(w.Forward.Close(), w.node.Close()) }

// startNode starts a gossip node if the backend is gossip: a command is a
// member of the cluster for as long as it runs.
func (a *app) startNode(ctx context.Context) error {
	cfg, ok := a.config.Section("memberlist").(*memberlist.Config)
	if a.config.Backend != "memberlist" || !ok {
		return nil
	}
	node, err := memberlist.StartWith(ctx, *cfg, memberlist.Options{Logger: a.logger()}, codec.Bytes{})
	if err != nil {
		return err
	}
	a.node = node
	waiting, cancel := context.WithTimeout(ctx, cfg.ReadyTimeout)
	defer cancel()
	if err := node.WaitReady(waiting, 0); err != nil && ctx.Err() != nil {
		return errors.Join(err, a.closeNode())
	}
	return nil
}

func (a *app) closeNode() error {
	if a.node == nil {
		return nil
	}
	return a.node.Close()
}

// needPeers returns an error if a gossip node is alone: then there is nothing
// to read, and what is written ends with the command.
func (a *app) needPeers() error {
	if a.node == nil || len(a.node.Peers()) > 0 {
		return nil
	}
	return fmt.Errorf("no other node of the gossip cluster is reached, so there is nothing to read, and what is written would be gone with this command; "+
		"give %[1]s.join with the addresses of nodes that run, and the same %[1]s.cluster-label and keys as theirs", cmp.Or(a.section, "--memberlist"))
}

// unreadable names the codecs of values that the cluster has and this command
// can't read; empty if there are none.
func (a *app) unreadable() string {
	if a.node == nil {
		return ""
	}
	ids := a.node.MissingCodecs()
	for i, id := range ids {
		ids[i] = fmt.Sprintf("%q", id)
	}
	slices.Sort(ids)
	return strings.Join(ids, ", ")
}

// noteUnreadable says on stderr what a listing lacks.
func (a *app) noteUnreadable() {
	if ids := a.unreadable(); ids != "" {
		fmt.Fprintf(a.stderr, "polykv: note: the cluster has more keys, with values of the codecs %s, which this command can't read and leaves out; "+
			"with --memberlist.keep-values (or, for maps, --memberlist.keep-maps) and these ids their keys are shown\n", ids)
	}
}

// absent is the answer about a key that this command doesn't see.
func (a *app) absent(key string) error {
	if ids := a.unreadable(); ids != "" {
		return fmt.Errorf("the key %q is not among those that this command can read; it may hold a value of the codecs %s, which the cluster has too: "+
			"name them by --memberlist.keep-values or --memberlist.keep-maps, or ask a node of the program by polykv gossip inspect", key, ids)
	}
	return negative("the key %q is absent", key)
}
