package side

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/polykv/polykv/kv"
)

// RecordKey is the reserved key, below a client's prefix, that holds a store's
// record. Its version is what everybody's writes to the store are guarded by.
const RecordKey = kv.ReservedSegment + "/record"

// State says what a store may be used for.
type State string

// The states of a store.
const (
	Primary State = "primary" // clients read and write it
	Standby State = "standby" // it is mirrored into
	Sealed  State = "sealed"  // it was primary and takes no writes
	Filling State = "filling" // it is being completed by a cutover
	Retired State = "retired" // it is out of use
)

// States lists every state.
var states = []State{Primary, Standby, Sealed, Filling, Retired}

// Record is a store's own record. It is written by the commands of a
// migration only, each time with a fresh Run, and is never deleted.
type Record struct {
	State State `json:"state"`

	// Epoch grows with every change of the primary. Of two records that both
	// say primary, because they were read at different moments, the one with
	// the higher epoch is right.
	Epoch uint64 `json:"epoch"`

	Migration string `json:"migration"` // names the migration, the same in both stores

	// Source and Target are the names of both stores, as migrate start was
	// told them, and Store is the one of them that this record lies in: it
	// shows when a configuration has the two the wrong way round.
	Source string `json:"source"`
	Target string `json:"target"`
	Store  string `json:"store"`

	Run string `json:"run"` // names the write that made this record; no two are alike

	// Final, of a sealed store, says that the other store may be made primary
	// by whoever wrote this. Until then an abort that can't reach the other
	// store may unseal this one by itself; afterwards it must change the other
	// one first.
	Final bool `json:"final,omitempty"`

	// By is who wrote this record, for people. Nothing depends on it.
	By Author `json:"by,omitzero"`
}

// Author is who ran a command.
type Author struct {
	User    string    `json:"user,omitempty"`
	Host    string    `json:"host,omitempty"`
	At      time.Time `json:"at"`      // by that host's clock
	Command string    `json:"command"` // such as "cutover", or "asked before cutover" if nothing else was done
}

// String tells the author in a phrase.
func (a Author) String() string {
	if a.Command == "" {
		return "-"
	}
	who := a.User
	if a.Host != "" {
		who += "@" + a.Host
	}
	return fmt.Sprintf("%s by %s at %s", a.Command, cmp.Or(who, "somebody"), a.At.UTC().Format(time.RFC3339))
}

// ErrBadRecord is matched by errors about a record that can't be read. Whoever
// meets one must neither read nor write the store.
var ErrBadRecord = errors.New("bad migration record")

// NewID returns a random name for a migration or a run.
func NewID() string { return rand.Text() }

// Other returns the name of the other store than r's own.
func (r Record) Other() string {
	if r.Store == r.Source {
		return r.Target
	}
	return r.Source
}

// encode returns the bytes that are stored.
func (r Record) encode() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	return json.Marshal(r)
}

// decodeRecord is strict: a record that this release doesn't understand
// whole must stop it.
func decodeRecord(data []byte) (Record, error) {
	var r Record
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrBadRecord, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Record{}, fmt.Errorf("%w: there is something after its end", ErrBadRecord)
	}
	return r, r.check()
}

func (r Record) check() error {
	if !slices.Contains(states, r.State) {
		return fmt.Errorf("%w: unknown state %q; the states are %s", ErrBadRecord, r.State, stateNames())
	}
	if r.Epoch == 0 {
		return fmt.Errorf("%w: no epoch, which begins at 1", ErrBadRecord)
	}
	for _, field := range []struct{ name, value string }{
		{"migration", r.Migration}, {"source", r.Source}, {"target", r.Target}, {"store", r.Store}, {"run", r.Run},
	} {
		if field.value == "" {
			return fmt.Errorf("%w: no %s", ErrBadRecord, field.name)
		}
	}
	switch {
	case r.Source == r.Target:
		return fmt.Errorf("%w: source and target are both %q", ErrBadRecord, r.Source)
	case r.Final && r.State != Sealed:
		return fmt.Errorf("%w: final, but in state %q and not %q", ErrBadRecord, r.State, Sealed)
	case r.Store != r.Source && r.Store != r.Target:
		return fmt.Errorf("%w: store %q is neither source %q nor target %q", ErrBadRecord, r.Store, r.Source, r.Target)
	}
	return nil
}

func stateNames() string {
	names := make([]string, len(states))
	for i, s := range states {
		names[i] = string(s)
	}
	return strings.Join(names, ", ")
}

// ReadRecord reads the store's record linearizably. Version 0 means that there
// is none. A record that can't be understood is ErrBadRecord; one that names
// another store than s is ErrBadRecord too, since the configuration
// then leads to the wrong store.
func (s *Side) ReadRecord(ctx context.Context) (Record, kv.Version, error) {
	r, version, err := s.ReadRecordAny(ctx)
	if err == nil && version != 0 && r.Store != s.name {
		err = s.wrap(fmt.Sprintf("the key %q of", RecordKey),
			fmt.Errorf("%w: it is the record of store %q, but the configuration names this store %q", ErrBadRecord, r.Store, s.name))
	}
	if err != nil {
		return Record{}, 0, err
	}
	return r, version, nil
}

// ReadRecordAny is ReadRecord for those who don't know the store's name.
func (s *Side) ReadRecordAny(ctx context.Context) (Record, kv.Version, error) {
	v, err := s.versioned()
	if err != nil {
		return Record{}, 0, err
	}
	value, version, err := v.GetVersion(ctx, RecordKey)
	if err != nil {
		return Record{}, 0, s.wrap("read the record of", err)
	}
	data, exists, err := s.encode(value)
	if err != nil || !exists {
		return Record{}, 0, err
	}
	r, err := decodeRecord(data)
	if err != nil {
		return Record{}, 0, s.wrap(fmt.Sprintf("the key %q of", RecordKey), err)
	}
	return r, version, nil
}

// SwapRecord writes r, with s's name and a fresh Run, if the record still is
// at version prev (0: if there is none), and returns the record as written and
// its version. Another version is kv.ErrConflict. Should the outcome be
// unknown, the record is read back: the Run in it tells whose write came
// last. If that doesn't help either, the error is kv.ErrIndeterminate; read
// the record again and decide again.
func (s *Side) SwapRecord(ctx context.Context, prev kv.Version, r Record) (Record, kv.Version, error) {
	r.Store, r.Run = s.name, NewID()
	data, err := r.encode()
	if err != nil {
		return Record{}, 0, s.wrap("write the record of", err)
	}
	v, err := s.versioned()
	if err != nil {
		return Record{}, 0, err
	}
	version, err := v.SwapVersion(ctx, RecordKey, prev, data)
	if errors.Is(err, kv.ErrIndeterminate) {
		if now, at, readErr := s.ReadRecord(ctx); readErr == nil && now.Run == r.Run {
			return r, at, nil
		}
	}
	if err != nil {
		return Record{}, 0, s.wrap("write the record of", err)
	}
	return r, version, nil
}

// Create writes a key that doesn't exist yet and returns its version, by which
// others can be guarded.
func (s *Side) Create(ctx context.Context, key string, value []byte) (kv.Version, error) {
	v, err := s.versioned()
	if err != nil {
		return 0, err
	}
	return v.SwapVersion(ctx, key, 0, value)
}

// Guards returns the guards under which a store whose record is at version may
// be written.
func Guards(version kv.Version) []kv.Guard { return []kv.Guard{{Key: RecordKey, Version: version}} }
