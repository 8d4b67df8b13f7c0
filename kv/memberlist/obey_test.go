package memberlist

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
)

var background = context.Background()

// obeyVariable makes this test binary a process that does what it reads.
const obeyVariable = "POLYKV_TEST_OBEY"

// obey does what it reads, line by line, and answers each with a line: the
// answer, a tab, and the error.
func obey(in io.Reader, out io.Writer) error {
	var o obedient
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return nil //nolint:nilerr // it is over
		}
		answer, err := o.do(strings.TrimSuffix(line, "\n"))
		problem := ""
		if err != nil {
			problem = strings.ReplaceAll(err.Error(), "\n", " ")
		}
		if _, err := fmt.Fprintf(out, "%s\t%s\n", answer, problem); err != nil {
			return err
		}
	}
}

type obedient struct {
	node   *Node
	client kv.Client
}

func (o *obedient) do(line string) (string, error) {
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "ready":
		return "", nil
	case "start":
		return "", o.start(rest)
	case "put": // prefix, how many, bytes of each
		words := strings.Fields(rest)
		return "", o.put(words[0], number(words[1]), number(words[2]))
	case "delete":
		return "", o.delete(rest)
	case "count":
		keys, err := o.client.List(background, rest)
		return strconv.Itoa(len(keys)), err
	case "peers":
		return strconv.Itoa(len(o.node.Peers())), nil
	case "tombstones":
		return strconv.FormatUint(o.node.Status(Query{Limit: 1}).TombCount, 10), nil
	case "digest":
		return strings.ReplaceAll(fmt.Sprint(o.node.store.Roots()), "\t", " "), nil
	}
	return "", fmt.Errorf("%q is no verb", verb)
}

func (o *obedient) start(text string) error {
	var cfg Config
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		return err
	}
	node, err := StartWith(background, cfg, Options{housekeeping: 100 * time.Millisecond}, codec.String{})
	if err != nil {
		return err
	}
	o.node = node
	o.client, err = node.Client(codec.String{}, nil)
	return err
}

func (o *obedient) put(prefix string, count, size int) error {
	for i := range count {
		if err := put(background, o.client, fmt.Sprintf("%s%04d", prefix, i), strings.Repeat("x", size)); err != nil {
			return err
		}
	}
	return nil
}

func (o *obedient) delete(prefix string) error {
	keys, err := o.client.List(background, prefix)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if err := o.client.Delete(background, key); err != nil {
			return err
		}
	}
	return nil
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		panic(err) // of this file's own making
	}
	return n
}
