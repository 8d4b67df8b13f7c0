package bolt_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/drivers/bolt"
	"github.com/polykv/polykv/kv"
)

// A client of a file; another one, later, finds what it wrote.
func ExampleFiles_Open() {
	dir, err := os.MkdirTemp("", "bolt")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	cfg := bolt.NewConfig()
	cfg.Path = filepath.Join(dir, "data.db")

	var files bolt.Files
	client := func() kv.Client {
		store, err := files.Open(*cfg)
		if err != nil {
			panic(err)
		}
		return kv.New(store, codec.String{}, nil)
	}
	ctx := context.Background()
	writer := client()
	err = writer.CAS(ctx, "greeting", func(any) (any, bool, error) { return "hello", false, nil })
	fmt.Println(err, writer.Close())

	reader := client()
	defer reader.Close()
	fmt.Println(reader.Get(ctx, "greeting"))
	// Output:
	// <nil> <nil>
	// hello <nil>
}
