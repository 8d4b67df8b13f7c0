package etcd

import (
	"errors"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// errHistoryChanged: the store was replaced or set back while the call ran, so
// that its answer can't be assigned to a history.
var errHistoryChanged = errors.New("the etcd cluster was replaced or restored from a backup")

// history notices when the versions that were handed out lost their meaning:
// the cluster id is another one, or the revision fell, which happens when a
// cluster is restored from a backup. It numbers the histories from 1.
//
// What it can't notice is a cluster that was set back under the same id and
// has since been written to more often than this process knows of.
type history struct {
	mu      sync.Mutex
	gen     uint64
	cluster uint64        // id of the cluster, 0 before the first answer
	rev     int64         // highest revision seen
	ended   chan struct{} // closed when gen changes
}

// mark is what was known when a call started.
type mark struct {
	gen   uint64
	rev   int64
	ended <-chan struct{} // closed when the history of this mark has ended
}

func newHistory() *history { return &history{gen: 1, ended: make(chan struct{})} }

func (h *history) mark() mark {
	h.mu.Lock()
	defer h.mu.Unlock()
	return mark{h.gen, h.rev, h.ended}
}

// header is what counts of an answer's.
type header struct {
	cluster uint64
	rev     int64
}

func headerOf(h *pb.ResponseHeader) header { return header{h.GetClusterId(), h.GetRevision()} }

// observe takes in the header of an answer and returns the generation that
// the answer belongs to. A linearizable answer can't be older than what was
// known when its call started; of others only the cluster id counts. An answer
// to a call that another history's end overtook belongs to nobody knows which.
func (h *history) observe(hdr header, m mark, linearizable bool) (uint64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gen != m.gen {
		return 0, errHistoryChanged
	}
	if h.cluster == 0 {
		h.cluster = hdr.cluster
	}
	if hdr.cluster != h.cluster || (linearizable && hdr.rev < m.rev) {
		h.gen++
		h.cluster, h.rev = hdr.cluster, 0
		close(h.ended)
		h.ended = make(chan struct{})
	}
	h.rev = max(h.rev, hdr.rev)
	return h.gen, nil
}
