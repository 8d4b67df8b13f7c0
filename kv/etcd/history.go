package etcd

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/polykv/polykv/kv/driver/kit"
)

// answer is what the header of an answer tells of the store. The cluster's id
// is another one, or the revision falls, when a cluster is restored from a
// backup. A linearizable answer has the newest revision.
func answer(h *pb.ResponseHeader, linearizable bool) kit.Answer {
	a := kit.Answer{Index: uint64(h.GetRevision()), Cluster: h.GetClusterId(), Member: h.GetMemberId(), Term: h.GetRaftTerm()}
	if linearizable {
		a.Evidence = kit.Current
	}
	return a
}
