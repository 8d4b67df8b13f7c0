package inmemory_test

import (
	"context"
	"fmt"

	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
)

func ExampleNewStore() {
	ctx := context.Background()
	store := inmemory.NewStore(inmemory.WithMaxValueSize(1 << 20))
	a, b := store.Open(), store.Open()
	defer b.Close()

	res, err := a.Swap(ctx, driver.Swap{Key: "greeting", Value: []byte("hello"), ID: 1})
	fmt.Println(res.Outcome, err)
	a.Close() // the data stays

	entry, err := b.Get(ctx, driver.GetRequest{Key: "greeting"})
	fmt.Println(string(entry.Value), err)
	// Output:
	// applied <nil>
	// hello <nil>
}

// Two components that only agree on a name see the same data.
func ExampleOpenNamed() {
	ctx := context.Background()
	writer, err := inmemory.OpenNamed("shared", inmemory.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer writer.Close()
	reader, err := inmemory.OpenNamed("shared", inmemory.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer reader.Close()

	_, err = writer.Swap(ctx, driver.Swap{Key: "k", Value: []byte("v"), ID: 1})
	fmt.Println(err)
	entry, err := reader.Get(ctx, driver.GetRequest{Key: "k"})
	fmt.Println(string(entry.Value), err)

	_, err = inmemory.OpenNamed("shared", inmemory.Config{MaxValueSize: 1024})
	fmt.Println(err)
	// Output:
	// <nil>
	// v <nil>
	// in-memory store "shared" is open with other settings: max value size is 524288, not 1024 bytes
}
