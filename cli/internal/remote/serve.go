// Package remote puts a client of polykv into another process: Serve is that
// process's side, Open the side of its parent, and lines of JSON on stdin and
// stdout go between them. Values are strings.
package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/polykv/polykv/kv"
)

// OpenFunc opens the client that a configuration, as given to Open, says. The
// observer is to be told what its engine does.
type OpenFunc func(ctx context.Context, config []byte, observer kv.Observer) (kv.Client, error)

// Serve opens a client, with values of type string, and does on it what in
// says, until in ends, which is no error, or ctx does and in too. It closes
// the client. If the client can't be opened the parent is told, and Serve
// returns nil.
func Serve(ctx context.Context, in io.Reader, out io.Writer, open OpenFunc) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &server{enc: json.NewEncoder(out), calls: map[uint64]*served{}}
	dec := json.NewDecoder(in)
	var first opening
	if err := dec.Decode(&first); err != nil {
		return fmt.Errorf("the first message, which is to say the configuration: %w", err)
	}
	client, err := open(ctx, first.Config, &s.gatherer)
	if err != nil {
		return s.send(message{Kind: kindEnd, Error: toWire(err)})
	}
	s.client = client
	if err = s.send(message{Kind: kindEnd}); err == nil {
		err = s.read(ctx, dec)
	}
	cancel()
	err = errors.Join(err, client.Close())
	s.running.Wait()
	return err
}

// server is the state of Serve.
type server struct {
	client   kv.Client
	gatherer gatherer
	running  sync.WaitGroup

	writing sync.Mutex
	enc     *json.Encoder

	mu    sync.Mutex
	calls map[uint64]*served
}

// served is a call of the parent's.
type served struct {
	server  *server
	ctx     context.Context // of this call
	cancel  context.CancelFunc
	request message
	answers chan message
}

func (s *server) send(m message) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	m.Seen = s.gatherer.take()
	return s.enc.Encode(m)
}

// read takes messages in until there are no more. It never waits for a call.
func (s *server) read(ctx context.Context, dec *json.Decoder) error {
	for {
		var m message
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("a message of the parent: %w", err)
		}
		if err := s.take(ctx, m); err != nil {
			return err
		}
	}
}

// take takes one message in.
func (s *server) take(ctx context.Context, m message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	call := s.calls[m.Call]
	switch m.Kind {
	case kindAnswer:
		if call == nil {
			return nil // it ended meanwhile
		}
		select {
		case call.answers <- m:
		default:
			return fmt.Errorf("two answers to one callback of call %d", m.Call)
		}
	case kindCancel:
		if call != nil {
			call.cancel()
		}
	case kindGet, kindList, kindCAS, kindDelete, kindWatch:
		if call != nil {
			return fmt.Errorf("call %d began twice", m.Call)
		}
		call = &served{server: s, request: m, answers: make(chan message, 1)}
		call.ctx, call.cancel = context.WithCancel(ctx)
		s.calls[m.Call] = call
		s.running.Go(call.run)
	default:
		return fmt.Errorf("unknown kind of message %q", m.Kind)
	}
	return nil
}

// run makes the call and tells its result.
func (c *served) run() {
	defer c.cancel()
	result, err := c.do()
	result.Call, result.Kind, result.Error = c.request.Call, kindEnd, toWire(err)
	c.server.mu.Lock()
	delete(c.server.calls, c.request.Call)
	c.server.mu.Unlock()
	_ = c.server.send(result) // without a parent there is nobody to tell
}

func (c *served) do() (result message, err error) {
	client, key := c.server.client, string(c.request.Key)
	switch c.request.Kind {
	case kindGet:
		value, err := client.Get(c.ctx, key)
		if err == nil {
			err = result.setValue(value)
		}
		return result, err
	case kindList:
		keys, err := client.List(c.ctx, key)
		for _, k := range keys {
			result.Keys = append(result.Keys, []byte(k))
		}
		return result, err
	case kindDelete:
		return result, client.Delete(c.ctx, key)
	case kindCAS:
		return result, client.CAS(c.ctx, key, c.compare)
	case kindWatch:
		client.WatchPrefix(c.ctx, key, c.event)
	}
	return result, nil
}

// compare lets the parent's callback of CAS decide.
func (c *served) compare(in any) (any, bool, error) {
	answer, err := c.ask("", in)
	switch {
	case err != nil:
		return nil, false, err
	case answer.Error != nil:
		return nil, answer.Go, &callbackError{answer.Error.Text}
	case answer.Remove:
		return kv.Remove, answer.Go, nil
	default:
		return answer.value(), answer.Go, nil
	}
}

// event lets the parent's callback of a watch see an event. Waiting for it
// bounds what is on the way, and lets the engine leave states out.
func (c *served) event(key string, value any) bool {
	answer, err := c.ask(key, value)
	return err == nil && answer.Go
}

// ask makes a callback and waits for the answer.
func (c *served) ask(key string, value any) (answer message, err error) {
	m := message{Call: c.request.Call, Kind: kindCallback, Key: []byte(key)}
	if err := m.setValue(value); err != nil {
		return answer, err
	}
	if err := c.server.send(m); err != nil {
		return answer, err
	}
	select {
	case answer = <-c.answers:
		return answer, nil
	case <-c.ctx.Done():
		return answer, c.ctx.Err()
	}
}
