package memberlist

import (
	"fmt"
	"net/http"
)

// HealthHandler answers a probe, such as Kubernetes' for readiness: with 200
// while [Node.Ping] succeeds, else with 503. The body has the reason, and the
// notes of [Node.Notes], one a line. Unlike the status page it shows no keys.
func (n *Node) HealthHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		if err := n.Ping(r.Context()); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = fmt.Fprintln(w, err)
		} else {
			_, _ = fmt.Fprintln(w, "well")
		}
		for _, note := range n.Notes() {
			_, _ = fmt.Fprintln(w, note)
		}
	})
}
