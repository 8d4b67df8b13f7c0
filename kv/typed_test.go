package kv_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/polykv/polykv/kv"
)

type user struct{ Name string }

// set puts a value into the store behind a fake.
func (f *fake) set(key string, value any) { f.data[key] = kv.Entry{Key: key, Value: value, Version: 1} }

func TestTypedGet(t *testing.T) {
	ctx := t.Context()
	c := newFake()
	c.set("user", user{"ada"})
	c.set("pointer", &user{"bob"})
	c.set("proto", durationpb.New(time.Minute))
	c.set("zero", "")

	if v, ok, err := kv.Typed[user](c).Get(ctx, "user"); v.Name != "ada" || !ok || err != nil {
		t.Errorf("struct: %v, %v, %v", v, ok, err)
	}
	if v, ok, err := kv.Typed[*user](c).Get(ctx, "pointer"); v.Name != "bob" || !ok || err != nil {
		t.Errorf("pointer: %v, %v, %v", v, ok, err)
	}
	if v, ok, err := kv.Typed[*durationpb.Duration](c).Get(ctx, "proto"); v.AsDuration() != time.Minute || !ok || err != nil {
		t.Errorf("message: %v, %v, %v", v, ok, err)
	}
	if v, ok, err := kv.Typed[proto.Message](c).Get(ctx, "proto"); v == nil || !ok || err != nil {
		t.Errorf("interface: %v, %v, %v", v, ok, err)
	}
	if v, ok, err := kv.Typed[any](c).Get(ctx, "user"); v != (user{"ada"}) || !ok || err != nil {
		t.Errorf("any: %v, %v, %v", v, ok, err)
	}
	if v, ok, err := kv.Typed[string](c).Get(ctx, "zero"); v != "" || !ok || err != nil {
		t.Errorf("a zero value that exists: %q, %v, %v", v, ok, err)
	}
	if v, ok, err := kv.Typed[*user](c).Get(ctx, "absent"); v != nil || ok || err != nil {
		t.Errorf("absent: %v, %v, %v", v, ok, err)
	}
	if _, ok, err := kv.Typed[user](c).Get(ctx, ""); ok || !errors.Is(err, kv.ErrInvalidKey) {
		t.Errorf("invalid key: %v, %v", ok, err)
	}
	if kv.Typed[user](c).Client() != kv.Client(c) {
		t.Error("Client returned another client")
	}
}

// wantWrongType checks an error about a value of the type user where a
// *user was wanted.
func wantWrongType(t *testing.T, op, key string, err error) {
	t.Helper()
	var e *kv.Error
	if !errors.As(err, &e) || e.Op != op || e.Key != key {
		t.Errorf("%s = %v, want a *kv.Error that names both", op, err)
		return
	}
	for _, want := range []string{"*kv_test.user", "got kv_test.user"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s = %v, want it to say %q", op, err, want)
		}
	}
}

func TestTypedWrongTypeIsAnError(t *testing.T) {
	ctx := t.Context()
	c := newFake()
	c.set("k", user{"ada"})
	c.set("l", &user{"bob"})
	users := kv.Typed[*user](c)

	v, ok, err := users.Get(ctx, "k")
	wantWrongType(t, "Get", "k", err)
	if v != nil || ok {
		t.Errorf("Get returned %v, %v beside its error", v, ok)
	}

	err = users.Update(ctx, "k", func(old *user, _ bool) (*user, kv.Action, error) {
		t.Error("Update called f")
		return nil, kv.Remove, nil
	})
	wantWrongType(t, "Update", "k", err)
	if c.data["k"].Value != (user{"ada"}) {
		t.Errorf("Update wrote %v", c.data["k"].Value)
	}

	var names []string
	for e, err := range users.Entries(ctx, "") {
		if e.Key == "k" {
			wantWrongType(t, "Entries", "k", err)
			continue
		}
		names = append(names, fmt.Sprint(e.Key, " ", e.Value.Name, " ", e.Version, " ", err))
	}
	if want := []string{"l bob 1 <nil>"}; !slices.Equal(names, want) {
		t.Errorf("Entries yielded %q, want %q", names, want)
	}
	for _, err := range users.Entries(ctx, "") {
		wantWrongType(t, "Entries", "k", err)
		break // the runtime panics if the iterator yields again
	}
}

func TestTypedUpdate(t *testing.T) {
	ctx := t.Context()
	c := newFake()
	users := kv.Typed[*user](c)
	check := func(step string, want ...string) {
		t.Helper()
		var got []string
		for key, e := range c.data {
			got = append(got, key+"="+e.Value.(*user).Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: the store holds %q, want %q", step, got, want)
		}
	}
	update := func(f func(old *user, exists bool) (*user, kv.Action, error)) error {
		return users.Update(ctx, "k", f)
	}

	if err := update(func(old *user, exists bool) (*user, kv.Action, error) {
		if old != nil || exists {
			t.Errorf("an absent key is %v, %v", old, exists)
		}
		return &user{"ada"}, kv.Put, nil
	}); err != nil {
		t.Error(err)
	}
	check("Put", "k=ada")

	if err := update(func(old *user, exists bool) (*user, kv.Action, error) {
		if old == nil || old.Name != "ada" || !exists {
			t.Errorf("the key is %v, %v", old, exists)
		}
		return &user{"not written"}, kv.Keep, nil
	}); err != nil {
		t.Error(err)
	}
	check("Keep", "k=ada")

	if err := update(func(*user, bool) (*user, kv.Action, error) {
		return &user{"not written"}, kv.Put, io.ErrUnexpectedEOF
	}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Update = %v, want the callback's error", err)
	}
	check("an error", "k=ada")

	if err := update(func(*user, bool) (*user, kv.Action, error) { return nil, kv.Remove, nil }); err != nil {
		t.Error(err)
	}
	check("Remove")

	_ = users.Delete(ctx, "k")
	_, _ = users.List(ctx, "k")
	if got := c.took()[4:]; !slices.Equal(got, []string{"Delete k", "List k"}) {
		t.Errorf("Delete and List asked for %q", got)
	}
}

func TestTypedUpdateRefusesWhatIsNoAction(t *testing.T) {
	for name, action := range map[string]kv.Action{"<nil>": nil, "delete": kv.Delete, "synced": kv.Synced} {
		c := newFake()
		err := kv.Typed[string](c).Update(t.Context(), "k", func(string, bool) (string, kv.Action, error) {
			return "v", action, nil
		})
		if err == nil || !strings.Contains(err.Error(), name) || len(c.data) != 0 {
			t.Errorf("action %v: %v, %d keys written", action, err, len(c.data))
		}
	}
}

func TestTypedUpdateRefusesNil(t *testing.T) {
	ctx := t.Context()
	c := newFake()
	var nobody *user
	errs := map[string]error{
		"pointer":   putting(ctx, c, "k", nobody),
		"interface": putting[proto.Message](ctx, c, "k", nil),
		"typed nil": putting[any](ctx, c, "k", nobody),
	}
	for name, err := range errs {
		if err == nil || !strings.Contains(err.Error(), "kv.Remove") {
			t.Errorf("Put of a nil %s = %v, want an error that names kv.Remove", name, err)
		}
	}
	if len(c.data) != 0 {
		t.Errorf("wrote %v", c.data)
	}
	if err := putting(ctx, c, "k", []byte(nil)); err != nil || len(c.data) != 1 {
		t.Errorf("Put of an empty slice: %v, %d keys written", err, len(c.data))
	}
}

func putting[T any](ctx context.Context, c kv.Client, key string, value T) error {
	return kv.Typed[T](c).Update(ctx, key, func(T, bool) (T, kv.Action, error) { return value, kv.Put, nil })
}

// answers calls a CAS callback once and keeps what it answered.
type answers struct {
	kv.Client
	retry bool
	err   error
}

func (a *answers) CAS(_ context.Context, _ string, f func(any) (any, bool, error)) error {
	_, a.retry, a.err = f(nil)
	return a.err
}

type codeError struct{ code int }

func (e *codeError) Error() string { return fmt.Sprint("code ", e.code) }

func TestRetry(t *testing.T) {
	if err := kv.Retry(nil); err != nil {
		t.Errorf("Retry(nil) = %v", err)
	}
	cause := &codeError{42}
	for name, tc := range map[string]struct {
		err   error
		retry bool
	}{
		"plain":   {cause, false},
		"marked":  {kv.Retry(cause), true},
		"wrapped": {fmt.Errorf("busy: %w", kv.Retry(cause)), true},
		"joined":  {errors.Join(io.EOF, kv.Retry(cause)), true},
	} {
		inner := &answers{}
		err := failing(inner, tc.err)
		var code *codeError
		if !errors.Is(err, cause) || !errors.As(err, &code) || code.code != 42 || err.Error() != tc.err.Error() {
			t.Errorf("%s: Update = %v, want the callback's error", name, err)
		}
		if inner.retry != tc.retry {
			t.Errorf("%s: asked for a retry: %v, want %v", name, inner.retry, tc.retry)
		}
		// What came out of one Update must not make one around it retry.
		outer := &answers{}
		if err = failing(outer, fmt.Errorf("inner: %w", err)); outer.retry || !errors.Is(err, cause) {
			t.Errorf("%s: the mark outlived its Update, or the cause did not: %v", name, err)
		}
	}
}

func failing(c kv.Client, err error) error {
	return kv.Typed[int](c).Update(context.Background(), "k", func(int, bool) (int, kv.Action, error) {
		return 0, kv.Keep, err
	})
}
