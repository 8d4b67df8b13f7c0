// Package config holds the parts that the configurations of several drivers
// share: [TLS], and [Secret] for what must not show in logs and printed
// configurations.
package config
