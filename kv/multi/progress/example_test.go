package progress_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/polykv/polykv/kv/multi"
	"github.com/polykv/polykv/kv/multi/progress"
)

// A service shows its operators how the move to the other store goes.
func ExampleHandler() {
	var client interface{ Status() multi.Status } = full() // as a rule a *multi.Client
	mux := http.NewServeMux()
	mux.Handle("/debug/polykv", progress.Handler(client))

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/debug/polykv", nil))
	fmt.Println(w.Code, w.Header().Get("Content-Type"))
	// Output: 200 text/html; charset=utf-8
}
