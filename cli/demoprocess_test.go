package cli

import (
	"encoding/json"
	"slices"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/factory"
)

// TestSecretsReachTheProcess: beside a configuration that doesn't show them.
func TestSecretsReachTheProcess(t *testing.T) {
	c := factory.NewConfig()
	c.Backend = "multi"
	c.Multi.Primary.Backend, c.Multi.Secondary.Backend = "etcd", "consul"
	c.Multi.Primary.Etcd.Username = "somebody"
	c.Multi.Primary.Etcd.Password, c.Multi.Secondary.Consul.Token = config.NewSecret("one"), config.NewSecret("two")
	c.Multi.Secondary.Consul.Proxy = config.NewSecret("http://user:three@127.0.0.1:3128")
	reveal := func(c *factory.Config) (texts []string) {
		for _, secret := range stageSecrets(c) {
			texts = append(texts, secret.Reveal())
		}
		return texts
	}
	want := []string{"one", "two", "http://user:three@127.0.0.1:3128"}
	if got := reveal(c); !slices.Equal(got, want) {
		t.Fatalf("found %q", got)
	}
	text, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	a := &app{drivers: factory.Builtin(), stderr: t.Output()}
	for _, secrets := range [][]string{want, nil} {
		message, err := json.Marshal(clientSetup{YAML: text, Secrets: secrets})
		if err != nil {
			t.Fatal(err)
		}
		client, err := a.openSetup(t.Context(), message, kv.NopObserver{})
		if (err == nil) != (secrets != nil) {
			t.Errorf("with the secrets %q: %v", secrets, err)
		}
		if err == nil {
			_ = client.Close()
		}
	}
}
