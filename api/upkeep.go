package api

import "time"

// StorageUpkeep is how far the coordinators are with keeping every chunk where it belongs, as the
// leader's last look at all chunks showed, and what it does about it now. Counts of copies made begin
// with the leadership.
type StorageUpkeep struct {
	Since     time.Time `json:"since,omitzero"`     // when this leader began
	LookedAt  time.Time `json:"lookedAt,omitzero"`  // when it had last looked at all chunks
	Chunks    int64     `json:"chunks"`             // that objects name
	Bytes     int64     `json:"bytes"`              // of them, each counted once
	Short     int64     `json:"short"`              // chunks that have fewer copies than they are to have
	Missing   int64     `json:"missing"`            // copies that this makes
	ShortAt   time.Time `json:"shortAt,omitzero"`   // since when there have been some
	Stuck     int64     `json:"stuck,omitempty"`    // short chunks for whose copies no node has room
	Awaited   int64     `json:"awaited,omitempty"`  // copies that buckets ask for and that wait for more nodes
	Misplaced int64     `json:"misplaced"`          // chunks with copies that are to move or to go
	Lost      int64     `json:"lost"`               // chunks that no node has, unless one comes back
	LostSome  []string  `json:"lostSome,omitempty"` // the first of them

	Looking   bool      `json:"looking"`           // it looks at all chunks right now
	Looked    int64     `json:"looked,omitempty"`  // at these so far
	Waiting   int64     `json:"waiting"`           // chunks that are to be copied, moved or dropped
	Copying   int64     `json:"copying"`           // copies under way
	Copied    int64     `json:"copied"`            // copies made because some were missing
	Moved     int64     `json:"moved"`             // copies made because they belong elsewhere
	Dropped   int64     `json:"dropped"`           // copies dropped where they do not belong
	Failed    int64     `json:"failed"`            // copies and drops that failed; they are tried again
	BytesDone int64     `json:"bytesDone"`         // of the copies made
	Rate      int64     `json:"rate,omitempty"`    // bytes a second, of late
	Trouble   string    `json:"trouble,omitempty"` // why it cannot go on, if it cannot
	NextAt    time.Time `json:"nextAt,omitzero"`   // when it looks again, if nothing happens before

	Nodes []NodeUpkeep `json:"nodes,omitempty"` // by id
}

// NodeUpkeep is what the last look at all chunks showed of one node.
type NodeUpkeep struct {
	Node         string           `json:"node"` // its id
	Name         string           `json:"name"`
	State        StoreMemberState `json:"state"`
	Chunks       int64            `json:"chunks"` // it has, of those that objects name
	Bytes        int64            `json:"bytes"`
	Gain         int64            `json:"gain"` // copies that it is to get
	Lose         int64            `json:"lose"` // copies that it is to let go
	LoseBytes    int64            `json:"loseBytes"`
	Silent       string           `json:"silent,omitempty"`       // why it counts as lost, though it is said to be there
	SafeToRemove bool             `json:"safeToRemove,omitempty"` // it drains, and nothing needs it any more
}
