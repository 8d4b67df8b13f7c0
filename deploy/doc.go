// Package deploy holds what is in this folder against the libraries of those who read it: Prometheus' for expressions and
// rules, Grafana's for dashboards, and against the metrics that polykv exports. It has nothing but tests; it is a module
// of its own so that nobody else links these libraries.
package deploy
