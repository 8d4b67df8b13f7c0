package coordination

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// holder is what name/holder holds: who has the lock. The ID is that of an
// attempt; empty: the lock is free.
type holder struct {
	ID    string `json:"id"`
	Value string `json:"value,omitempty"`
	Term  uint64 `json:"term"`
}

// beat is what name/beats/SESSION holds, and name/beats/ID of a member. It is
// never twice the same.
type beat struct {
	N   uint64 `json:"n"`
	Run string `json:"run,omitempty"` // of a member
}

// record is what name/members/ID holds.
type record struct {
	Run  string `json:"run"` // names one membership
	Data string `json:"data,omitempty"`
	Node string `json:"node,omitempty"` // the instance of its process, where the store knows these

	Leased bool `json:"leased,omitempty"` // the store removes it
}

// names are the keys of one lock or presence.
type names struct{ name string }

func (n names) all() string                { return n.name + "/" }
func (n names) holder() string             { return n.name + "/holder" }
func (n names) queue() string              { return n.name + "/queue" }
func (n names) members() string            { return n.name + "/members/" }
func (n names) member(id string) string    { return n.members() + id }
func (n names) beats() string              { return n.name + "/beats/" }
func (n names) beat(session string) string { return n.beats() + session }

// ownPart returns what follows prefix in a key of this lock or presence; below
// it may lie another one.
func ownPart(key, prefix string) (string, bool) {
	part, ok := strings.CutPrefix(key, prefix)
	return part, ok && !strings.Contains(part, "/")
}

// checkText refuses what a record would hold otherwise than it was given.
func checkText(what, text string) error {
	if utf8.ValidString(text) {
		return nil
	}
	return fmt.Errorf("%s %q is not valid UTF-8", what, text)
}

// fail says of which call an error is; ErrHeld is one as it stands.
func (n names) fail(op string, err error) error {
	if err == nil || errors.Is(err, ErrHeld) {
		return err
	}
	return fmt.Errorf("coordination: %s %q: %w", op, n.name, err)
}

// sessionOf returns whose beat an attempt lives by.
func sessionOf(attempt string) string {
	session, _, _ := strings.Cut(attempt, ".")
	return session
}

// decode reads a record; an absent one is its zero value.
func decode[T any](key string, value any) (record T, err error) {
	if value == nil {
		return record, nil
	}
	data, ok := value.([]byte)
	if !ok {
		return record, fmt.Errorf("coordination: %q: the store showed a %T instead of bytes", key, value)
	}
	if err := json.Unmarshal(data, &record); err != nil {
		return record, fmt.Errorf("coordination: %q holds no record of a lock: %w", key, err)
	}
	return record, nil
}

func encode(record any) []byte {
	data, err := json.Marshal(record)
	if err != nil {
		panic("coordination: " + err.Error()) // structs of strings and numbers
	}
	return data
}
