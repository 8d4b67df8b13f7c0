package kit

import (
	"errors"
	"fmt"

	"github.com/polykv/polykv/kv/config"
)

// Positive reports that a field of a configuration isn't more than 0.
func Positive[T ~int | ~int64](field string, v T) error {
	if v > 0 {
		return nil
	}
	return fmt.Errorf("%s: %v is not allowed; it must be more than 0", field, v)
}

// Between reports that a field of a configuration is out of its bounds.
func Between[T ~int | ~int64](field string, v, least, most T) error {
	if v >= least && v <= most {
		return nil
	}
	return fmt.Errorf("%s: %v is not allowed; it must be %v to %v", field, v, least, most)
}

// CheckLogin reports what is wrong with the fields username, password and
// password_file of a store to which nobody logs in by a name alone.
func CheckLogin(username string, password config.Secret, file string) error {
	if username != "" && password.Reveal() == "" && file == "" {
		return errors.New("password: is empty, and so is password_file, but username is set; set one of them, or none of the three")
	}
	return CheckSecret("password", password, "password_file", file)
}
