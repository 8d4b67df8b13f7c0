package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/polykv/polykv/kv/driver"
)

// answering is the server of a store, as far as the test says.
type answering struct {
	pb.KVClient
	ranges []*pb.RangeRequest
	answer func(*pb.RangeRequest) (*pb.RangeResponse, error)
	txn    func(sent *peer.Peer) (*pb.TxnResponse, error)
	txns   []*pb.TxnRequest
}

func (a *answering) Range(_ context.Context, req *pb.RangeRequest, _ ...grpc.CallOption) (*pb.RangeResponse, error) {
	a.ranges = append(a.ranges, &pb.RangeRequest{
		Key: req.Key, RangeEnd: req.RangeEnd, CountOnly: req.CountOnly, KeysOnly: req.KeysOnly, Limit: req.Limit, MinModRevision: req.MinModRevision,
		Revision: req.Revision, Serializable: req.Serializable, SortTarget: req.SortTarget, SortOrder: req.SortOrder,
	})
	return a.answer(req)
}

func (a *answering) Txn(_ context.Context, req *pb.TxnRequest, opts ...grpc.CallOption) (*pb.TxnResponse, error) {
	a.txns = append(a.txns, req)
	for _, o := range opts {
		if to, ok := o.(grpc.PeerCallOption); ok {
			return a.txn(to.PeerAddr)
		}
	}
	return nil, errors.New("the peer isn't asked for")
}

// answered opens a store whose server is a.
func answered(t *testing.T, a *answering) *store {
	t.Helper()
	s := open(t, DefaultConfig())
	s.kv = a
	return s
}

func header(rev int64) *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: 1, MemberId: 1, RaftTerm: 1, Revision: rev}
}

func TestWhatErrorsProve(t *testing.T) {
	over, end := context.WithCancel(t.Context())
	end()
	s := open(t, DefaultConfig())
	of := func(code codes.Code, text string) error { return status.Error(code, text) }
	for _, test := range []struct {
		err        error
		notApplied bool
		is         error // nil: no sentinel
		permanent  bool
		text       string // "": any
	}{
		{rpctypes.ErrGRPCNoLeader, true, nil, false, ""},
		{rpctypes.ErrGRPCNotCapable, true, nil, false, ""},
		{rpctypes.ErrGRPCRequestTooManyRequests, true, nil, false, ""},
		{rpctypes.ErrGRPCInvalidAuthToken, true, nil, false, ""},
		{rpctypes.ErrGRPCRequestTooLarge, true, driver.ErrTooLarge, true, ""},
		{rpctypes.ErrGRPCUserEmpty, true, driver.ErrPermission, true, ""},
		{rpctypes.ErrGRPCAuthOldRevision, true, nil, false, ""},
		{rpctypes.ErrGRPCPermissionDenied, true, driver.ErrPermission, true, ""},
		{rpctypes.ErrGRPCCorrupt, true, nil, false, ""},
		{of(codes.Unavailable, notForLearners), true, nil, false, ""},
		{of(codes.Unknown, dropped), true, nil, false, ""},
		{of(codes.ResourceExhausted, unread+" (2097159 vs. 2097152)"), true, driver.ErrTooLarge, true, ""},
		{loginError{"u", rpctypes.ErrGRPCAuthFailed}, true, driver.ErrPermission, true, `permission denied: logging in as "u": etcdserver: authentication failed, invalid user ID or password`},
		{loginError{"u", of(codes.InvalidArgument, noPassword)}, true, driver.ErrPermission, true, ""},
		{rpctypes.ErrGRPCNoSpace, false, driver.ErrFull, true, ""},
		{rpctypes.ErrGRPCTimeout, false, nil, false, ""},
		{rpctypes.ErrGRPCLeaderChanged, false, nil, false, ""},
		{rpctypes.ErrGRPCStopped, false, nil, false, ""},
		{of(codes.DeadlineExceeded, "late"), false, context.DeadlineExceeded, false, ""},
		{of(codes.Unavailable, `connection error: desc = "transport: Error while dialing: dial tcp: refused"`), false, nil, false, "127.0.0.1:2379: Error while dialing: dial tcp: refused"},
		{of(codes.Unavailable, `connection error: desc = half`), false, nil, false, "127.0.0.1:2379: connection error: desc = half"},
		{of(codes.Unknown, "odd"), false, nil, false, "odd"},
		{io.EOF, false, io.EOF, false, ""},
	} {
		if got := notApplied(test.err); got != test.notApplied {
			t.Errorf("%v: not applied: %v", test.err, got)
		}
		err := s.wrap(t.Context(), test.err)
		if test.is != nil && !errors.Is(err, test.is) || driver.IsPermanent(err) != test.permanent || test.text != "" && err.Error() != test.text {
			t.Errorf("%v became %v, permanent: %v; want %v, %v", test.err, err, driver.IsPermanent(err), test.is, test.permanent)
		}
		if err := s.wrap(over, test.err); !errors.Is(err, context.Canceled) && !driver.IsPermanent(err) {
			t.Errorf("%v under a ctx that is over became %v", test.err, err)
		}
	}
	if err := s.wrap(over, nil); err != nil {
		t.Errorf("nothing became %v", err)
	}
	before := s.Epoch()
	_ = s.wrap(t.Context(), of(codes.Unknown, "odd"))
	if s.Epoch() != before {
		t.Error("an odd error begins an epoch")
	}
	if _ = s.wrap(t.Context(), of(codes.Unavailable, "gone")); s.Epoch() != before+1 {
		t.Error("a server that is gone begins no epoch")
	}
	if isPermission(rpctypes.ErrUserEmpty, true) {
		t.Error("a token that was lost is no want of permission")
	}
}

// A swap that never left this process was not applied.
func TestSwapThatWasNotSent(t *testing.T) {
	a := &answering{}
	s := answered(t, a)
	for sent, want := range map[bool]driver.Outcome{false: driver.NotApplied, true: driver.Unknown} {
		a.txn = func(to *peer.Peer) (*pb.TxnResponse, error) {
			if sent {
				to.Addr = nowhere{}
			}
			return nil, status.Error(codes.Unavailable, "gone")
		}
		if res, err := s.Swap(t.Context(), driver.Swap{Key: "k", ID: 1}); res.Outcome != want || err == nil {
			t.Errorf("sent: %v: %v, %v; want %v", sent, res.Outcome, err, want)
		}
	}
}

type nowhere struct{}

func (nowhere) Network() string { return "tcp" }
func (nowhere) String() string  { return "nowhere" }

// A full server says so of a write that it applied, too: what is there afterwards
// tells.
func TestSwapOfAFullServer(t *testing.T) {
	kv := func(created, modified, writes int64, value string) []*mvccpb.KeyValue {
		return []*mvccpb.KeyValue{{Key: []byte("k"), CreateRevision: created, ModRevision: modified, Version: writes, Value: []byte(value)}}
	}
	there := driver.Entry{Key: "k", Version: 5, Generation: 1, Meta: &meta{created: 3, writes: 2}}
	for name, test := range map[string]struct {
		prev  driver.Entry
		now   []*mvccpb.KeyValue
		rev   int64
		fails bool
		want  driver.Outcome
	}{
		"unchanged":                            {there, kv(3, 5, 2, "old"), 12, false, driver.NotApplied},
		"written":                              {there, kv(3, 12, 3, "v"), 12, false, driver.Unknown},
		"written by another":                   {there, kv(3, 12, 3, "other"), 12, false, driver.NotApplied},
		"absent, and nothing was written":      {driver.Entry{Key: "k"}, nil, 10, false, driver.NotApplied},
		"absent, and something was written":    {driver.Entry{Key: "k"}, nil, 12, false, driver.Unknown},
		"another history":                      {there, kv(3, 5, 2, "old"), 7, false, driver.Unknown},
		"what is there can't be read any more": {there, nil, 12, true, driver.Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			a := &answering{answer: func(*pb.RangeRequest) (*pb.RangeResponse, error) { return &pb.RangeResponse{Header: header(10)}, nil }}
			s := answered(t, a)
			if _, err := s.Get(t.Context(), driver.GetRequest{Key: "other"}); err != nil { // so the store is known to be at 10
				t.Fatal(err)
			}
			a.txn = func(to *peer.Peer) (*pb.TxnResponse, error) {
				to.Addr = nowhere{}
				return nil, rpctypes.ErrGRPCNoSpace
			}
			a.answer = func(*pb.RangeRequest) (*pb.RangeResponse, error) {
				if test.fails {
					return nil, status.Error(codes.Unavailable, "gone")
				}
				return &pb.RangeResponse{Header: header(test.rev), Kvs: test.now}, nil
			}
			res, err := s.Swap(t.Context(), driver.Swap{Key: "k", Prev: test.prev, Value: []byte("v"), ID: 1})
			if res.Outcome != test.want || !errors.Is(err, driver.ErrFull) {
				t.Errorf("%v, %v; want %v", res.Outcome, err, test.want)
			}
		})
	}
}

func TestPositionCovers(t *testing.T) {
	p := &position{gen: 2, rev: 10, newest: 8, count: 3}
	for other, want := range map[position]bool{
		{gen: 2, rev: 10, newest: 10, count: 9}: true,
		{gen: 2, rev: 9, newest: 9, count: 9}:   true,
		{gen: 2, rev: 20, newest: 10, count: 3}: true, // nothing was written since 10
		{gen: 2, rev: 20, newest: 11, count: 3}: false,
		{gen: 2, rev: 20, newest: 10, count: 2}: false,
		{gen: 3, rev: 9, newest: 9, count: 3}:   false,
	} {
		if p.Covers(&other) != want {
			t.Errorf("%+v covers %+v: %v", p, other, !want)
		}
	}
	if p.Covers(nil) {
		t.Error("it covers nothing")
	}
}

// A position is found by counting, and by the newest key if there were writes.
func TestLocate(t *testing.T) {
	rev, count, newest := int64(10), int64(3), int64(0)
	a := &answering{answer: func(req *pb.RangeRequest) (*pb.RangeResponse, error) {
		resp := &pb.RangeResponse{Header: header(rev), Count: count}
		if !req.CountOnly && newest >= req.MinModRevision {
			resp.Kvs = []*mvccpb.KeyValue{{ModRevision: newest}}
		}
		return resp, nil
	}}
	s := answered(t, a)
	counts, newestKey := "count", func(since int64) string { return fmt.Sprint("newest since ", since) }
	locate := func(from driver.Position, want position, asked ...string) driver.Position {
		t.Helper()
		a.ranges = nil
		at, err := s.Locate(t.Context(), driver.Range{Key: "k", IsPrefix: true}, from)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := at.(*position); !ok || *got != want {
			t.Errorf("at %+v, want %+v", at, want)
		}
		var got []string
		for _, r := range a.ranges {
			switch {
			case r.CountOnly:
				got = append(got, counts)
			case r.KeysOnly && r.Limit == 1 && r.SortTarget == pb.RangeRequest_MOD && r.SortOrder == pb.RangeRequest_DESCEND && string(r.Key)+string(r.RangeEnd) == "kl":
				got = append(got, newestKey(r.MinModRevision-1))
			}
		}
		if !slices.Equal(got, asked) {
			t.Errorf("asked for %q, want %q", got, asked)
		}
		return at
	}
	first := locate(nil, position{gen: 1, term: 1, rev: 10, newest: 0, count: 3}, newestKey(0))
	locate(first, position{gen: 1, term: 1, rev: 10, newest: 10, count: 3}, counts)
	rev, newest = 15, 12
	locate(first, position{gen: 1, term: 1, rev: 15, newest: 12, count: 3}, counts, newestKey(10))
	rev, newest = 16, 0
	locate(&position{gen: 1, rev: 15}, position{gen: 1, term: 1, rev: 16, newest: 0, count: 3}, counts, newestKey(15))
	locate(&position{gen: 7, rev: 1}, position{gen: 1, term: 1, rev: 16, newest: 16, count: 3}, counts)
	a.answer = func(*pb.RangeRequest) (*pb.RangeResponse, error) { return nil, status.Error(codes.Unavailable, "gone") }
	for _, from := range []driver.Position{nil, first} {
		if at, err := s.Locate(t.Context(), driver.Range{Key: "k"}, from); at != nil || err == nil {
			t.Errorf("from %v: %v, %v", from, at, err)
		}
	}
}

// A page that another history answers, or one that is compacted, ends a listing.
func TestPages(t *testing.T) {
	a := &answering{}
	s := answered(t, a)
	page := func(rev int64, more bool, keys ...string) {
		a.answer = func(*pb.RangeRequest) (*pb.RangeResponse, error) {
			resp := &pb.RangeResponse{Header: header(rev), More: more}
			for i, k := range keys {
				resp.Kvs = append(resp.Kvs, &mvccpb.KeyValue{Key: []byte(k), ModRevision: int64(i + 1), Value: make([]byte, 1<<20-1)})
			}
			return resp, nil
		}
	}
	scan := func(req driver.ScanRequest) (driver.Page, *pb.RangeRequest, error) {
		p, err := s.Scan(t.Context(), req)
		return p, a.ranges[len(a.ranges)-1], err
	}
	page(10, true, "a", "b")
	first, asked, err := scan(driver.ScanRequest{AllowStale: true})
	if err != nil || !first.More || len(first.Entries) != 2 || first.Entries[1].Version != 2 || len(first.Entries[1].Value) != 1<<20-1 || asked.Limit != firstPage || asked.Revision != 0 || asked.Serializable {
		t.Fatalf("first page: %v, %v, asked for %v", first, err, asked)
	}
	page(12, false, "c", "d")
	next, asked, err := scan(driver.ScanRequest{After: "b", Snapshot: first.Snapshot})
	if err != nil || next.More || asked.Limit != 8 || asked.Revision != 10 || next.Snapshot.(*snapshot).rev != 10 {
		t.Errorf("next page: %v, %v, asked for %v", next, err, asked)
	}
	for _, limit := range []int{1, 3} {
		if _, asked, _ = scan(driver.ScanRequest{Limit: limit}); asked.Limit != int64(limit) {
			t.Errorf("a limit of %d became %d", limit, asked.Limit)
		}
	}
	page(12, false, "c")
	if one, _, err := scan(driver.ScanRequest{}); err != nil || one.Snapshot.(*snapshot).limit != 8 {
		t.Errorf("a page of one key: %+v, %v", one.Snapshot, err)
	}
	page(12, false, "c", "d")
	names, asked, err := scan(driver.ScanRequest{KeysOnly: true})
	if err != nil || asked.Limit != int64(s.cfg.ScanPageSize) || !asked.KeysOnly || len(names.Entries) != 2 || names.Entries[1].Key != "d" || names.Entries[0].Key != "c" || names.Entries[0].Version != 1 || names.Entries[0].Value != nil || names.Snapshot.(*snapshot).limit != firstPage {
		t.Errorf("keys only: %+v, %v, asked for %v", names, err, asked)
	}
	if bare, _, err := scan(driver.ScanRequest{KeysOnly: true, Bare: true}); err != nil || !slices.Equal(bare.Keys, []string{"c", "d"}) || bare.Entries != nil {
		t.Errorf("bare: %+v, %v", bare, err)
	}
	page(12, false)
	if empty, _, err := scan(driver.ScanRequest{}); err != nil || len(empty.Entries) != 0 || empty.Snapshot.(*snapshot).limit != firstPage {
		t.Errorf("an empty page: %+v, %v", empty, err)
	}
	s.cfg.SerializableReads = true
	for stale, serializable := range map[bool]bool{true: true, false: false} {
		if _, asked, _ = scan(driver.ScanRequest{AllowStale: stale}); asked.Serializable != serializable {
			t.Errorf("may be stale: %v: served by one member: %v", stale, asked.Serializable)
		}
	}
	page(5, false, "c")
	if _, _, err := scan(driver.ScanRequest{After: "b", Snapshot: first.Snapshot}); !errors.Is(err, driver.ErrSnapshotLost) {
		t.Errorf("a page of another history: %v", err)
	}
	for sent, lost := range map[error]bool{rpctypes.ErrGRPCCompacted: true, rpctypes.ErrGRPCFutureRev: true, status.Error(codes.Unavailable, "gone"): false} {
		a.answer = func(*pb.RangeRequest) (*pb.RangeResponse, error) { return nil, sent }
		if _, _, err := scan(driver.ScanRequest{}); err == nil || errors.Is(err, driver.ErrSnapshotLost) != lost {
			t.Errorf("%v: %v", sent, err)
		}
	}
}

func TestSwapRequest(t *testing.T) {
	c := Config{Root: "/r/"}
	for _, w := range []driver.Swap{
		{Key: "k", Value: []byte("v")},
		{Key: "k", Prev: driver.Entry{Version: 5}, Remove: true},
		{Key: "k", Prev: driver.Entry{Version: 5}, Value: []byte("v"), Guards: []driver.Guard{{Key: "g", Version: 3}, {Key: "h", Version: 4}}},
	} {
		req := c.swapRequest(w)
		at := map[string]int64{"/r/k": int64(w.Prev.Version)}
		for _, g := range w.Guards {
			at["/r/"+g.Key] = int64(g.Version)
		}
		for _, cmp := range req.Compare {
			if cmp.Target != pb.Compare_MOD || cmp.Result != pb.Compare_EQUAL || cmp.GetModRevision() != at[string(cmp.Key)] {
				t.Errorf("%+v: compares %v", w, cmp)
			}
			delete(at, string(cmp.Key))
		}
		if len(at) > 0 || len(req.Success) != 1 || len(req.Failure) != 1+len(w.Guards) {
			t.Fatalf("%+v: doesn't compare %v, %d operations, and %d if it fails", w, at, len(req.Success), len(req.Failure))
		}
		put, del := req.Success[0].GetRequestPut(), req.Success[0].GetRequestDeleteRange()
		if w.Remove && string(del.GetKey()) != "/r/k" || !w.Remove && (string(put.GetKey()) != "/r/k" || string(put.GetValue()) != "v") {
			t.Errorf("%+v: does %v", w, req.Success)
		}
		for i, op := range req.Failure {
			want := "/r/k"
			if i > 0 {
				want = "/r/" + w.Guards[i-1].Key
			}
			if get := op.GetRequestRange(); string(get.GetKey()) != want || get.GetKeysOnly() != (i > 0) {
				t.Errorf("%+v: when it fails, reads %v, want %s", w, get, want)
			}
		}
	}
}

func TestSwapResult(t *testing.T) {
	at := func(key string, rev int64) *pb.ResponseOp {
		resp := &pb.RangeResponse{}
		if rev > 0 {
			resp.Kvs = []*mvccpb.KeyValue{{Key: []byte(key), ModRevision: rev, CreateRevision: 2, Version: 3, Value: []byte("now")}}
		}
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: resp}}
	}
	guards := []driver.Guard{{Key: "g", Version: 3}, {Key: "h", Version: 4}}
	prev := driver.Entry{Key: "k", Version: 5, Generation: 1, Meta: &meta{created: 3, writes: 2}}
	for name, test := range map[string]struct {
		w         driver.Swap
		succeeded bool
		found     []*pb.ResponseOp
		outcome   driver.Outcome
		version   driver.Version
		value     string
		meta      *meta
	}{
		"created":            {driver.Swap{Key: "k", Value: []byte("v")}, true, nil, driver.Applied, 12, "v", &meta{created: 12, writes: 1}},
		"changed":            {driver.Swap{Key: "k", Prev: prev, Value: []byte("v")}, true, nil, driver.Applied, 12, "v", &meta{created: 3, writes: 3}},
		"changed unknown":    {driver.Swap{Key: "k", Prev: driver.Entry{Version: 5}, Value: []byte("v")}, true, nil, driver.Applied, 12, "v", nil},
		"removed":            {driver.Swap{Key: "k", Prev: prev, Remove: true}, true, nil, driver.Applied, 0, "", nil},
		"another is there":   {driver.Swap{Key: "k", Prev: prev}, false, []*pb.ResponseOp{at("k", 7)}, driver.Conflict, 7, "now", &meta{created: 2, writes: 3}},
		"nothing is there":   {driver.Swap{Key: "k", Prev: prev}, false, []*pb.ResponseOp{at("k", 0)}, driver.Conflict, 0, "", nil},
		"first guard broken": {driver.Swap{Key: "k", Prev: prev, Guards: guards}, false, []*pb.ResponseOp{at("k", 5), at("g", 9), at("h", 4)}, driver.GuardBroken, 0, "", nil},
		"last guard broken":  {driver.Swap{Key: "k", Prev: prev, Guards: guards}, false, []*pb.ResponseOp{at("k", 7), at("g", 3), at("h", 0)}, driver.GuardBroken, 0, "", nil},
		"guards hold":        {driver.Swap{Key: "k", Prev: prev, Guards: guards}, false, []*pb.ResponseOp{at("k", 7), at("g", 3), at("h", 4)}, driver.Conflict, 7, "now", &meta{created: 2, writes: 3}},
	} {
		a := &answering{txn: func(*peer.Peer) (*pb.TxnResponse, error) {
			return &pb.TxnResponse{Header: header(12), Succeeded: test.succeeded, Responses: test.found}, nil
		}}
		s := answered(t, a)
		test.w.ID = 1
		res, err := s.Swap(t.Context(), test.w)
		m, _ := res.Entry.Meta.(*meta)
		known := test.outcome != driver.GuardBroken
		if err != nil || res.Outcome != test.outcome || res.Known != known || known && res.Entry.Key != "k" || res.Entry.Version != test.version || string(res.Entry.Value) != test.value || (m == nil) != (test.meta == nil) || m != nil && *m != *test.meta {
			t.Errorf("%s: %+v, meta %+v, %v", name, res, m, err)
		}
	}
}

// An answer that a restored cluster overtook says what happened, and nothing more.
func TestSwapAmidARestore(t *testing.T) {
	a := &answering{}
	s := answered(t, a)
	a.answer = func(*pb.RangeRequest) (*pb.RangeResponse, error) { return &pb.RangeResponse{Header: header(10)}, nil }
	a.txn = func(*peer.Peer) (*pb.TxnResponse, error) {
		a.answer = func(*pb.RangeRequest) (*pb.RangeResponse, error) { return &pb.RangeResponse{Header: header(5)}, nil }
		_, _ = s.Get(t.Context(), driver.GetRequest{Key: "other"})
		return &pb.TxnResponse{Header: header(12), Succeeded: true}, nil
	}
	_, _ = s.Get(t.Context(), driver.GetRequest{Key: "other"})
	res, err := s.Swap(t.Context(), driver.Swap{Key: "k", Value: []byte("v"), ID: 1})
	if err != nil || res.Outcome != driver.Applied || res.Known || res.Entry.Key != "" {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestResolveByCounters(t *testing.T) {
	s := &store{}
	prev := driver.Entry{Key: "k", Version: 5, Generation: 1, Meta: &meta{created: 3, writes: 2}}
	now := func(version driver.Version, created, writes int64, value string) driver.Entry {
		return driver.Entry{Key: "k", Value: []byte(value), Version: version, Generation: 1, Meta: &meta{created: created, writes: writes}}
	}
	other := now(9, 3, 3, "theirs")
	other.Generation = 2
	unknown := now(9, 3, 3, "theirs")
	unknown.Meta = nil
	for name, test := range map[string]struct {
		now         driver.Entry
		write, gone driver.Outcome
	}{
		"one other write":        {now(9, 3, 3, "theirs"), driver.NotApplied, driver.NotApplied},
		"one of equal bytes":     {now(9, 3, 3, "v"), driver.Unknown, driver.NotApplied},
		"two writes":             {now(9, 3, 4, "theirs"), driver.Unknown, driver.NotApplied},
		"created at Prev itself": {now(9, 5, 3, "theirs"), driver.NotApplied, driver.NotApplied},
		"created anew":           {now(9, 6, 3, "theirs"), driver.Unknown, driver.Unknown},
		"at Prev":                {now(5, 3, 3, "theirs"), driver.Unknown, driver.Unknown},
		"another history":        {other, driver.Unknown, driver.Unknown},
		"nothing known of it":    {unknown, driver.Unknown, driver.Unknown},
		"absent":                 {driver.Entry{Key: "k", Generation: 1}, driver.Unknown, driver.Unknown},
	} {
		for remove, want := range map[bool]driver.Outcome{false: test.write, true: test.gone} {
			if got := s.Resolve(driver.Swap{Key: "k", Prev: prev, Value: []byte("v"), Remove: remove}, test.now); got != want {
				t.Errorf("%s, a removal: %v: %v, want %v", name, remove, got, want)
			}
		}
	}
	if got := s.Resolve(driver.Swap{Key: "k", Prev: driver.Entry{Key: "k", Generation: 1}, Value: []byte("v")}, now(9, 9, 1, "theirs")); got != driver.Unknown {
		t.Errorf("a creation: %v", got)
	}
}

// A value of the limit makes a proposal of the limit, however long the rest of it is.
func TestLimitsFollowFromTheRequest(t *testing.T) {
	cfg := DefaultConfig()
	cfg.MaxRequestBytes = 100_000
	limits := cfg.limits()
	w := driver.Swap{Key: strings.Repeat("k", limits.Key), Value: make([]byte, limits.Value)}
	w.Prev.Version = math.MaxInt64
	if got := cfg.proposalSize(w); got > cfg.MaxRequestBytes || got < cfg.MaxRequestBytes-8 || limits.Guards != maxGuards {
		t.Errorf("the largest value makes %d bytes of %d", got, cfg.MaxRequestBytes)
	}
	w.Value, w.Guards = make([]byte, limits.GuardedValue), slices.Repeat([]driver.Guard{{Key: w.Key, Version: math.MaxInt64}}, limits.Guards)
	if got := cfg.proposalSize(w); got > cfg.MaxRequestBytes || got < cfg.MaxRequestBytes-8 {
		t.Errorf("the largest guarded value makes %d bytes of %d", got, cfg.MaxRequestBytes)
	}
}

func TestIntervalsEnd(t *testing.T) {
	s := &store{cfg: Config{Root: "/r/"}}
	for _, test := range []struct{ prefix, after, from, end string }{
		{"", "", "/r/", "/r0"}, {"a", "", "/r/a", "/r/b"}, {"a", "a1", "/r/a1\x00", "/r/b"},
	} {
		if from, end := s.interval(test.prefix, test.after); string(from) != test.from || string(end) != test.end {
			t.Errorf("%q after %q: %q to %q", test.prefix, test.after, from, end)
		}
	}
	for prefix, want := range map[string]string{"": "\x00", "\xff": "\x00", "a\xff": "b"} {
		for _, after := range []string{"", prefix + "x"} {
			if _, end := interval(prefix, after); string(end) != want {
				t.Errorf("%q after %q ends with %q, want %q", prefix, after, end, want)
			}
		}
	}
}

// Refused by every endpoint, a call needn't be tried again; a closed store says so.
func TestWrapOfRefusedAndClosed(t *testing.T) {
	cfg := DefaultConfig()
	cfg.TLS.Enabled = true
	s := open(t, cfg)
	refused := &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}
	gone := status.Error(codes.Unavailable, "transport: authentication handshake failed: "+refused.Error())
	if err := s.wrap(t.Context(), gone); driver.IsPermanent(err) {
		t.Errorf("though nobody refused: %v", err)
	}
	s.refused.note(s.endpoints()[0], refused)
	if err := s.wrap(t.Context(), gone); !driver.IsPermanent(err) || !errors.Is(err, refused) {
		t.Errorf("refused: %v", err)
	}
	s.close()
	if err := s.wrap(t.Context(), gone); err != driver.ErrClosed { //nolint:errorlint // the very error
		t.Errorf("closed: %v", err)
	}
}
