package memberlist

// Instance names this run of the client's node in the cluster. Another run of the
// same node has another. It is empty for a client without a node.
func (c *client) Instance() string {
	if c.node == nil {
		return ""
	}
	return c.node.net.Self().ID
}

// Standing tells what the node knows of another one by its [client.Instance]:
// whether it is there, if it is known at all. A node that failed counts as there
// until another one has answered since: before, this one may have been cut off.
func (c *client) Standing(instance string) (there, known bool) {
	return c.node.net.Standing(instance)
}

// PeersChanged returns a channel that is closed when a node comes, fails or
// leaves.
func (c *client) PeersChanged() <-chan struct{} { return c.node.changed() }
