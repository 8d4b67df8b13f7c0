package side

import (
	"strings"
	"testing"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

const goodRecord = `{"state":"standby","epoch":3,"migration":"m","source":"a","target":"b","store":"b","run":"r"}`

func TestRecordIsReadStrictly(t *testing.T) {
	s := newStore(t, "b")
	if r, version, err := s.ReadRecord(t.Context()); version != 0 || err != nil {
		t.Fatalf("an absent record is %+v, %d, %v", r, version, err)
	}
	put := func(data string) {
		err := s.CAS(t.Context(), RecordKey, nil, func([]byte, bool) ([]byte, kv.Action, error) { return []byte(data), kv.Put, nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	put(goodRecord)
	r, version, err := s.ReadRecord(t.Context())
	want := Record{State: Standby, Epoch: 3, Migration: "m", Source: "a", Target: "b", Store: "b", Run: "r"}
	if r != want || version == 0 || err != nil {
		t.Fatalf("read %+v, %d, %v", r, version, err)
	}
	for name, c := range map[string]struct{ old, new, say string }{
		"no JSON":       {goodRecord, "primary", "invalid character"},
		"unknown state": {"standby", "sleeping", `"sleeping"; the states are primary, standby, sealed, filling, retired`},
		"unknown field": {`"run"`, `"speed":1,"run"`, "speed"},
		"trailing":      {`"r"}`, `"r"}{}`, "after its end"},
		"no epoch":      {`"epoch":3,`, "", "no epoch"},
		"no migration":  {`"migration":"m",`, "", "no migration"},
		"no source":     {`"source":"a",`, "", "no source"},
		"no target":     {`"target":"b",`, "", "no target"},
		"no store":      {`"store":"b",`, "", "no store"},
		"no run":        {`"run":"r"`, `"run":""`, "no run"},
		"one name":      {`"source":"a"`, `"source":"b"`, `both "b"`},
		"third store":   {`"store":"b"`, `"store":"c"`, `"c" is neither`},
		"other store":   {`"store":"b"`, `"store":"a"`, `record of store "a", but the configuration names this store "b"`},
	} {
		t.Run(name, func(t *testing.T) {
			put(strings.Replace(goodRecord, c.old, c.new, 1))
			_, version, err := s.ReadRecord(t.Context())
			wantErr(t, err, ErrBadRecord)
			if version != 0 || !strings.Contains(err.Error(), c.say) || !strings.Contains(err.Error(), RecordKey) {
				t.Errorf("got version %d and %v, which should name the key and say %s", version, err, c.say)
			}
		})
	}
}

func TestSwapRecordHoldsToTheVersion(t *testing.T) {
	s := newStore(t, "a")
	first, v1, err := s.SwapRecord(t.Context(), 0, record(Primary))
	if err != nil || first.Store != "a" || first.Run == "" {
		t.Fatalf("created %+v: %v", first, err)
	}
	_, _, err = s.SwapRecord(t.Context(), 0, record(Primary))
	wantErr(t, err, kv.ErrConflict)
	second, v2, err := s.SwapRecord(t.Context(), v1, first)
	if err != nil || v2 == v1 || second.Run == first.Run {
		t.Fatalf("the same state again must move the version and name a new run: %+v at %d, then %+v at %d, %v", first, v1, second, v2, err)
	}
	_, _, err = s.SwapRecord(t.Context(), v1, record(Sealed))
	wantErr(t, err, kv.ErrConflict)
	if now, at, err := s.ReadRecord(t.Context()); now != second || at != v2 || err != nil {
		t.Fatalf("read %+v at %d, %v", now, at, err)
	}
	if _, _, err := s.SwapRecord(t.Context(), v2, Record{State: "x"}); err == nil {
		t.Fatal("a record without meaning was written")
	}
}

func TestSwapRecordFindsOutByItsRun(t *testing.T) {
	for name, applied := range map[string]bool{"applied": true, "lost": false} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, "a")
			s.hooks.onSwap = func(_ driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
				if applied {
					if _, err := do(); err != nil {
						t.Error(err)
					}
				}
				return driver.Result{}, errLost
			}
			r, version, err := s.SwapRecord(t.Context(), 0, record(Primary))
			if !applied {
				wantErr(t, err, kv.ErrIndeterminate)
				return
			}
			now, at, readErr := s.ReadRecord(t.Context())
			if err != nil || readErr != nil || now != r || at != version {
				t.Fatalf("wrote %+v at %d (%v), found %+v at %d (%v)", r, version, err, now, at, readErr)
			}
		})
	}
}
