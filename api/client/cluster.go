package client

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/cloudless/cloudless/api"
)

func nodePath(id, more string) string { return "/v1/nodes/" + url.PathEscape(id) + more }

// Nodes lists one page of nodes.
func (c *Client) Nodes(ctx context.Context, q api.ListQuery) (out api.List[api.Node], err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/nodes", query(q), nil, &out, nil)
}

// Node reads one node by id or name; with an index it waits for a change.
func (c *Client) Node(ctx context.Context, id string, index uint64, wait time.Duration) (out api.Node, err error) {
	v := url.Values{}
	waiting(v, index, wait)
	return out, c.call(ctx, http.MethodGet, nodePath(id, ""), v, nil, &out, nil)
}

// Drain moves everything off a node.
func (c *Client) Drain(ctx context.Context, id string, r api.DrainRequest) (out api.Node, err error) {
	return out, c.call(ctx, http.MethodPost, nodePath(id, "/drain"), nil, r, &out, nil)
}

// Cordon keeps new replicas off a node.
func (c *Client) Cordon(ctx context.Context, id string) (out api.Node, err error) {
	return out, c.call(ctx, http.MethodPost, nodePath(id, "/cordon"), nil, nil, &out, nil)
}

// Uncordon takes back Cordon and Drain.
func (c *Client) Uncordon(ctx context.Context, id string) (out api.Node, err error) {
	return out, c.call(ctx, http.MethodPost, nodePath(id, "/uncordon"), nil, nil, &out, nil)
}

// RemoveNode makes the cluster forget a node; its certificate is refused from then on.
func (c *Client) RemoveNode(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, nodePath(id, ""), nil, nil, nil, nil)
}

// RevokeNode takes out a node that is not trusted any more; its connections are cut everywhere.
func (c *Client) RevokeNode(ctx context.Context, id, reason string) error {
	return c.call(ctx, http.MethodPost, nodePath(id, "/revoke"), nil, api.RevokeRequest{Reason: reason}, nil, nil)
}

// Rotate begins to replace a key of the cluster.
func (c *Client) Rotate(ctx context.Context, r api.RotationRequest) (out api.Rotation, err error) {
	return out, c.call(ctx, http.MethodPost, "/v1/rotations", nil, r, &out, nil)
}

// Rotations lists the last rotation of each key.
func (c *Client) Rotations(ctx context.Context) (out api.List[api.Rotation], err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/rotations", nil, nil, &out, nil)
}

// Services lists one page of services.
func (c *Client) Services(ctx context.Context, q api.ListQuery) (out api.List[api.Service], err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/services", query(q), nil, &out, nil)
}

// Usage lists one page of what replicas use.
func (c *Client) Usage(ctx context.Context, q api.ListQuery) (out api.List[api.ReplicaUsage], err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/usage", query(q), nil, &out, nil)
}

// Endpoints lists one page of endpoints.
func (c *Client) Endpoints(ctx context.Context, q api.ListQuery) (out api.List[api.Endpoint], err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/endpoints", query(q), nil, &out, nil)
}

// Tokens lists tokens, without their secrets.
func (c *Client) Tokens(ctx context.Context, q api.ListQuery) (out api.List[api.Token], err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/tokens", query(q), nil, &out, nil)
}

// CreateToken makes a token; its secret is in this answer and nowhere else. If the answer was lost, the
// cluster remembers the token when it is asked again, but not the secret.
func (c *Client) CreateToken(ctx context.Context, r api.TokenRequest) (out api.Token, err error) {
	err = c.call(ctx, http.MethodPost, "/v1/tokens", nil, r, &out, nil)
	if err == nil && out.Secret == "" {
		err = api.Errorf(api.CodeUnavailable, "token %s was made, and the answer with its secret was lost", out.ID).
			WithHint("end it with 'cloudless token revoke %s', and make another", out.ID)
	}
	return out, err
}

// RevokeToken ends a token.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/v1/tokens/"+url.PathEscape(id), nil, nil, nil, nil)
}

func policyPath(ns string) string { return "/v1/namespaces/" + url.PathEscape(ns) + "/policy" }

// Namespaces lists one page of namespaces.
func (c *Client) Namespaces(ctx context.Context, q api.ListQuery) (out api.List[api.Namespace], err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/namespaces", query(q), nil, &out, nil)
}

// Namespace reads one namespace.
func (c *Client) Namespace(ctx context.Context, name string) (out api.Namespace, err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/namespaces/"+url.PathEscape(name), nil, nil, &out, nil)
}

// PutPolicy sets what a namespace demands.
func (c *Client) PutPolicy(ctx context.Context, p api.NamespacePolicy) (out api.NamespacePolicy, err error) {
	return out, c.call(ctx, http.MethodPut, policyPath(p.Namespace), nil, p, &out, nil)
}

// DeletePolicy lets a namespace demand nothing any more.
func (c *Client) DeletePolicy(ctx context.Context, ns string) error {
	return c.call(ctx, http.MethodDelete, policyPath(ns), nil, nil, nil, nil)
}

// Members lists the coordinators.
func (c *Client) Members(ctx context.Context) (out api.List[api.Member], err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/members", nil, nil, &out, nil)
}

// RemoveMember takes a coordinator out of the control plane.
func (c *Client) RemoveMember(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/v1/members/"+url.PathEscape(id), nil, nil, nil, nil)
}

// Status sums the cluster up; with an index it waits for a change.
func (c *Client) Status(ctx context.Context, index uint64, wait time.Duration) (out api.ClusterStatus, err error) {
	v := url.Values{}
	waiting(v, index, wait)
	return out, c.call(ctx, http.MethodGet, "/v1/status", v, nil, &out, nil)
}
