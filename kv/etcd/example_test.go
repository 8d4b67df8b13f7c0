package etcd_test

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/etcd"
)

// A configuration starts from the defaults. Open contacts no server, so a
// program can start before its etcd does.
func ExampleOpen() {
	cfg := etcd.DefaultConfig()
	cfg.Endpoints = []string{"https://etcd-0.internal:2379", "https://etcd-1.internal:2379", "https://etcd-2.internal:2379"}
	cfg.Username = "app"
	cfg.Password = config.NewSecret("correct horse battery staple")
	cfg.DialTimeout = 2 * time.Second

	store, err := etcd.Open(cfg, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		fmt.Println(err)
		return
	}
	// kv.New(store, codec, nil) makes a client of it, which then owns it.
	defer func() { _ = store.Close() }()

	fmt.Println("password:", cfg.Password)
	fmt.Println("largest value:", store.Limits().Value, "bytes")
	// Output:
	// password: <redacted>
	// largest value: 1571191 bytes
}

// What is wrong is named as in YAML, with what is allowed.
func ExampleConfig_Validate() {
	cfg := etcd.DefaultConfig()
	err := yaml.Unmarshal([]byte(`
endpoints: [etcd-0.internal]
dial_timeout: 2s
`), &cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(cfg.Validate())
	// Output:
	// endpoints[0]: "etcd-0.internal" is not an address; write host:port, http://host:port, https://host:port, unix:///path, unixs:///path or dnssrv+name
}
