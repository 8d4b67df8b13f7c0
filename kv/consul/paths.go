package consul

import (
	"strings"
	"unicode"
)

// inPath reports whether the name of key in the store can be in the path of an URL.
func (s *store) inPath(key string) bool { return inPath(s.cfg.Root.In(key)) }

// inPath reports whether key can be named in the path of an URL. Consul
// refuses paths that unicode.IsPrint objects to (a no-break space, say), and
// redirects those that path.Clean changes.
func inPath(key string) bool { return key != "" && pathPrefix(key) == key }

// pathPrefix returns the longest part of prefix that can be in the path of an
// URL; an empty one always can.
func pathPrefix(prefix string) string {
	if i := strings.IndexFunc(prefix, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
		prefix = prefix[:i]
	}
	for start := 0; start <= len(prefix); {
		segment, _, more := strings.Cut(prefix[start:], "/")
		if segment == "." || segment == ".." || segment == "" && start < len(prefix) {
			return prefix[:start]
		}
		if !more {
			break
		}
		start += len(segment) + 1
	}
	return prefix
}
