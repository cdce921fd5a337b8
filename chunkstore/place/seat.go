package place

import "github.com/cloudless/cloudless/chunkstore/erasure"

// seats is how many chunks a group has, each with a seat of its own.
const seats = erasure.Shards

// Seat is the node that is to have a shard of a group; "" when nobody takes chunks. Without spares, which
// are needed while a node is lost, full or drains, no two shards of a group are on one node.
func Seat(group string, shard int, members []Member) string {
	return seat(group, shard, members, Member.takes)
}

// seat draws the nodes of a group from all members, whatever their states, so that the seats of the
// others stay what they are when one is lost. A shard whose node may not have it has a spare: first the
// nodes that have no seat, then those of the other shards, which bear to lose two.
func seat(group string, shard int, members []Member, keeps func(Member) bool) string {
	of := make(map[string]Member, len(members))
	for _, m := range members {
		of[m.ID] = m
	}
	order := pick(rank(group, members, func(Member) bool { return true }), len(members))
	homes := order[:min(seats, len(order))]
	if shard < len(homes) && keeps(of[homes[shard]]) {
		return homes[shard]
	}
	var spares []string
	for _, id := range append(order[len(homes):len(order):len(order)], homes...) {
		if of[id].takes() {
			spares = append(spares, id)
		}
	}
	if len(spares) == 0 {
		return ""
	}
	before := max(0, shard-len(homes)) // shards that need a spare too
	for _, id := range homes[:min(shard, len(homes))] {
		if !of[id].takes() {
			before++
		}
	}
	return spares[before%len(spares)]
}
