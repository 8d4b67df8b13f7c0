package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/polykv/polykv/cli/internal/remote"
	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/factory"
)

// demoClientName is the command that a process of a demo's client runs.
const demoClientName = "demo-client"

// demoClientCommand is for openProcess alone. It is told what to do on stdin,
// and ends when that ends, so that it never outlives the demo. A signal, which
// a terminal sends to both, is the demo's to obey: it needs its clients to
// verify and clean up.
func (a *app) demoClientCommand() *cobra.Command {
	return &cobra.Command{
		Use:    demoClientName,
		Short:  `Serve "polykv demo --processes" as one of its clients`,
		Hidden: true,
		Args:   arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return remote.Serve(context.WithoutCancel(cmd.Context()), a.stdin, a.stdout, a.openSetup)
		},
	}
}

// clientSetup is the configuration of a demo's client on its way to a process. It
// goes there by a pipe, because arguments and environments are seen by others.
type clientSetup struct {
	YAML    []byte   `json:"yaml"` // without its secrets
	Secrets []string `json:"secrets"`
	Verbose int      `json:"verbose"`
}

// openProcess is open in a process of its own.
func (s *stage) openProcess(ctx context.Context, observer kv.Observer) (kv.Client, error) {
	text, err := yaml.Marshal(s.config)
	if err != nil {
		return nil, fmt.Errorf("write the configuration for another process: %w", err)
	}
	t := clientSetup{YAML: text, Verbose: s.app.verbose}
	for _, secret := range stageSecrets(s.config) {
		t.Secrets = append(t.Secrets, secret.Reveal())
	}
	message, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("write the configuration for another process: %w", err)
	}
	process, err := remote.Start(s.app.stderr, demoClientName)
	if err != nil {
		return nil, err
	}
	return remote.Open(ctx, process, message, observer)
}

// openSetup opens the client that openProcess of the parent asked for.
func (a *app) openSetup(ctx context.Context, message []byte, observer kv.Observer) (kv.Client, error) {
	var t clientSetup
	if err := json.Unmarshal(message, &t); err != nil {
		return nil, fmt.Errorf("the configuration: %w", err)
	}
	c := a.drivers.NewConfig()
	literal := bytes.ReplaceAll(t.YAML, []byte("${"), []byte("$${")) // what the demo read is not to be expanded again
	if err := c.Load(bytes.NewReader(literal)); err != nil {
		return nil, fmt.Errorf("the configuration: %w", err)
	}
	secrets := stageSecrets(c)
	if len(secrets) != len(t.Secrets) {
		return nil, fmt.Errorf("the configuration has %d secrets, and %d came", len(secrets), len(t.Secrets))
	}
	for i, secret := range secrets {
		*secret = config.NewSecret(t.Secrets[i])
	}
	a.verbose = t.Verbose
	return factory.New(ctx, c, codec.String{}, factory.Deps{Logger: a.logger(), Observer: observer})
}

// stageSecrets finds the secrets of the two chosen backends, which YAML leaves
// out, always in the same order.
func stageSecrets(c *factory.Config) (found []*config.Secret) {
	for _, side := range []*factory.Config{c.Multi.Primary, c.Multi.Secondary} {
		if side != nil {
			found = append(found, secretsIn(reflect.ValueOf(side.Section(side.Backend)))...)
		}
	}
	return found
}

// secretsIn finds what a pointer leads to, through exported fields.
func secretsIn(v reflect.Value) (found []*config.Secret) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if secret, ok := v.Interface().(*config.Secret); ok && secret != nil {
			return []*config.Secret{secret}
		}
		if !v.IsNil() {
			return secretsIn(v.Elem())
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[config.Secret]() && v.CanAddr() {
			return secretsIn(v.Addr())
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				found = append(found, secretsIn(v.Field(i))...)
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			found = append(found, secretsIn(v.Index(i))...)
		}
	}
	return found
}
