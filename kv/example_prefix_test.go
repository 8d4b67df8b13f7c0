package kv_test

import (
	"context"
	"fmt"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/inmemory"
)

// write is what the examples write with.
func write(c kv.Client, key, value string) {
	err := c.CAS(context.Background(), key, func(any) (any, bool, error) { return value, false, nil })
	if err != nil {
		panic(err)
	}
}

func ExamplePrefix() {
	ctx := context.Background()
	store := kv.New(inmemory.NewStore().Open(), codec.String{}, nil)
	defer store.Close()

	tenant, err := kv.Prefix(store, "tenants/42/")
	if err != nil {
		panic(err)
	}
	write(tenant, "plan", "free")
	write(store, "tenants/7/plan", "paid")

	keys, err := tenant.List(ctx, "")
	fmt.Println(keys, err)
	keys, err = store.List(ctx, "")
	fmt.Println(keys, err)
	// Output:
	// [plan] <nil>
	// [tenants/42/plan tenants/7/plan] <nil>
}

func ExampleSkipDeletes() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client := kv.New(inmemory.NewStore().Open(), codec.String{}, nil)
	defer client.Close()
	write(client, "a", "going")
	write(client, "b", "staying")

	// Code that was written for Cortex or dskit takes every value for one.
	kv.SkipDeletes(client).WatchPrefix(ctx, "", func(key string, value any) bool {
		fmt.Println(key, len(value.(string)))
		switch key {
		case "a":
			if err := client.Delete(ctx, "a"); err != nil {
				panic(err)
			}
			write(client, "c", "new")
			return true
		case "b":
			return true
		}
		return false
	})
	// Output:
	// a 5
	// b 7
	// c 3
}
