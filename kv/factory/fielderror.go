package factory

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// FieldError says which field of a configuration is wrong.
type FieldError struct {
	// Line is the field's line in the YAML document, from 1; 0 if the mistake
	// was not found while reading one.
	Line int

	// Field is the path of the field as in YAML, such as "etcd.dial_timeout".
	// The flag's name has "-" for "_". It is empty for the whole document.
	Field string

	// Err says what is wrong and what is allowed; never nil.
	Err error
}

// Error returns a line such as
// "line 3: etcd.dial_timeout: "soon" is not a duration ...".
func (e *FieldError) Error() string {
	text := e.Err.Error()
	if e.Field != "" {
		text = e.Field + ": " + text
	}
	if e.Line > 0 {
		text = fmt.Sprintf("line %d: %s", e.Line, text)
	}
	return text
}

// Unwrap returns e.Err.
func (e *FieldError) Unwrap() error { return e.Err }

// inField puts the path of a field before what err, an error about it or a
// part of it, has as a path. The line stays that of the innermost.
func inField(path string, line int, err error) error {
	if err == nil {
		return nil
	}
	var inner *FieldError
	if !errors.As(err, &inner) {
		return &FieldError{Line: line, Field: path, Err: err}
	}
	if inner.Line > 0 {
		line = inner.Line
	}
	return &FieldError{Line: line, Field: join(path, inner.Field), Err: inner.Err}
}

// inSection is inField for what a section's Validate says: an error whose text
// begins with the path of one of its fields is about that field.
func inSection(name string, section Section, err error) error {
	if err == nil || errors.As(err, new(*FieldError)) {
		return inField(name, 0, err)
	}
	path, rest, found := strings.Cut(err.Error(), ": ")
	first, _, _ := strings.Cut(path, ".")
	first, _, _ = strings.Cut(first, "[")
	if _, known := structFields(reflect.ValueOf(section).Elem())[first]; !found || !known {
		return inField(name, 0, err)
	}
	return &FieldError{Field: join(name, path), Err: restated{rest, err}}
}

// opening is inSection for what the driver says that opens a section. That has
// passed its Validate, so only a FieldError of the driver's own is about the
// configuration; else the store is in use, say, or damaged.
func opening(name string, section Section, err error) error {
	told := inSection(name, section, err)
	if errors.As(err, new(*FieldError)) {
		return told
	}
	return restated{told.Error(), err}
}

// restated is an error with another path at the front of its text, or none.
type restated struct {
	text string
	err  error
}

func (e restated) Error() string { return e.text }
func (e restated) Unwrap() error { return e.err }

func join(path, name string) string {
	if path == "" || name == "" {
		return path + name
	}
	return path + "." + name
}
