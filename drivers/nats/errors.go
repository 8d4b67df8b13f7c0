package nats

import (
	"context"
	"errors"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/kit"
)

// refusal is the server's word that a message may not be published, which it
// says before anybody else gets it.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// The server's codes of errors (server/errors.json) that the library has no names
// for.
const (
	codeInsufficientResources = 10023 // of the server; checked before a message is stored
	codeMemoryExceeded        = 10028 // of the account; likewise
	codeStorageExceeded       = 10047
	codeAccountExceeded       = 10002
	codeStoreFailed           = 10077 // also for errors of a disk
	codeMessageTooLarge       = 10054
	codeStreamSealed          = 10109
	codeOtherWrite            = 10164 // of the key, under way
	codeIncompleteBatch       = 10176
	codeTooManyBatches        = 10210
)

// code returns the code of a JetStream error in err, 0 if there is none.
func code(err error) jetstream.ErrorCode {
	var js jetstream.JetStreamError
	if errors.As(err, &js) && js.APIError() != nil {
		return js.APIError().ErrorCode
	}
	return 0
}

// isFull reports whether err says that the stream, account or server has no room.
// Of a stream's own limits the server says so in words.
func isFull(err error) bool {
	switch code(err) {
	case codeInsufficientResources, codeMemoryExceeded, codeStorageExceeded, codeAccountExceeded:
		return true
	case codeStoreFailed:
		return strings.Contains(err.Error(), "maximum bytes exceeded") || strings.Contains(err.Error(), "maximum messages exceeded")
	}
	return false
}

// isConflict reports whether err says that a subject is not at the sequence that
// was expected, or that another write of it is under way.
func isConflict(err error) bool {
	c := code(err)
	return c == jetstream.JSErrCodeStreamWrongLastSequence || c == codeOtherWrite
}

// outcome tells what became of a write that was sent and ended with err. What is
// not listed is unknown. The server checks all of these before it stores the
// message or proposes it to the other replicas (processJetStreamMsg and
// checkMsgHeadersPreClusteredProposal of nats-server 2.15).
func outcome(err error) driver.Outcome {
	switch code(err) {
	case jetstream.JSErrCodeStreamWrongLastSequence:
		return driver.Conflict
	case codeOtherWrite, codeMessageTooLarge, codeStreamSealed, codeIncompleteBatch, codeTooManyBatches:
		return driver.NotApplied
	}
	// Nobody was there to get the message, and the library sent nothing that is
	// too large.
	if isFull(err) || errors.As(err, &refusal{}) || errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrMaxPayload) {
		return driver.NotApplied
	}
	return driver.Unknown
}

func isPermission(err error) bool {
	return kit.IsAny(err, nats.ErrPermissionViolation, nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired)
}

// wrap gives err, the end of a call that ran under ctx, a form that the engine
// can match.
func wrap(ctx context.Context, err error) error {
	var class error
	switch {
	case isPermission(err):
		class = driver.ErrPermission
	case isFull(err):
		class = driver.ErrFull
	case errors.Is(err, nats.ErrMaxPayload), code(err) == codeMessageTooLarge:
		class = driver.ErrTooLarge
	}
	return kit.Wrap(ctx, err, class)
}
