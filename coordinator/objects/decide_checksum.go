package objects

import (
	"strings"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/checksum"
)

// An upload that was begun with a checksum has parts that all have one, and gives an object that has it.

func checkPlan(c *api.Checksum) *api.Error {
	if c == nil {
		return nil
	}
	return checksum.CheckPlan(c)
}

func checkSum(c *api.Checksum) *api.Error {
	if c == nil {
		return nil
	}
	return checksum.Check(c)
}

// checkPart refuses a part that has not the checksum that its upload was begun with. An upload without one
// takes any part.
func checkPart(u *api.Upload, c *PutPart) *api.Error {
	switch {
	case checkSum(c.Checksum) != nil:
		return checkSum(c.Checksum)
	case u == nil || u.Checksum == nil:
		return nil
	case c.Checksum == nil || c.Checksum.Algorithm != u.Checksum.Algorithm:
		return api.Errorf(api.CodeInvalid, "part %d comes without the %s checksum that its upload was begun with", c.Number, u.Checksum.Algorithm).
			WithReason(api.ReasonChecksum).WithHint("send one with each part")
	}
	return nil
}

// combined is the checksum of an object made of parts; nil without a plan.
func combined(plan *api.Checksum, want string, parts []checksum.Part) (*api.Checksum, *api.Error) {
	if plan == nil {
		return nil, nil
	}
	value, err := checksum.Combine(*plan, parts)
	if err != nil {
		return nil, err
	}
	if own, _, _ := strings.Cut(value, "-"); want != "" && want != value && want != own { // some clients leave out the number of parts
		return nil, api.Errorf(api.CodeInvalid, "the parts make up an object with %s %s, not %s", plan.Algorithm, value, want).
			WithReason(api.ReasonChecksum).WithHint("upload the part that differs again")
	}
	return &api.Checksum{Algorithm: plan.Algorithm, Value: value, Composite: plan.Composite}, nil
}
