package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/polykv/polykv/kv"
)

const (
	// closeTimeout is how long a process may take to end after it was told to;
	// then it is killed.
	closeTimeout = 10 * time.Second

	// settleTimeout is how long a write whose context has ended waits to learn
	// whether it was made.
	settleTimeout = 5 * time.Second
)

// Peer is a process that runs Serve.
type Peer struct {
	Name string // for errors
	In   io.WriteCloser
	Out  io.Reader
	Kill func()       // ends it at once; may be called when it has ended
	Wait func() error // returns when it has ended; called once, after Out has ended
}

// client is the parent's side.
type client struct {
	peer     Peer
	observer kv.Observer
	closing  chan struct{} // Close was called
	close    sync.Once
	ended    chan struct{} // the process has
	failure  error         // why it ended; to be read after ended

	writing sync.Mutex
	enc     *json.Encoder

	mu    sync.Mutex
	next  uint64 // the number of the next call
	calls map[uint64]*call
}

// call is a call that has not ended.
type call struct {
	number uint64
	inbox  chan message
	left   chan struct{} // nobody reads inbox any more
}

// Open lets the process open its client, by a configuration that must be JSON,
// and returns a client of that client. The process belongs to the client: it
// ends with Close, or here if there is an error. A process that ended by
// itself makes calls fail, by an error that names it and matches
// kv.ErrUnavailable, or kv.ErrIndeterminate for a write that it may have made.
func Open(ctx context.Context, peer Peer, config []byte, observer kv.Observer) (kv.Client, error) {
	c := &client{
		peer: peer, observer: observer, enc: json.NewEncoder(peer.In), calls: map[uint64]*call{},
		closing: make(chan struct{}), ended: make(chan struct{}),
	}
	opened := c.begin()
	go c.read()
	c.writing.Lock()
	err := c.enc.Encode(opening{Config: config})
	c.writing.Unlock()
	if err == nil || c.hasEnded() {
		var m message
		if m, err = c.receive(ctx, opened); err == nil {
			err = fromWire(m.Error, nil)
		}
	}
	c.leave(opened)
	if err != nil {
		_ = c.Close() // the first error tells more
		return nil, fmt.Errorf("%s: %w", peer.Name, err)
	}
	return c, nil
}

// hasEnded waits a little for the end that a failed write is a sign of, whose
// cause tells more.
func (c *client) hasEnded() bool {
	select {
	case <-c.ended:
		return true
	case <-time.After(time.Second):
		return false
	}
}

// read hands the process's messages out until there are no more, and waits for
// its end.
func (c *client) read() {
	defer close(c.ended)
	dec := json.NewDecoder(c.peer.Out)
	var err error
	for err == nil {
		var m message
		if err = dec.Decode(&m); err == nil {
			m.Seen.tell(c.observer)
			c.deliver(m)
		}
	}
	switch {
	case errors.Is(err, io.EOF):
		err = nil
	default:
		err = fmt.Errorf("it wrote what is no message: %w", err)
		c.peer.Kill()
	}
	limit := time.AfterFunc(closeTimeout, c.peer.Kill)
	exit := c.peer.Wait()
	limit.Stop()
	c.failure = errors.Join(err, exit)
}

// deliver waits until the call has taken the message.
func (c *client) deliver(m message) {
	c.mu.Lock()
	call := c.calls[m.Call]
	c.mu.Unlock()
	if call == nil {
		return // it was left
	}
	select {
	case call.inbox <- m:
	case <-call.left:
	case <-c.closing:
	}
}

// begin registers a call. Number 0 is the opening.
func (c *client) begin() *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	call := &call{number: c.next, inbox: make(chan message, 1), left: make(chan struct{})}
	c.calls[call.number] = call
	c.next++
	return call
}

func (c *client) leave(call *call) {
	close(call.left)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.calls, call.number)
}

func (c *client) send(m message) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.enc.Encode(m)
}

// receive waits for the call's next message.
func (c *client) receive(ctx context.Context, call *call) (message, error) {
	select {
	case <-c.closing:
		return message{}, kv.ErrClosed
	case m := <-call.inbox:
		return m, nil
	case <-c.ended:
	case <-ctx.Done():
		return message{}, ctx.Err()
	}
	select {
	case m := <-call.inbox: // what it said before it ended
		return m, nil
	default:
		return message{}, c.gone()
	}
}

// gone is the error of calls after the process has ended.
func (c *client) gone() error {
	select {
	case <-c.closing:
		return kv.ErrClosed
	default:
	}
	if c.failure == nil {
		return fmt.Errorf("%w: the process ended by itself", kv.ErrUnavailable)
	}
	return fmt.Errorf("%w: the process ended by itself: %w", kv.ErrUnavailable, c.failure)
}

// do makes a call. answer is given every callback, and what the call ends with
// matches its last error; it may panic.
func (c *client) do(ctx context.Context, op string, request message, answer func(message) (message, error)) (message, error) {
	fail := func(err error) (message, error) {
		return message{}, &kv.Error{Op: op, Backend: c.peer.Name, Key: string(request.Key), Err: err}
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	select {
	case <-c.closing:
		return fail(kv.ErrClosed)
	case <-c.ended:
		return fail(c.gone())
	default:
	}
	call := c.begin()
	request.Call = call.number
	over := false
	defer func() {
		c.leave(call)
		if !over { // cancelled, or the callback panicked
			_ = c.send(message{Call: call.number, Kind: kindCancel}) // one that has ended has no use for it
		}
	}()
	writes := request.Kind == kindDelete // the process may have made a write
	m := request
	var err, callback error
	for {
		if err = c.send(m); err == nil || c.hasEnded() {
			m, err = c.receive(ctx, call)
		} else {
			err = fmt.Errorf("%w: the process doesn't read: %w", kv.ErrUnavailable, err)
		}
		if err != nil && writes {
			m, err = c.settle(call, err)
		}
		if err != nil {
			return fail(err)
		}
		if m.Kind == kindEnd {
			over = true
			return m, fromWire(m.Error, callback)
		}
		if answer == nil || m.Kind != kindCallback {
			return fail(fmt.Errorf("%w: the process sent a message of kind %q, which was not due", kv.ErrUnavailable, m.Kind))
		}
		m, callback = answer(m)
		m.Call, m.Kind, m.Error = call.number, kindAnswer, toWire(callback)
		writes = writes || request.Kind == kindCAS && m.Error == nil && (m.Present || m.Remove)
	}
}

// settle waits for the outcome of a write that was interrupted by err.
func (c *client) settle(call *call, err error) (message, error) {
	unknown := fmt.Errorf("%w: %w", kv.ErrIndeterminate, err)
	interrupted := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
	if !interrupted || c.send(message{Call: call.number, Kind: kindCancel}) != nil {
		return message{}, unknown
	}
	ctx, cancel := context.WithTimeout(context.Background(), settleTimeout)
	defer cancel()
	for {
		m, nextErr := c.receive(ctx, call)
		switch outcome := fromWire(m.Error, nil); {
		case nextErr != nil, errors.Is(outcome, kv.ErrIndeterminate):
			return message{}, unknown
		case m.Kind == kindCallback: // from before it was cancelled, which ends it
		case errors.Is(outcome, context.Canceled):
			return message{}, err
		default:
			return m, nil
		}
	}
}

// Close implements kv.Client. It ends the process, by force if that takes more
// than 10 seconds.
func (c *client) Close() error {
	first := false
	c.close.Do(func() {
		first = true
		close(c.closing)
		_ = c.peer.In.Close() // the process may have closed it
	})
	limit := time.AfterFunc(closeTimeout, c.peer.Kill)
	defer limit.Stop()
	<-c.ended
	if !first || c.failure == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", c.peer.Name, c.failure)
}
