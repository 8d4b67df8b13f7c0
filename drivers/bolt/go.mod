module github.com/polykv/polykv/drivers/bolt

go 1.25.0

require (
	github.com/polykv/polykv v0.1.0
	github.com/spf13/pflag v1.0.6
	go.etcd.io/bbolt v1.4.0
	go.uber.org/goleak v1.3.0
)

require (
	github.com/anishathalye/porcupine v1.1.0 // indirect
	github.com/cenkalti/backoff/v5 v5.0.3 // indirect
	github.com/hashicorp/go-immutable-radix/v2 v2.1.0 // indirect
	github.com/hashicorp/golang-lru/v2 v2.0.7 // indirect
	github.com/klauspost/compress v1.18.0 // indirect
	github.com/kr/text v0.2.0 // indirect
	go.yaml.in/yaml/v3 v3.0.4 // indirect
	golang.org/x/sys v0.40.0 // indirect
	google.golang.org/protobuf v1.36.11 // indirect
)
