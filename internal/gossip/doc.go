// Package gossip tells which members of the cluster seem to be there, and how far apart they are.
// It is Serf, encrypted, with a failure detector tuned to notice a silent member in a few seconds.
//
// What it says is a hint, never authority: whoever has the key can claim any name. So nothing is
// decided here, and the owner compares every Member with what the cluster has enrolled.
package gossip
