package coordination_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kvtest"
)

// While a fleet begins a migration some of its members have leases, and others,
// whose clients have two stores, beat. These observe those: who is alive stays,
// with the lease, and a record that was copied without one, of a member that died
// meanwhile, goes. Asking takes one answer in a TTL: an owner that went on and on
// would have time stand still.
func TestLeasedMembersBesideBeatingOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := inmemory.NewStore()
		line, answers := kvtest.Wrap(s.Open()), 0
		line.OnWrite(func(carryOut func()) bool {
			if answers++; answers > 100 {
				return false
			}
			carryOut()
			return true
		})
		owner := open(t, line)
		join(t, newPresence(t, owner, nil), "leased", "1")
		raw, err := kv.WithCodec(open(t, s.Open()), codec.Bytes{})
		if err != nil {
			t.Fatal(err)
		}
		err = raw.CAS(t.Context(), "ring/members/copied", func(any) (any, bool, error) {
			return []byte(`{"run":"gone","data":"2","leased":true}`), false, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		p := newPresence(t, beating{kv.Forward{Client: open(t, s.Open())}}, nil)
		join(t, p, "beating", "3")
		wantMembers(t, p, "beating=3 copied=2 leased=1")
		told := seenBy(t, p)
		time.Sleep(10 * ttl)
		synctest.Wait() // whoever was asked has answered
		wantMembers(t, p, "beating=3 leased=1")
		if slices.ContainsFunc(told(), func(seen string) bool { return !strings.Contains(seen, "leased=1") }) {
			t.Errorf("one that is alive came and went: %q", told())
		}
		if answers < 10 || answers > 25 { // each may take two attempts
			t.Errorf("the owner tried %d times to write its record in 10 TTLs", answers)
		}
		record, err := raw.Get(t.Context(), "ring/members/leased")
		if stored, _ := record.([]byte); err != nil || !strings.Contains(string(stored), `"leased":true`) {
			t.Errorf("it has the record %s, %v", stored, err)
		}
		if err := owner.Close(); err != nil { // and nothing is told to anybody
			t.Error(err)
		}
		time.Sleep(5 * ttl)
		wantMembers(t, p, "beating=3")
	})
}
