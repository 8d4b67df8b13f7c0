package nats

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/kit"
)

// delivered is a message of a consumer.
func delivered(subject string, sequence, consumer, pending int) *nats.Msg {
	return &nats.Msg{
		Subject: subject, Data: []byte("v"), Sub: &nats.Subscription{},
		Reply: fmt.Sprintf("$JS.ACK.KV_b.c.1.%d.%d.1700000000000000000.%d", sequence, consumer, pending),
	}
}

// status is a message of the server's own.
func status(pairs ...string) *nats.Msg {
	m := nats.NewMsg("inbox")
	for i := 0; i < len(pairs); i += 2 {
		m.Header.Set(pairs[i], pairs[i+1])
	}
	return m
}

// What is delivered counts: what is missing ends a session, and so does what can't be
// read.
func TestMessagesOfASession(t *testing.T) {
	ss := &session{store: &store{subjects: "$KV.b.", history: kit.NewHistory()}, rng: driver.Range{Key: "p", IsPrefix: true}}
	ss.mark = ss.history.Mark()
	e, ok, err := ss.handle(t.Context(), delivered("$KV.b.p1", 5, 1, 2))
	if err != nil || !ok || e.Key != "p1" || e.Version != 5 || e.Generation != ss.mark.Gen || ss.last != 5 || ss.pending != 2 {
		t.Errorf("%+v, %v, %v; %+v", e, ok, err, ss)
	}
	for _, subject := range []string{"$KV.b.q", "$KV.b.p=guard"} {
		if _, ok, err := ss.handle(t.Context(), delivered(subject, 6, int(ss.received)+1, 1)); ok || err != nil {
			t.Errorf("%s: %v, %v", subject, ok, err)
		}
	}
	if _, _, err := ss.handle(t.Context(), delivered("$KV.b.p1", 9, int(ss.received)+2, 0)); !errors.Is(err, errGap) {
		t.Errorf("one was skipped: %v", err)
	}
	if _, _, err := ss.handle(t.Context(), &nats.Msg{Subject: "$KV.b.p1", Sub: &nats.Subscription{}}); !errors.Is(err, nats.ErrMsgNoReply) {
		t.Errorf("without a number: %v", err)
	}
	if _, _, err := ss.handle(t.Context(), status("Status", "409", "Description", "Consumer Deleted")); err == nil || !strings.Contains(err.Error(), "409 Consumer Deleted") {
		t.Errorf("an end: %v", err)
	}

	ss.received, ss.pending = 3, 7
	heartbeat := func(last string) error {
		_, ok, err := ss.handle(t.Context(), status("Status", "100", "Nats-Last-Consumer", last))
		if ok {
			t.Error("a heartbeat is an entry")
		}
		return err
	}
	if err := heartbeat("4"); !errors.Is(err, errGap) || ss.pending != 7 {
		t.Errorf("one was lost: %v", err)
	}
	if err := heartbeat("3"); err != nil || ss.pending != 0 {
		t.Errorf("nothing to send: %v, %d pending", err, ss.pending)
	}
	for cluster := range uint64(2) {
		if _, err := ss.history.Observe(ss.history.Mark(), kit.Answer{Cluster: cluster + 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := heartbeat("3"); !errors.Is(err, kit.ErrHistoryChanged) {
		t.Errorf("of another history: %v", err)
	}
	if _, _, err := ss.handle(t.Context(), delivered("$KV.b.p1", 10, int(ss.received)+1, 0)); !errors.Is(err, kit.ErrHistoryChanged) {
		t.Errorf("a message of another history: %v", err)
	}
}

// The server goes on sending when it is answered, and is told when a session ends; and
// what a snapshot waits for may be purged.
func TestSessionAnswers(t *testing.T) {
	n := start(t, nil)
	s := open(t, n.config())
	last := drivertest.Put(t, s, "k", "v")
	l, err := s.links.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other, err := nats.Connect(n.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	answers, err1 := other.SubscribeSync("answers.*")
	ends, err2 := other.SubscribeSync("$JS.API.CONSUMER.DELETE.KV_polykv.*")
	inbox, err3 := l.conn.SubscribeSync(l.conn.NewInbox())
	if err := errors.Join(err1, err2, err3, other.Flush()); err != nil {
		t.Fatal(err)
	}
	is := func(sub *nats.Subscription, subject string) {
		t.Helper()
		if m, err := sub.NextMsg(time.Minute); err != nil || !strings.HasPrefix(m.Subject, subject) {
			t.Errorf("%s: %+v, %v", subject, m, err)
		}
	}

	ss := &session{store: s, link: l, rng: driver.Range{IsPrefix: true}, mark: s.history.Mark(), target: 99, pending: 7}
	flow := status("Status", "100")
	flow.Reply, flow.Sub = "answers.flow", inbox
	for subject, m := range map[string]*nats.Msg{"answers.flow": flow, "answers.stalled": status("Status", "100", "Nats-Consumer-Stalled", "answers.stalled")} {
		if _, _, err := ss.handle(t.Context(), m); err != nil || ss.pending != 7 {
			t.Errorf("%s: %v", subject, err)
		}
		is(answers, subject)
	}
	if _, _, err := ss.handle(t.Context(), status("Status", "100", "Nats-Last-Consumer", "0")); err != nil || ss.target != uint64(last.Version) {
		t.Errorf("what is waited for is %d: %v", ss.target, err)
	}

	ss.target, ss.rng = 99, driver.Range{Key: "purged"}
	if _, _, err := ss.handle(t.Context(), status("Status", "100", "Nats-Last-Consumer", "0")); err != nil || ss.target != 0 {
		t.Errorf("what is waited for is %d, and nothing is there: %v", ss.target, err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	f := drivertest.Follow(ctx, t, s, driver.Range{Key: "k"}, nil)
	f.Sees(t, map[string]string{"k": "v"})
	cancel()
	if err := f.Ends(t); !errors.Is(err, context.Canceled) {
		t.Errorf("the session ended: %v", err)
	}
	is(ends, "$JS.API.CONSUMER.DELETE.KV_polykv.")
}

// What the server says that it has to send is an estimate: a snapshot is complete when
// the leader has nothing later, or when every key has come.
func TestSnapshotWaitsForEveryKey(t *testing.T) {
	s := open(t, start(t, nil).config())
	at := map[string]int{}
	put := func(key string) { at[key] = int(drivertest.Put(t, s, key, "v").Version) }
	put("a")
	put("b")
	put("a") // after b
	l, err := s.links.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	begun := func() *session {
		return &session{store: s, link: l, rng: driver.Range{IsPrefix: true}, mark: s.history.Mark(), snapshot: map[string]driver.Entry{}}
	}
	comes := func(ss *session, key string, complete bool) {
		t.Helper()
		e, _, err := ss.handle(t.Context(), delivered("$KV.polykv."+key, at[key], int(ss.received)+1, 0))
		if err != nil {
			t.Fatal(err)
		}
		ss.snapshot[e.Key] = e
		if ok, err := ss.complete(t.Context()); err != nil || ok != complete {
			t.Errorf("after %s at %d it is complete: %v, %v; want %v", key, at[key], ok, err, complete)
		}
	}

	ss := begun()
	comes(ss, "b", false)
	comes(ss, "a", true)

	ss = begun()
	for range 5 {
		comes(ss, "b", false)
		put("b")
		put("a")
	}
	comes(ss, "a", true) // the last of the range

	ss = begun() // there is always something later
	comes(ss, "b", false)
	put("b")
	comes(ss, "a", false)
	old := at["b"]
	put("b")
	at["b"] = old
	comes(ss, "b", true)
}

// Keys that are written again and again are in every listing.
func TestHotKeysAreListed(t *testing.T) {
	s := open(t, start(t, nil).config())
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	defer writers.Wait()
	defer cancel()
	const hot = 8
	for i := range hot {
		e := drivertest.Put(t, s, strconv.Itoa(i), "v")
		writers.Go(func() {
			for ctx.Err() == nil {
				if r, err := s.Swap(ctx, driver.Swap{Key: e.Key, Prev: e, Value: []byte("v"), ID: 1}); err == nil {
					e.Version = r.Entry.Version
				} else if ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 200 {
		page, err := s.Scan(t.Context(), driver.ScanRequest{})
		if err != nil || len(page.Entries) != hot {
			t.Fatalf("%d keys are listed, and %d are there: %v", len(page.Entries), hot, err)
		}
	}
}

// A session that is refused leaves nothing behind on the connection.
func TestRefusedSession(t *testing.T) {
	n := start(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "app", Password: "secret", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Deny: []string{"$JS.API.CONSUMER.CREATE.>"}},
		}}}
	})
	cfg := n.config()
	cfg.Username, cfg.Password = "app", config.NewSecret("secret")
	s := open(t, cfg)
	drivertest.Put(t, s, "k", "v")
	l, err := s.links.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := l.conn.NumSubscriptions()
	if err := s.Watch(t.Context(), driver.WatchRequest{Range: driver.Range{Key: "k"}}, nil); !errors.Is(err, driver.ErrPermission) {
		t.Errorf("the session ended: %v", err)
	}
	drivertest.Eventually(t, func() error { // the request may end after the call
		if now := l.conn.NumSubscriptions(); now != before {
			return fmt.Errorf("%d subscriptions, %d before", now, before)
		}
		return nil
	})
}

// A stream that was set back with its server is another history.
func TestStreamIsSetBack(t *testing.T) {
	n := start(t, nil)
	s := open(t, n.config())
	drivertest.Put(t, s, "k", "1")
	again := func() (now driver.Entry) { // on another connection
		drivertest.Eventually(t, func() (err error) {
			now, err = s.Get(t.Context(), driver.GetRequest{Key: "k"})
			return err
		})
		return now
	}
	restore, err := n.snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again()
	before := drivertest.Put(t, s, "k", "2")
	if err := restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now := again(); string(now.Value) != "1" || now.Generation == before.Generation {
		t.Errorf("%+v, and before %+v", now, before)
	}
}
