package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/polykv/polykv/kv/memberlist"
)

// maxStatus is how many bytes a status page may have.
const maxStatus = 64 << 20

func (a *app) gossipInspectCommand() *cobra.Command {
	var q memberlist.Query
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect [URL]",
		Short: "Show the members, keys and state of a gossip cluster",
		Long: `Inspect shows what the node knows whose status page is at URL. Without URL it takes
part in the cluster itself for a moment, as the flags --memberlist.* say, and shows what
it finds: then it sees the values of plain bytes and strings, and of the codecs named by
--memberlist.keep-values and --memberlist.keep-maps.`,
		Example: `  polykv gossip inspect http://127.0.0.1:7980/
  polykv gossip inspect http://127.0.0.1:7980/ --key config/color
  polykv gossip inspect --memberlist.join node-1:7946 --memberlist.bind-port 0`,
		Args: arguments(0, 1, "one URL at most"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if q.Limit < 1 {
				return usagef("--limit %d: it must be at least 1", q.Limit)
			}
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), a.timeout, os.ErrDeadlineExceeded)
			defer cancel()
			st, err := a.inspect(ctx, args, q)
			if err != nil {
				return a.timedOut(ctx, err)
			}
			if asJSON {
				enc := json.NewEncoder(a.stdout)
				enc.SetIndent("", "  ")
				return enc.Encode(st)
			}
			return printStatus(a.stdout, st)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&q.Prefix, "prefix", "", "list the keys that begin with it")
	fs.StringVar(&q.After, "after", "", "list the keys after this one")
	fs.IntVar(&q.Limit, "limit", 100, "list so many keys")
	fs.StringVar(&q.Key, "key", "", "show the whole value of this key")
	fs.BoolVar(&q.Tombstones, "tombstones", false, "list the newest deletions")
	fs.BoolVar(&asJSON, "json", false, "write everything as JSON")
	return cmd
}

func (a *app) inspect(ctx context.Context, args []string, q memberlist.Query) (memberlist.Status, error) {
	if len(args) == 1 {
		return fetchStatus(ctx, args[0], q)
	}
	cfg, err := a.gossipConfig()
	if err != nil {
		return memberlist.Status{}, err
	}
	if len(cfg.Join) == 0 {
		return memberlist.Status{}, usagef("give the URL of a status page, or --memberlist.join to take part for a moment")
	}
	node, err := memberlist.StartWith(ctx, cfg, memberlist.Options{Logger: a.logger()})
	if err != nil {
		return memberlist.Status{}, err
	}
	if err := node.WaitReady(ctx, 1); err != nil {
		return memberlist.Status{}, errors.Join(err, node.Close())
	}
	return node.Status(q), node.Close()
}

// fetchStatus reads the status page of a node.
func fetchStatus(ctx context.Context, address string, q memberlist.Query) (st memberlist.Status, err error) {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return st, usagef("%q is not the URL of a status page, such as http://127.0.0.1:7980/", address)
	}
	values := u.Query()
	for name, value := range map[string]string{"format": "json", "prefix": q.Prefix, "after": q.After, "key": q.Key, "limit": strconv.Itoa(q.Limit)} {
		if value != "" {
			values.Set(name, value)
		}
	}
	if q.Tombstones {
		values.Set("tombstones", "1")
	}
	u.RawQuery = values.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return st, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment}}
	resp, err := client.Do(req)
	if err != nil {
		return st, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxStatus))
	if err != nil {
		return st, err
	}
	if resp.StatusCode != http.StatusOK {
		return st, fmt.Errorf("%s answers %s: %s", u.Host, resp.Status, strings.TrimSpace(string(body[:min(len(body), 200)])))
	}
	if err := json.Unmarshal(body, &st); err != nil || st.Node.Name == "" {
		return st, fmt.Errorf("%s doesn't answer with the status of a gossip node", u.Host)
	}
	return st, nil
}

// printStatus writes a status for people.
func printStatus(w io.Writer, st memberlist.Status) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(cells ...any) { fmt.Fprintln(t, strings.TrimRight(strings.Join(texts(cells), "\t"), "\t ")) }
	row("node", st.Node.Name)
	row("address", st.Node.Address)
	row("cluster", cmp.Or(st.Node.Label, "no label"))
	row("encrypted", st.Node.Encrypted)
	row("state", cmp.Or(st.Node.Problem, "well"))
	for _, note := range st.Node.Notes {
		row("note", note)
	}
	row("lag", fmt.Sprintf("%v median, %v 99th percentile, of the last %d changes", st.Lag.P50, st.Lag.P99, st.Lag.Changes))
	row()
	row("MEMBER", "ADDRESS", "STATE", "SINCE", "ROUND TRIP")
	for _, m := range st.Members {
		state := m.State
		if m.ByTCP {
			state += " by TCP"
		}
		row(m.Name, m.Address, state, at(m.Since), m.RTT.Round(time.Microsecond))
	}
	row()
	row(fmt.Sprintf("KEY (%d in all)", st.Keys.Total), "CODEC", "BYTES", "WRITTEN", "VALUE")
	for _, k := range st.Keys.Items {
		row(quoted(k.Key), k.Codec, k.Bytes, at(k.Written), short(k))
	}
	if st.Keys.Next != "" {
		row("more: --after " + quoted(st.Keys.Next))
	}
	if len(st.Tombs) > 0 {
		row()
		row(fmt.Sprintf("DELETED (%d in all)", st.TombCount), "CODEC", "DELETED")
	}
	for _, k := range st.Tombs {
		row(quoted(k.Key), k.Codec, at(k.Deleted))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if st.Key == nil {
		return nil
	}
	fmt.Fprintf(w, "\n%s", quoted(st.Key.Key))
	if st.Key.Version != "" {
		fmt.Fprintf(w, ", version %s", st.Key.Version)
	}
	fmt.Fprintln(w, ":")
	for line := range strings.Lines(cmp.Or(string(st.Key.Value), st.Key.Problem)) {
		if _, err := fmt.Fprintln(w, printable(strings.TrimRight(line, "\n"))); err != nil {
			return err
		}
	}
	return nil
}

func texts(cells []any) []string {
	all := make([]string, len(cells))
	for i, c := range cells {
		all[i] = printable(fmt.Sprint(c))
	}
	return all
}

// printable keeps what others wrote from controlling the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return '�'
	}, s)
}

// quoted is a key, in quotes if it could be taken for something else.
func quoted(key string) string {
	if q := strconv.Quote(key); strings.ContainsAny(key, " \t") || q != `"`+key+`"` {
		return q
	}
	return key
}

func at(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }

// short is the beginning of a value.
func short(k memberlist.KeyStatus) string {
	text := []rune(string(k.Value))
	switch {
	case k.Problem != "":
		return k.Problem
	case len(text) == 0:
		return "(large: --key)"
	case len(text) > 60:
		return string(text[:60]) + "…"
	}
	return string(text)
}
