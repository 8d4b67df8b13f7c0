package coordination_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/coordination"
	"github.com/polykv/polykv/kv/memberlist"
)

// attend is a child that joins, or observes.
func attend(ctx context.Context, role string, c kv.Client) error {
	p, err := coordination.NewPresence(c, "ring", coordination.Options{TTL: serverTTL, Logger: quiet})
	if err != nil {
		return err
	}
	defer p.Close()
	if role == "join" {
		m, err := p.Join(ctx, fmt.Sprint(os.Getpid()), "a process")
		if err != nil {
			return err
		}
		fmt.Println("joined")
		<-m.Done()
		return m.Err()
	}
	for members, err := range p.Watch(ctx) {
		if err != nil {
			return err
		}
		fmt.Println("members:", text(members))
	}
	return nil
}

// gossiping is the configuration of clients that are nodes of one cluster, of
// which the test is one.
func gossiping(t *testing.T) string {
	const config = "{backend: memberlist, memberlist: {bind_address: 127.0.0.1, bind_port: 0, cluster_label: test, join: [%s]}}"
	c, _, err := participant(t.Context(), fmt.Sprintf(config, ""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	node, ok := kv.As[memberlist.Noder](c)
	if !ok {
		t.Fatal("no node")
	}
	return fmt.Sprintf(config, strconv.Quote(node.Node().Address()))
}

// A process that observes is stopped for longer than a TTL, and takes nobody for
// dead when it wakes; a member that is killed is told gone.
func TestObserverProcessIsStopped(t *testing.T) {
	t.Parallel()
	stop := 3 * serverTTL
	if os.Getenv("POLYKV_SOAK") != "" {
		stop = time.Minute
	}
	configs := servers(t)
	configs["gossip"] = gossiping(t)
	for backend, config := range configs {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			c, _, err := participant(ctx, config)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			mine, err := coordination.NewPresence(c, "ring", coordination.Options{TTL: serverTTL, Logger: quiet})
			if err != nil {
				t.Fatal(err)
			}
			defer mine.Close()
			join(t, mine, "a", "")
			join(t, mine, "b", "")
			killed := start(t, "join", config)
			if got := killed.line(); got != "joined" {
				t.Fatalf("a member says %q", got)
			}
			everybody := fmt.Sprintf("members: %d=a process a= b=", killed.Process.Pid)
			observer := start(t, "observe", config)
			got := observer.line()
			for got != everybody && got != "" { // on gossip they become known one by one
				got = observer.line()
			}
			if err := observer.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			time.Sleep(stop) // nothing happens meanwhile
			if err := observer.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			time.Sleep(serverTTL)
			join(t, mine, "c", "")
			if got := observer.line(); got != everybody+" c=" {
				t.Errorf("the first news after it woke is %q, want that c joined", got)
			}
			if err := killed.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = killed.Wait() // it was killed
			began := time.Now()
			for members, err := range mine.Watch(ctx) {
				if err != nil || strings.HasPrefix(text(members), "a=") {
					t.Logf("gone to others after %v, %v", time.Since(began), err)
					break
				}
			}
			if got := observer.line(); got != "members: a= b= c=" {
				t.Errorf("after one was killed the observer says %q", got)
			}
			if err := errors.Join(observer.Process.Kill(), ctx.Err()); err != nil {
				t.Error(err)
			}
			_ = observer.Wait() // it was killed
		})
	}
}

// A member whose token may write keys and make no sessions beats instead.
func TestMemberWithoutRightToLeases(t *testing.T) {
	c := servertest.Consul(t, testserver.Options{Auth: true})
	token, err := c.AddToken(t.Context(), `key_prefix "" { policy = "write" }`)
	if err != nil {
		t.Fatal(err)
	}
	client, _, err := participant(t.Context(), fmt.Sprintf("{backend: consul, consul: {address: %q, token: %q}}", c.Endpoints()[0], token))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	p, err := coordination.NewPresence(client, "ring", coordination.Options{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	join(t, p, "a", "x")
	wantMembers(t, p, "a=x")
	if keys, err := client.List(t.Context(), "ring/"); err != nil || !slices.Equal(keys, []string{"ring/beats/a", "ring/members/a"}) {
		t.Errorf("the store holds %v, %v", keys, err)
	}
}
