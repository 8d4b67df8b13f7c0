package memberlist

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/polykv/polykv/internal/webpage"
)

//go:embed status.gohtml
var statusText string

var statusPage = webpage.MustParse("status", statusText)

// statusRefresh is how often the page loads itself again.
const statusRefresh = 10 * time.Second

// StatusHandler serves the node's [Status] as a page for people, and as JSON
// for requests that have "format=json" in their query or prefer JSON by their
// Accept header. It answers GET and HEAD.
//
// The query chooses what is shown: prefix, after and limit the keys, key one of
// them with its whole value, tombstones=1 the deleted ones.
//
// It shows keys and values to whoever can reach it: serve it where operators
// look, not in public.
func (n *Node) StatusHandler() http.Handler {
	title := "polykv gossip: " + n.Name()
	snapshot := func(r *http.Request) (any, error) {
		q, err := queryOf(r.URL.Query())
		if err != nil {
			return nil, err
		}
		return statusView{n.Status(q), q}, nil
	}
	overview := webpage.Handler(webpage.Options{Title: title, Refresh: statusRefresh}, statusPage, snapshot)
	still := webpage.Handler(webpage.Options{Title: title}, statusPage, snapshot)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q, err := queryOf(r.URL.Query())
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusBadRequest)
		case q == Query{}:
			overview.ServeHTTP(w, r)
		default: // what somebody is reading stays
			still.ServeHTTP(w, r)
		}
	})
}

func queryOf(values url.Values) (Query, error) {
	q := Query{
		Prefix: values.Get("prefix"), After: values.Get("after"), Key: values.Get("key"),
		Tombstones: values.Get("tombstones") == "1",
	}
	if text := values.Get("limit"); text != "" {
		var err error
		if q.Limit, err = strconv.Atoi(text); err != nil || q.Limit < 1 || q.Limit > maxListed {
			return q, fmt.Errorf("limit: %q is not a number from 1 to %d", text, maxListed)
		}
	}
	return q, nil
}

// statusView is a Status with what only the page needs. As JSON it is the
// Status.
type statusView struct {
	Status
	query Query
}

// KeyLink shows a key.
func (v statusView) KeyLink(key string) string { return "?" + url.Values{"key": {key}}.Encode() }

// NextLink shows the keys that follow.
func (v statusView) NextLink() string {
	values := url.Values{"after": {v.Keys.Next}}
	if v.query.Prefix != "" {
		values.Set("prefix", v.query.Prefix)
	}
	if v.query.Limit > 0 {
		values.Set("limit", strconv.Itoa(v.query.Limit))
	}
	return "?" + values.Encode()
}

// Filtered tells whether the page shows a choice.
func (v statusView) Filtered() bool { return v.query != Query{} }

// Live counts the live members.
func (v statusView) Live() int {
	live := 0
	for _, m := range v.Members {
		if m.State == "alive" || m.State == "suspect" {
			live++
		}
	}
	return live
}

// Pretty is a value in lines.
func (statusView) Pretty(value json.RawMessage) string {
	var b bytes.Buffer
	if json.Indent(&b, value, "", "  ") != nil {
		return string(value)
	}
	return b.String()
}

// shortValue is how many characters of a value a list shows.
const shortValue = 120

// Short is the beginning of a value.
func (statusView) Short(value json.RawMessage) string {
	text := []rune(string(value))
	if len(text) > shortValue {
		return string(text[:shortValue]) + "…"
	}
	return string(text)
}
