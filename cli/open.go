package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/factory"
)

// fallbackDialTimeout is for backends that have no opinion.
const fallbackDialTimeout = 5 * time.Second

// load reads the configuration file, if there is one, and the environment.
// Flags win over both, and the environment over the file.
func (a *app) load() error {
	if err := a.loadOwnEnv(); err != nil {
		return err
	}
	if a.timeout <= 0 {
		return usagef("--timeout %v: it must be more than 0", a.timeout)
	}
	if a.configSection != "" && a.configFile == "" {
		return usagef("--config-section says where in a file to look: give --config too")
	}
	if a.configFile != "" {
		if err := a.config.LoadFileSection(a.configFile, a.configSection); err != nil {
			return usagef("--config: %w", err)
		}
	}
	return usage(a.config.LoadEnv(envPrefix))
}

// loadOwnEnv is for the flags that are not the configuration's.
func (a *app) loadOwnEnv() error {
	for _, flag := range []string{"config", "config-section", "timeout"} {
		name := envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
		value := os.Getenv(name)
		f := a.ownFlags.Lookup(flag)
		if value == "" || f.Changed {
			continue
		}
		if err := f.Value.Set(value); err != nil {
			return usagef("the environment variable %s: %w", name, err)
		}
	}
	return nil
}

// client opens the client that the configuration says, for values that are
// plain bytes, and finds out at once whether its store answers.
func (a *app) client(ctx context.Context) (kv.Client, error) {
	client, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	// A user may be allowed the command's key and not the one that is pinged.
	if err := a.reach(ctx, client); err != nil && !errors.Is(err, kv.ErrPermission) {
		return nil, errors.Join(err, client.Close())
	}
	if err := a.needPeers(); err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return client, nil
}

// open is client that leaves open whether the store answers.
func (a *app) open(ctx context.Context) (kv.Client, error) {
	if err := a.load(); err != nil {
		return nil, err
	}
	if a.config.Backend == "" {
		return nil, usagef(`no backend chosen: give --backend, or --config with a file that says "backend"; choose one of: %s`, a.drivers)
	}
	if err := a.config.Validate(); err != nil {
		return nil, usage(a.hintRoot(err))
	}
	deps := factory.Deps{Logger: a.logger(), Observer: a.skipped}
	if err := a.startNode(ctx); err != nil {
		return nil, err
	}
	deps.Memberlist = a.node
	client, err := factory.New(ctx, a.config, codec.Bytes{}, deps)
	if err != nil {
		return nil, errors.Join(err, a.closeNode())
	}
	if a.config.Backend == "inmemory" {
		fmt.Fprintln(a.stderr, "polykv: note: the backend inmemory begins empty and ends with this command; for keys that stay, choose another")
	}
	if a.node != nil {
		return withNode{kv.Forward{Client: client}, a.node}, nil
	}
	return client, nil
}

// reach returns an error that says what to check if the store doesn't answer
// within its dial timeout.
func (a *app) reach(ctx context.Context, client kv.Client) error {
	limit := a.config.Target().DialTimeout
	if limit <= 0 {
		limit = fallbackDialTimeout
	}
	// A little less than the backend waits itself, which then says with less
	// clarity that it closed a connection.
	pinging, cancel := context.WithTimeout(ctx, limit-limit/20)
	defer cancel()
	err := kv.Ping(pinging, client)
	switch {
	case err == nil, errors.Is(err, kv.ErrNotSupported):
		return nil
	case ctx.Err() != nil:
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return a.explain(fmt.Errorf("no answer within %v", limit))
	default:
		return a.explain(err)
	}
}

// explainTrouble is explain for those errors of an operation that checking the
// configuration may help with; others stay as they are.
func (a *app) explainTrouble(err error) error {
	if errors.Is(err, kv.ErrPermission) || errors.Is(err, kv.ErrUnavailable) {
		return a.explain(err)
	}
	return err
}

// explain adds to an error of the store where that is and what to check.
func (a *app) explain(err error) error {
	where, flags := a.store(), cmp.Or(a.section, "--"+a.config.Backend)
	text := a.reason(err)
	switch {
	case errors.Is(err, kv.ErrPermission):
		return because(err, "%s: %s; check the credentials in %s.* and what they are allowed", where, text, flags)
	case isTLS(err):
		return because(err, "can't reach %s: %s; check the certificates and TLS settings in %s.tls.*", where, text, flags)
	default:
		return because(err, "can't reach %s: %s; check that it runs there, and the address and TLS settings in %s.*", where, text, flags)
	}
}

// isTLS reports whether err is about certificates or the like.
func isTLS(err error) bool {
	if err == nil {
		return false
	}
	text := err.Error()
	return strings.Contains(text, "x509: ") || strings.Contains(text, "tls: ") || strings.Contains(text, "handshake")
}

// because is an error with a text of its own that still matches err.
func because(err error, format string, args ...any) error {
	return restated{fmt.Sprintf(format, args...), err}
}

type restated struct {
	text string
	err  error
}

func (r restated) Error() string { return r.text }
func (r restated) Unwrap() error { return r.err }

// reason is err's text without what explain says better.
func (a *app) reason(err error) string {
	var e *kv.Error
	if errors.As(err, &e) {
		err = e.Err
	}
	text := strings.TrimPrefix(err.Error(), kv.ErrUnavailable.Error()+": ")
	text = strings.TrimPrefix(text, a.config.Target().Address+": ")
	text = strings.Replace(text, "Error while dialing: ", "", 1) // gRPC's words for the same
	return text
}

// once runs a command that makes one request: with the time limit, and with
// the store's errors explained.
func (a *app) once(ctx context.Context, do func(context.Context, kv.Client) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, a.timeout, os.ErrDeadlineExceeded)
	defer cancel()
	client, err := a.client(ctx)
	if err != nil {
		return a.timedOut(ctx, err)
	}
	err = a.explainTrouble(do(ctx, client))
	a.noteSkipped()
	return errors.Join(a.timedOut(ctx, err), client.Close())
}

// timedOut says so if err comes from --timeout.
func (a *app) timedOut(ctx context.Context, err error) error {
	if err != nil && errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
		return fmt.Errorf("gave up after --timeout %v: %w", a.timeout, err)
	}
	return err
}
