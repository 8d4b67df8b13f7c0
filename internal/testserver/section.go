package testserver

import (
	"fmt"
	"strings"
)

// Section is the configuration of a client of the cluster as a file for polykv has it, one line of YAML: for keys below
// prefix, with the cluster's certificates if it has some. fields are more fields of the backend, such as "token: x".
func (c *Cluster) Section(prefix string, fields ...string) string {
	urls := c.URLs()
	where := "address: " + urls[0]
	if _, ok := c.server.(etcdServer); ok {
		where = "endpoints: [" + strings.Join(urls, ", ") + "]"
	}
	fields = append([]string{where}, fields...)
	if c.options.TLS {
		fields = append(fields, fmt.Sprintf("tls: {enabled: true, ca_file: %s, cert_file: %s, key_file: %s}", c.authority.File(), c.clientCert.CertFile, c.clientCert.KeyFile))
	}
	kind := c.server.tool().Name
	return fmt.Sprintf("{backend: %s, prefix: %q, %s: {%s}}", kind, prefix, kind, strings.Join(fields, ", "))
}
