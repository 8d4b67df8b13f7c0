package migrate_test

import (
	"context"
	"fmt"
	"log"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/multi/migrate"
)

// The commands in their order. Clients would run on both stores, coordinated,
// from Start to Finish; see package multi.
func Example() {
	ctx := context.Background()
	old := kv.New(inmemory.NewStore().Open(), codec.String{}, nil)
	defer old.Close()
	target := kv.New(inmemory.NewStore().Open(), codec.String{}, nil)
	defer target.Close()
	err := old.CAS(ctx, "color", func(any) (any, bool, error) { return "green", false, nil })
	if err != nil {
		log.Fatal(err)
	}

	m, err := migrate.New(migrate.Backend{Name: "old", Client: old}, migrate.Backend{Name: "new", Client: target}, migrate.Options{
		AllowNoClients: true, // in this example there are none
		Changed:        func(c migrate.Change) { fmt.Printf("%s is %s\n", c.Store, c.To) },
	})
	if err != nil {
		log.Fatal(err)
	}
	if plan, err := m.Plan(ctx); err != nil || !plan.Ready {
		log.Fatal(plan, err)
	}
	if _, err := m.Start(ctx); err != nil {
		log.Fatal(err)
	}
	copied, err := m.Copy(ctx, migrate.CopyOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("copied", copied.Copied)
	result, err := m.Cutover(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("verified", result.Fenced.Keys)
	if _, err := m.Finish(ctx, "new"); err != nil {
		log.Fatal(err)
	}
	// Output:
	// old is primary
	// new is standby
	// copied 1
	// old is sealed
	// new is filling
	// old is sealed
	// new is primary
	// old is standby
	// verified 1
	// old is retired
}
