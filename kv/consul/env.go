package consul

import (
	"crypto/x509"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-rootcerts"

	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver/kit"
)

// environment is what Consul's variables say beyond Config.
type environment struct {
	basicAuth *api.HttpBasicAuth
	roots     *x509.CertPool
}

// withEnvironment fills what is empty in c from the variables that Config
// documents. The errors of package config name fields, so what comes from a
// variable is checked here as far as it can be told apart.
func (c Config) withEnvironment() (Config, environment, error) {
	var env environment
	or(&c.Address, api.HTTPAddrEnvName)
	or(&c.Namespace, api.HTTPNamespaceEnvName)
	or(&c.Partition, api.HTTPPartitionEnvName)
	if c.Token.Reveal() == "" {
		or(&c.TokenFile, api.HTTPTokenFileEnvName)
	}
	if c.Token.Reveal() == "" && c.TokenFile == "" {
		c.Token = config.NewSecret(os.Getenv(api.HTTPTokenEnvName))
	}
	if auth := os.Getenv(api.HTTPAuthEnvName); auth != "" {
		user, password, _ := strings.Cut(auth, ":")
		env.basicAuth = &api.HttpBasicAuth{Username: user, Password: password}
	}
	where, err := parseAddresses(c.Address)
	if err != nil {
		return c, env, err
	}
	transport := transportOf(where[0])
	secure, err := envBool(api.HTTPSSLEnvName, false)
	if err != nil {
		return c, env, err
	}
	if secure && transport == kit.AnyTransport {
		c.TLS.Enabled = true
	}
	if c.TLS.Enabled || transport == kit.OverTLS {
		c.TLS.Enabled = true
		err = c.tlsEnvironment(&env)
	}
	return c, env, err
}

func (c *Config) tlsEnvironment(env *environment) error {
	or(&c.TLS.CAFile, api.HTTPCAFile)
	or(&c.TLS.ServerName, api.HTTPTLSServerName)
	if c.TLS.CertFile == "" && c.TLS.KeyFile == "" {
		or(&c.TLS.CertFile, api.HTTPClientCert)
		or(&c.TLS.KeyFile, api.HTTPClientKey)
	}
	verify, err := envBool(api.HTTPSSLVerifyEnvName, true)
	if err != nil {
		return err
	}
	if !verify {
		c.TLS.InsecureSkipVerify = true
	}
	if dir := os.Getenv(api.HTTPCAPath); dir != "" && c.TLS.CAFile == "" {
		if env.roots, err = rootcerts.LoadCAPath(dir); err != nil {
			return fmt.Errorf("%s: %w", api.HTTPCAPath, err)
		}
	}
	return nil
}

func or(field *string, variable string) {
	if *field == "" {
		*field = os.Getenv(variable)
	}
}

func envBool(name string, unset bool) (bool, error) {
	text := os.Getenv(name)
	if text == "" {
		return unset, nil
	}
	value, err := strconv.ParseBool(text)
	if err != nil {
		return false, fmt.Errorf("%s: %q is not allowed; it must be true or false", name, text)
	}
	return value, nil
}
