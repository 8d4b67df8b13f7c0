package config_test

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/polykv/polykv/kv/config"
)

func ExampleSecret() {
	var c struct {
		User     string        `yaml:"user"`
		Password config.Secret `yaml:"password"`
	}
	if err := yaml.Unmarshal([]byte("user: app\npassword: hunter2"), &c); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%+v\n", c)
	printed, _ := yaml.Marshal(c)
	fmt.Print(string(printed))

	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: withoutTime}))
	log.Info("connecting", "user", c.User, "password", c.Password)

	fmt.Println(len(c.Password.Reveal()))
	// Output:
	// {User:app Password:<redacted>}
	// user: app
	// password: <redacted>
	// level=INFO msg=connecting user=app password=<redacted>
	// 7
}

func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

func ExampleTLS() {
	var c config.TLS
	flags := pflag.NewFlagSet("example", pflag.ContinueOnError)
	c.RegisterFlags(flags, "etcd.")
	if err := flags.Parse([]string{"--etcd.tls.enabled", "--etcd.tls.ca-file=/nowhere/ca.pem"}); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(c.Validate("etcd.tls"))
	// Output:
	// etcd.tls.ca_file: open /nowhere/ca.pem: no such file or directory; it must be a PEM file that this process may read
}

func ExampleTLS_Load() {
	tlsConfig, err := config.TLS{Enabled: true, ServerName: "etcd.example.com", MinVersion: "1.3"}.Load()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(tlsConfig.ServerName)
	// Output: etcd.example.com
}
