package conformance

import (
	"fmt"
	"strconv"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
)

func deleteCases() []testCase {
	return []testCase{
		{"D1", "then-absent", "after Delete, Get is nil, List omits the key, a CAS callback gets nil and may create it", 0, deleteThenAbsent},
		{"D1", "absent", "Delete of an absent key is no error and makes nothing", 0, deleteAbsent},
		{"D1", "created-again-lives", "a key that was created again after Delete lives on", 0, createdAgainLives},
		{"D1", "together", "many Deletes of one key at once all succeed", 0, deleteTogether},
		{"D1", "undecodable", "Delete removes a value that can't be decoded", 0, deleteUndecodable},
		{"D1", "one-key-only", "Delete takes no other key with it", 0, deleteOneKeyOnly},
		{"D1", "history", "concurrent CAS and Delete are linearizable", needOneStore, historyOf(mixDeletes)},
	}
}

func deleteThenAbsent(t *trial) {
	a, b := t.open(), t.open()
	t.put(a, "k", "old")
	t.wantGet(b, "k", "old")
	t.delete(b, "k")
	for _, c := range []kv.Client{a, b} {
		t.wantGet(c, "k", nil)
		t.wantList(c, "")
	}
	t.ok(t.cas(a, "k", func(in any) (any, bool, error) {
		if in != nil {
			t.Logf("a callback got %s at first", show(in))
			return fmt.Sprintf("%v kept", in), false, nil
		}
		return "new", false, nil
	}), "CAS of a deleted key")
	t.wantGet(b, "k", "new")
	t.wantList(b, "", "k")
}

func deleteAbsent(t *trial) {
	a, b := t.open(), t.open()
	t.delete(a, "never")
	t.put(b, "k", "v")
	t.delete(b, "k")
	t.delete(a, "k")
	t.delete(b, "k")
	t.wantList(a, "")
}

// createdAgainLives deletes and creates a key in turn on different clients,
// and looks at all of them again after much else was deleted, by which time a
// late cleanup would have taken them.
func createdAgainLives(t *trial) {
	clients := t.openN(3)
	for round := range 10 {
		value := strconv.Itoa(round)
		for i := range 3 {
			key := fmt.Sprintf("k%d", i)
			t.delete(clients[(i+round)%3], key)
			t.put(clients[(i+round+1)%3], key, value)
			t.wantGet(clients[i], key, value)
		}
	}
	for _, key := range t.fill(clients[0], "other/", 40) {
		t.delete(clients[1], key)
	}
	for _, c := range clients {
		t.wantList(c, "", "k0", "k1", "k2")
		for i := range 3 {
			t.wantGet(c, fmt.Sprintf("k%d", i), "9")
		}
	}
}

func deleteTogether(t *trial) {
	clients := t.openN(4)
	for range 5 {
		t.put(clients[0], "k", "v")
		t.each(16, func(i int) { t.delete(clients[i%4], "k") })
		t.wantGet(clients[1], "k", nil)
	}
}

func deleteUndecodable(t *trial) {
	c, plain := t.openWith(picky{}), t.openWith(codec.String{})
	t.put(plain, "k", "?")
	t.delete(c, "k")
	t.wantGet(plain, "k", nil)
}

func deleteOneKeyOnly(t *trial) {
	a, b := t.open(), t.open()
	for _, key := range []string{"k", "k/child", "kk", "K"} {
		t.put(a, key, key)
	}
	t.delete(b, "k")
	t.wantList(a, "", "K", "k/child", "kk")
}
