package workload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// Request is one line to a contestant.
type Request struct {
	Do     string  // "prepare", then "sample", any number of times
	Target *Target `json:",omitempty"` // of prepare
	Spec   *Spec   `json:",omitempty"` // of prepare
}

// Answer is the line that a contestant answers each request with.
type Answer struct {
	Sample *Sample `json:",omitempty"`
	Error  string  `json:",omitempty"`
}

// Main is a contestant's main function: it answers requests from standard
// input on standard output until the input ends.
func Main(open Opener) {
	if err := Serve(os.Stdin, os.Stdout, open); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Serve answers the requests of in on out.
func Serve(in io.Reader, out io.Writer, open Opener) error {
	s := &session{open: open}
	defer func() {
		if s.done != nil {
			_ = s.done() // the one who asks is gone
		}
	}()
	requests, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var r Request
		if err := requests.Decode(&r); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		sample, err := s.answer(r)
		a := Answer{Sample: sample}
		if err != nil {
			a.Error = err.Error()
		}
		if err := answers.Encode(a); err != nil {
			return err
		}
	}
}

// session is the work under way, if there is one.
type session struct {
	open   Opener
	sample Sampler
	done   func() error
}

func (s *session) answer(r Request) (*Sample, error) {
	switch {
	case r.Do == "prepare" && s.done == nil && r.Target != nil && r.Spec != nil:
		var err error
		s.sample, s.done, err = Prepare(context.Background(), s.open, *r.Target, *r.Spec)
		return nil, err
	case r.Do == "sample" && s.done != nil:
		sample, err := s.sample(context.Background())
		return &sample, err
	}
	return nil, fmt.Errorf("%q is no request, or not now", r.Do)
}
