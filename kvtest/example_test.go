package kvtest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kvtest"
)

// Account is what the program under test keeps.
type Account struct {
	Balance  int
	Payments []string // the ids of those that are in Balance
}

// pay is the code under test: a payment counts once, however often it is tried. So it can be tried again when the
// outcome of a write can't be known.
func pay(ctx context.Context, accounts kv.TypedClient[Account], id string, amount int) error {
	for {
		err := accounts.Update(ctx, "accounts/7", func(a Account, _ bool) (Account, kv.Action, error) {
			if slices.Contains(a.Payments, id) {
				return a, kv.Keep, nil
			}
			a.Balance += amount
			a.Payments = append(a.Payments, id)
			return a, kv.Put, nil
		})
		if !errors.Is(err, kv.ErrIndeterminate) {
			return err
		}
	}
}

// An application's test that it survives an answer that was lost.
func Example() {
	store := kvtest.Wrap(inmemory.NewStore().Open())
	client := kv.New(store, codec.JSON[Account]{}, nil)
	defer client.Close()
	ctx, accounts := context.Background(), kv.Typed[Account](client)

	store.LoseNextAnswer() // the first payment arrives, and nobody is told
	store.LoseNextWrite()  // then one gets lost
	store.ConflictNext()   // and then somebody else is faster
	fmt.Println(pay(ctx, accounts, "invoice 1", 10))
	fmt.Println(pay(ctx, accounts, "invoice 2", 5))

	account, _, err := accounts.Get(ctx, "accounts/7")
	fmt.Println(account.Balance, account.Payments, err)
	// Output:
	// <nil>
	// <nil>
	// 15 [invoice 1 invoice 2] <nil>
}
