package kv_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/inmemory"
)

type Account struct{ Cents int }

// accounts opens a typed view of a store of its own, and the way to close it.
func accounts() (kv.TypedClient[Account], func()) {
	client := kv.New(inmemory.NewStore().Open(), codec.JSON[Account]{}, nil)
	return kv.Typed[Account](client), func() { _ = client.Close() }
}

func ExampleTyped() {
	ctx := context.Background()
	client := kv.New(inmemory.NewStore().Open(), codec.JSON[Account]{}, nil)
	defer client.Close()

	accounts := kv.Typed[Account](client)
	account, exists, err := accounts.Get(ctx, "ada")
	fmt.Println(account.Cents, exists, err)
	// Output: 0 false <nil>
}

func ExampleTypedClient_Update() {
	ctx := context.Background()
	accounts, closeStore := accounts()
	defer closeStore()

	errPoor := errors.New("not enough money")
	pay := func(key string, cents int) error {
		return accounts.Update(ctx, key, func(old Account, exists bool) (Account, kv.Action, error) {
			old.Cents += cents
			switch {
			case cents == 0:
				return old, kv.Keep, nil // nothing to write
			case old.Cents < 0:
				return old, nil, errPoor
			case old.Cents == 0:
				return old, kv.Remove, nil
			}
			return old, kv.Put, nil
		})
	}
	for _, cents := range []int{300, 0, -500, -100} {
		err := pay("ada", cents)
		account, exists, _ := accounts.Get(ctx, "ada")
		fmt.Println(cents, "gives", account, exists, errors.Is(err, errPoor))
	}
	fmt.Println(pay("ada", -200))
	_, exists, _ := accounts.Get(ctx, "ada")
	fmt.Println(exists)
	// Output:
	// 300 gives {300} true false
	// 0 gives {300} true false
	// -500 gives {300} true true
	// -100 gives {200} true false
	// <nil>
	// false
}

// An error that should make Update try again is wrapped in Retry.
func ExampleRetry() {
	accounts, closeStore := accounts()
	defer closeStore()

	attempts := 0
	err := accounts.Update(context.Background(), "ada", func(old Account, _ bool) (Account, kv.Action, error) {
		if attempts++; attempts < 3 {
			return old, nil, kv.Retry(errors.New("the exchange rate is not known yet"))
		}
		return Account{Cents: 100}, kv.Put, nil
	})
	fmt.Println(attempts, err)
	// Output: 3 <nil>
}

func ExampleTypedClient_Entries() {
	ctx := context.Background()
	accounts, closeStore := accounts()
	defer closeStore()
	for cents, key := range []string{"ada", "bob", "cid"} {
		err := accounts.Update(ctx, key, func(Account, bool) (Account, kv.Action, error) {
			return Account{Cents: cents}, kv.Put, nil
		})
		if err != nil {
			panic(err)
		}
	}

	for entry, err := range accounts.Entries(ctx, "") {
		if err != nil {
			fmt.Println(entry.Key, "is left out:", err)
			continue
		}
		fmt.Println(entry.Key, entry.Value.Cents)
	}
	// Output:
	// ada 0
	// bob 1
	// cid 2
}

func ExampleTypedClient_Watch() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	accounts, closeStore := accounts()
	defer closeStore()
	err := accounts.Update(ctx, "ada", func(Account, bool) (Account, kv.Action, error) {
		return Account{Cents: 100}, kv.Put, nil
	})
	if err != nil {
		panic(err)
	}

	for event, err := range accounts.Watch(ctx, kv.PrefixRange("")) {
		switch event.Type {
		case kv.Put:
			fmt.Println(event.Key, "has", event.Value.Cents)
		case kv.Delete:
			fmt.Println(event.Key, "is gone")
			cancel()
		case kv.Synced:
			fmt.Println("that is everybody")
			if err := accounts.Delete(ctx, "ada"); err != nil {
				panic(err)
			}
		case kv.Interrupted, kv.Undecodable:
			fmt.Println("the watch goes on after:", err)
		default:
			fmt.Println("the watch ended:", errors.Is(err, context.Canceled))
		}
	}
	// Output:
	// ada has 100
	// that is everybody
	// ada is gone
	// the watch ended: true
}
