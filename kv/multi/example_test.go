package multi_test

import (
	"context"
	"fmt"
	"log"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/multi"
)

// Two stores of which the second is kept equal to the first, until it takes
// over.
func Example() {
	ctx := context.Background()
	before, after := inmemory.NewStore(), inmemory.NewStore()
	client, err := multi.New(multi.DefaultConfig(), []multi.Backend{
		{Name: "before", Client: kv.New(before.Open(), codec.String{}, nil)},
		{Name: "after", Client: kv.New(after.Open(), codec.String{}, nil)},
	}, multi.WithLogger(quiet))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	err = client.CAS(ctx, "greeting", func(any) (any, bool, error) { return "hello", false, nil })
	if err != nil {
		log.Fatal(err)
	}
	if err := client.SetPrimary(ctx, "after"); err != nil {
		log.Fatal(err)
	}
	value, err := client.Get(ctx, "greeting")
	fmt.Println(client.Primary(), value, err)
	// Output: after hello <nil>
}

// Copy what was there before, and look whether both are equal.
func ExampleClient_Verify() {
	ctx := context.Background()
	before, after := inmemory.NewStore(), inmemory.NewStore()
	old := kv.New(before.Open(), codec.String{}, nil)
	err := old.CAS(ctx, "greeting", func(any) (any, bool, error) { return "hello", false, nil })
	if err != nil {
		log.Fatal(err)
	}
	client, err := multi.New(multi.DefaultConfig(), []multi.Backend{
		{Name: "before", Client: old},
		{Name: "after", Client: kv.New(after.Open(), codec.String{}, nil)},
	}, multi.WithLogger(quiet))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	_, differences, err := client.Verify(ctx)
	fmt.Println(differences[0].Key, differences[0].Reason, err)
	copied, err := client.Backfill(ctx, nil)
	fmt.Println(copied.Copied, err)
	_, differences, err = client.Verify(ctx)
	fmt.Println(len(differences), err)
	// Output:
	// greeting missing <nil>
	// 1 <nil>
	// 0 <nil>
}
