// Package otheryaml tests that a configuration means the same by whatever YAML
// library a program reads it. It is a module of its own, so that polykv's users
// don't get those libraries.
package otheryaml
