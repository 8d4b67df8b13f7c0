package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
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
}

func (a *answering) Range(_ context.Context, req *pb.RangeRequest, _ ...grpc.CallOption) (*pb.RangeResponse, error) {
	a.ranges = append(a.ranges, &pb.RangeRequest{CountOnly: req.CountOnly, KeysOnly: req.KeysOnly, Limit: req.Limit, MinModRevision: req.MinModRevision, Revision: req.Revision, Serializable: req.Serializable})
	return a.answer(req)
}

func (a *answering) Txn(_ context.Context, _ *pb.TxnRequest, opts ...grpc.CallOption) (*pb.TxnResponse, error) {
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
			case r.KeysOnly && r.Limit == 1:
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
	page(12, false, "c")
	next, asked, err := scan(driver.ScanRequest{After: "b", Snapshot: first.Snapshot})
	if err != nil || next.More || asked.Limit != 8 || asked.Revision != 10 || next.Snapshot.(*snapshot).rev != 10 {
		t.Errorf("next page: %v, %v, asked for %v", next, err, asked)
	}
	if _, asked, _ = scan(driver.ScanRequest{Limit: 3}); asked.Limit != 3 {
		t.Errorf("a limit of 3 became %d", asked.Limit)
	}
	names, asked, err := scan(driver.ScanRequest{KeysOnly: true})
	if err != nil || asked.Limit != int64(s.cfg.ScanPageSize) || !asked.KeysOnly || len(names.Entries) != 1 || names.Entries[0].Key != "c" || names.Entries[0].Version != 1 || names.Entries[0].Value != nil || names.Snapshot.(*snapshot).limit != firstPage {
		t.Errorf("keys only: %+v, %v, asked for %v", names, err, asked)
	}
	if bare, _, err := scan(driver.ScanRequest{KeysOnly: true, Bare: true}); err != nil || !slices.Equal(bare.Keys, []string{"c"}) || bare.Entries != nil {
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
