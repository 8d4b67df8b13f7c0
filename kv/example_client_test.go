package kv_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/inmemory"
)

func ExampleNew() {
	ctx := context.Background()
	client := kv.New(inmemory.NewStore().Open(), codec.String{}, nil)
	defer func() { _ = client.Close() }()

	for range 3 {
		err := client.CAS(ctx, "visits", func(in any) (out any, retry bool, err error) {
			n := 0
			if text, ok := in.(string); ok { // nil if the key is absent
				if n, err = strconv.Atoi(text); err != nil {
					return nil, false, err
				}
			}
			return strconv.Itoa(n + 1), false, nil
		})
		if err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(client.Get(ctx, "visits"))
	// Output: 3 <nil>
}

// exampleClient returns a client of an empty store with some keys.
func exampleClient(keys ...string) kv.Client {
	client := kv.New(inmemory.NewStore().Open(), codec.String{}, nil)
	for _, key := range keys {
		if err := client.CAS(context.Background(), key, set("value of "+key)); err != nil {
			panic(err)
		}
	}
	return client
}

func ExampleEntries() {
	client := exampleClient("app/a", "app/b", "other")
	defer func() { _ = client.Close() }()
	for entry, err := range kv.Entries(context.Background(), client, "app/") {
		if err != nil {
			fmt.Println(err)
			break
		}
		fmt.Println(entry.Key, "=", entry.Value)
	}
	// Output:
	// app/a = value of app/a
	// app/b = value of app/b
}

func ExampleWatch() {
	client := exampleClient("app/a")
	defer func() { _ = client.Close() }()
	ctx := context.Background()
	err := kv.Watch(ctx, client, kv.PrefixRange("app/"), func(ev kv.Event) bool {
		fmt.Printf("%v %q\n", ev.Type, ev.Key)
		if ev.Type == kv.Synced { // everything that existed has been delivered
			if err := client.Delete(ctx, "app/a"); err != nil { // a callback may use the client
				fmt.Println(err)
			}
		}
		return ev.Type != kv.Delete
	})
	fmt.Println(err)
	// Output:
	// put "app/a"
	// synced ""
	// delete "app/a"
	// <nil>
}

func ExamplePing() {
	client := exampleClient()
	fmt.Println(kv.Ping(context.Background(), client))
	_ = client.Close()
	fmt.Println(errors.Is(kv.Ping(context.Background(), client), kv.ErrClosed))
	// Output:
	// <nil>
	// true
}

// A write that holds only while another key, here a leader's term, is what it
// was when the term began.
func ExampleGuarded() {
	ctx := context.Background()
	client := exampleClient("leader")
	defer func() { _ = client.Close() }()
	versioned, err := kv.Versioned(client)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, term, err := versioned.GetVersion(ctx, "leader")
	if err != nil {
		fmt.Println(err)
		return
	}
	guarded, err := kv.Guarded(client)
	if err != nil {
		fmt.Println(err)
		return
	}
	guard := kv.Guard{Key: "leader", Version: term}
	fmt.Println(guarded.CASGuarded(ctx, "task", set("done by the leader"), guard))

	if err := client.CAS(ctx, "leader", set("another")); err != nil {
		fmt.Println(err)
	}
	err = guarded.CASGuarded(ctx, "task", set("done by who was the leader"), guard)
	fmt.Println(errors.Is(err, kv.ErrFenced))
	// Output:
	// <nil>
	// true
}

func ExampleVersioned() {
	ctx := context.Background()
	client := exampleClient()
	defer func() { _ = client.Close() }()
	versioned, err := kv.Versioned(client)
	if err != nil {
		fmt.Println(err)
		return
	}
	first, err := versioned.SwapVersion(ctx, "k", 0, "created")
	fmt.Println(first != 0, err)
	_, err = versioned.SwapVersion(ctx, "k", 0, "created again")
	fmt.Println(errors.Is(err, kv.ErrConflict))
	_, err = versioned.SwapVersion(ctx, "k", first, kv.Remove)
	fmt.Println(err)
	// Output:
	// true <nil>
	// true
	// <nil>
}

func ExampleRaw() {
	client := exampleClient("k")
	defer func() { _ = client.Close() }()
	raw, err := kv.Raw(client) // not closed: it shares the client's connection
	if err != nil {
		fmt.Println(err)
		return
	}
	stored, err := raw.Get(context.Background(), "k")
	fmt.Printf("%s %v\n", stored, err)
	// Output: value of k <nil>
}

func ExampleLimitsOf() {
	client := exampleClient()
	defer func() { _ = client.Close() }()
	limits, err := kv.LimitsOf(client)
	fmt.Println(limits.Key, limits.Value, err)
	// Output: 512 524288 <nil>
}
