package consul_test

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/consul"
)

// A configuration starts from the defaults. Open contacts no server, so a
// program can start before its Consul does.
func ExampleOpen() {
	cfg := consul.DefaultConfig()
	cfg.Address = "https://consul.internal:8501"
	cfg.Token = config.NewSecret("0a1b2c3d-ffff-eeee-dddd-000000000000")
	cfg.Datacenter = "dc1"
	cfg.DialTimeout = 2 * time.Second

	store, err := consul.Open(cfg, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		fmt.Println(err)
		return
	}
	// kv.New(store, codec, nil) makes a client of it, which then owns it.
	defer func() { _ = store.Close() }()

	fmt.Println("token:", cfg.Token)
	fmt.Printf("largest value: %d bytes, with guards %d\n", store.Limits().Value, store.Limits().GuardedValue)
	// Output:
	// token: <redacted>
	// largest value: 524288 bytes, with guards 364287
}

// What is wrong is named as in YAML, with what is allowed.
func ExampleConfig_Validate() {
	cfg := consul.DefaultConfig()
	err := yaml.Unmarshal([]byte(`
address: consul.internal:8500
consistency: eventual
`), &cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(cfg.Validate())
	// Output:
	// consistency: "eventual" is not allowed; it must be consistent, default or stale
}
