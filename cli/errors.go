package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/factory"
)

// Exit codes.
const (
	exitDone     = 0
	exitNegative = 1
	exitUsage    = 2
	exitFailure  = 3
)

// exitError is an error with its exit code.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// usage marks err as the user's mistake.
func usage(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{exitUsage, err}
}

func usagef(format string, args ...any) error { return usage(fmt.Errorf(format, args...)) }

// negative is an answer of "no", to be said on stderr.
func negative(format string, args ...any) error {
	return &exitError{exitNegative, fmt.Errorf(format, args...)}
}

// report says what went wrong, in one line, and returns the exit code.
func (a *app) report(ctx context.Context, err error) int {
	if err == nil {
		return exitDone
	}
	code := exitFailure
	var exit *exitError
	switch {
	case errors.As(err, &exit):
		code = exit.code
	case errors.As(err, new(*factory.FieldError)), errors.Is(err, kv.ErrInvalidKey), errors.Is(err, kv.ErrTooLarge):
		code = exitUsage
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		why := "interrupted"
		if s := (*signalError)(nil); errors.As(context.Cause(ctx), &s) {
			why = s.Error()
		}
		if !strings.Contains(err.Error(), why) {
			err = fmt.Errorf("%s: %w", why, err)
		}
		err = because(err, "%s", strings.ReplaceAll(err.Error(), context.Canceled.Error()+": ", "")) // why says it
	}
	fmt.Fprintf(a.stderr, "polykv: %s\n", oneLine(err))
	return code
}

// oneLine is err's text in one line.
func oneLine(err error) string {
	text := strings.TrimPrefix(err.Error(), "polykv: ")
	return strings.Join(strings.FieldsFunc(text, isNewline), "; ")
}

func isNewline(r rune) bool { return r == '\n' || r == '\r' }

// flagError makes one line of what pflag says, without values: they may be
// secrets.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		if letters := unknown.GetSpecifiedShortnames(); len(letters) > 1 {
			name := letters[:strings.IndexAny(letters+"=", "=:")]
			return usagef("unknown flag -%s; names of more than one letter take two dashes; see %q", name, cmd.CommandPath()+" --help")
		}
		if name, _, glued := strings.Cut(unknown.GetSpecifiedName(), ":"); glued {
			return usagef("unknown flag: --%s with a colon behind its name; write --%[1]s=VALUE; see %q", name, cmd.CommandPath()+" --help")
		}
		if near := nearestFlag(cmd, unknown.GetSpecifiedName()); near != "" {
			return usagef("%w; did you mean --%s?", err, near)
		}
	}
	return usagef("%w; see %q", err, cmd.CommandPath()+" --help")
}

// nearestFlag finds the flag that somebody may have meant who wrote name.
func nearestFlag(cmd *cobra.Command, name string) string {
	flags := &cobra.Command{SuggestionsMinimumDistance: 2}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		flags.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
	})
	for _, near := range flags.SuggestionsFor(name) {
		return near
	}
	return ""
}

// arguments checks their number. What names them, for the message.
func arguments(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least && len(args) == 0:
			return usagef("%s needs %s; see %q", cmd.Name(), what, cmd.CommandPath()+" --help")
		case len(args) < least, len(args) > most:
			return usagef("%s takes %s, not %d arguments; see %q", cmd.Name(), what, len(args), cmd.CommandPath()+" --help")
		}
		return nil
	}
}
