// Command polykv reads, writes, watches and demonstrates key-value stores; see
// "polykv --help".
package main

import (
	"github.com/polykv/polykv/cli"
	"github.com/polykv/polykv/kv/factory"
)

func main() {
	cli.Main(factory.Builtin())
}
