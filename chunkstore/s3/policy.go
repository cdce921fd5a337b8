package s3

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// policy is what whoever signed a form lets others send with it.
type policy struct {
	expires     time.Time
	conditions  []policyCondition
	least, most int64 // bytes of the file
}

// policyCondition is on one field of a form, in lower case.
type policyCondition struct {
	field, value string
	prefix       bool // the value is what the field begins with
}

func badPolicy(format string, args ...any) error {
	return refuse("InvalidPolicyDocument", "the content of the form does not meet the conditions specified in the policy document: "+format, args...)
}

// parsePolicy reads the document of a form: base64 of JSON.
func parsePolicy(text string) (*policy, error) {
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, badPolicy("it is not base64")
	}
	var in struct {
		Expiration string
		Conditions []json.RawMessage
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, badPolicy("it is not JSON of the form that is expected")
	}
	p := &policy{most: math.MaxInt64}
	if p.expires, err = time.Parse(time.RFC3339, in.Expiration); err != nil {
		return nil, badPolicy("its expiration must be of the form 2006-01-02T15:04:05Z")
	}
	if len(in.Conditions) == 0 {
		return nil, badPolicy("it has no conditions")
	}
	for _, raw := range in.Conditions {
		if err := p.add(raw); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// add reads one condition: {"field": "value"}, ["eq", "$field", "value"], ["starts-with", "$field", "value"]
// or ["content-length-range", least, most].
func (p *policy) add(raw json.RawMessage) error {
	var exact map[string]string
	if json.Unmarshal(raw, &exact) == nil && len(exact) > 0 {
		for _, field := range slices.Sorted(maps.Keys(exact)) {
			p.conditions = append(p.conditions, policyCondition{strings.ToLower(field), exact[field], false})
		}
		return nil
	}
	var list []json.RawMessage
	var kind string
	if json.Unmarshal(raw, &list) != nil || len(list) != 3 || json.Unmarshal(list[0], &kind) != nil {
		return badPolicy("a condition is not of a form that is known: %.100s", raw)
	}
	switch kind = strings.ToLower(kind); kind {
	case "content-length-range":
		if json.Unmarshal(list[1], &p.least) != nil || json.Unmarshal(list[2], &p.most) != nil || p.least < 0 || p.most < p.least {
			return badPolicy("content-length-range needs two numbers: %.100s", raw)
		}
		return nil
	case "eq", "starts-with":
		var field, value string
		if json.Unmarshal(list[1], &field) != nil || json.Unmarshal(list[2], &value) != nil || !strings.HasPrefix(field, "$") {
			return badPolicy("a condition needs a field that begins with $ and a text: %.100s", raw)
		}
		p.conditions = append(p.conditions, policyCondition{strings.ToLower(field[1:]), value, kind == "starts-with"})
		return nil
	}
	return badPolicy("a condition is not of a form that is known: %.100s", raw)
}

// unasked are fields for which a policy needs no condition: they are of the signature, or of nobody.
func unasked(field string) bool {
	return field == "policy" || field == "x-amz-signature" || strings.HasPrefix(field, "x-ignore-")
}

// allows refuses fields that do not meet the conditions, and those that have none: who signed the policy has
// not thought of them. The fields' names are in lower case.
func (p *policy) allows(fields map[string]string, now time.Time) error {
	if !now.Before(p.expires) {
		return refuse("AccessDenied", "invalid according to Policy: Policy expired")
	}
	asked := map[string]bool{}
	for _, c := range p.conditions {
		asked[c.field] = true
		if got := fields[c.field]; got != c.value && !(c.prefix && strings.HasPrefix(got, c.value)) {
			return refuse("AccessDenied", "invalid according to Policy: Policy Condition failed: the field %s is not as it must be", c.field)
		}
	}
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		if !asked[field] && !unasked(field) {
			return refuse("AccessDenied", "invalid according to Policy: Extra input fields: %s", field)
		}
	}
	return nil
}
