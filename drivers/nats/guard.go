package nats

import (
	"context"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/polykv/polykv/kv/driver"
)

// maxGuards is how many guards a write or read may carry: one message each.
const maxGuards = 8

// check reads the guards. Whoever names a version has seen it, and versions never
// come back: a guard that holds now has held all the time since the call began.
func (s *store) check(ctx context.Context, l *link, guards []driver.Guard) error {
	for _, g := range guards {
		if e, err := s.read(ctx, l, g.Key); err != nil {
			return err
		} else if e.Version != g.Version {
			return driver.ErrFenced
		}
	}
	return nil
}

// guard makes msg the last one of a batch, which is stored as a whole or not at
// all. A message can ask for the state of one subject that it doesn't write, so
// there is one for each guard. Nobody reads them, and their subject is no key's.
func (s *store) guard(l *link, msg *nats.Msg, guards []driver.Guard) error {
	if len(guards) == 0 {
		return nil
	}
	id := nuid.Next()
	number := func(msg *nats.Msg, i int) {
		msg.Header.Set("Nats-Batch-Id", id)
		msg.Header.Set("Nats-Batch-Sequence", strconv.Itoa(i))
	}
	for i, g := range guards {
		ask := nats.NewMsg(string(s.subjects) + "=guard")
		ask.Header.Set(headerExpected, strconv.FormatUint(uint64(g.Version), 10))
		ask.Header.Set("Nats-Expected-Last-Subject-Sequence-Subject", s.subjects.of(g.Key))
		number(ask, i+1)
		if err := l.conn.PublishMsg(ask); err != nil {
			return err
		}
	}
	number(msg, len(guards)+1)
	msg.Header.Set("Nats-Batch-Commit", "1")
	return nil
}
