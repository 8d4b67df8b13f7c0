package coordination_test

import (
	"context"
	"fmt"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/coordination"
	"github.com/polykv/polykv/kv/inmemory"
)

func ExampleLock() {
	ctx := context.Background()
	client := kv.New(inmemory.NewStore().Open(), codec.String{}, nil)
	defer client.Close()

	lock, err := coordination.NewLock(client, "locks/report", coordination.Options{})
	if err != nil {
		panic(err) // gossip, for example, on which no lock can hold
	}
	defer lock.Close()

	held, err := lock.Lock(ctx)
	if err != nil {
		panic(err)
	}
	// Whatever is written by this client is refused once the lock is lost,
	// however late it comes.
	fenced, err := held.Client()
	if err != nil {
		panic(err)
	}
	write := func(text string) error {
		return fenced.CAS(ctx, "report", func(any) (any, bool, error) { return text, false, nil })
	}
	fmt.Println(write("under the lock"))
	fmt.Println(held.Unlock(ctx))
	fmt.Println(write("too late"))
	// Output:
	// <nil>
	// <nil>
	// polykv: kv: CASGuarded "report": fenced: a guard does not hold
}

func ExamplePresence() {
	ctx := context.Background()
	client := kv.New(inmemory.NewStore().Open(), codec.String{}, nil)
	defer client.Close()

	ring, err := coordination.NewPresence(client, "ring", coordination.Options{})
	if err != nil {
		panic(err)
	}
	defer ring.Close()

	me, err := ring.Join(ctx, "ingester-1", "10.0.0.1:9095")
	if err != nil {
		panic(err)
	}
	fmt.Println(ring.Members(ctx))
	fmt.Println(me.Leave(ctx))
	// Output:
	// [{ingester-1 10.0.0.1:9095}] <nil>
	// <nil>
}
