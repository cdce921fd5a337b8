package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/cloudless/cloudless/api"
)

// query writes a ListQuery as the API reads it.
func query(q api.ListQuery) url.Values {
	v := url.Values{}
	if q.Namespace != "" {
		v.Set("namespace", q.Namespace)
	}
	for k, val := range q.Label {
		v.Add("label", k+"="+val)
	}
	setUint(v, "limit", uint64(max(q.Limit, 0)))
	if q.Cursor != "" {
		v.Set("cursor", q.Cursor)
	}
	waiting(v, q.Index, q.Wait)
	return v
}

func waiting(v url.Values, index uint64, wait time.Duration) {
	setUint(v, "index", index)
	if index != 0 && wait > 0 {
		v.Set("wait", wait.String())
	}
}

// ifMatch asks for compare-and-set on a ModifyIndex; 0 asks for nothing.
func ifMatch(index uint64) http.Header {
	if index == 0 {
		return nil
	}
	return http.Header{"If-Match": {`"` + strconv.FormatUint(index, 10) + `"`}}
}

func workloadPath(ref api.Ref, more string) string {
	return "/v1/workloads/" + url.PathEscape(ref.Namespace) + "/" + url.PathEscape(ref.Name) + more
}

// Pages calls list with one cursor after the other and gives all items as one list.
func Pages[T any](q api.ListQuery, list func(api.ListQuery) (api.List[T], error)) (api.List[T], error) {
	all, err := list(q)
	for err == nil && all.Cursor != "" {
		q.Cursor, q.Index = all.Cursor, 0
		var page api.List[T]
		if page, err = list(q); err == nil {
			all.Items, all.Cursor = append(all.Items, page.Items...), page.Cursor
		}
	}
	return all, err
}

// Workloads lists one page of workloads.
func (c *Client) Workloads(ctx context.Context, q api.ListQuery) (out api.List[api.Workload], err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/workloads", query(q), nil, &out, nil)
}

// Workload reads one workload; with an index it waits up to wait for a change past it.
func (c *Client) Workload(ctx context.Context, ref api.Ref, index uint64, wait time.Duration) (out api.Workload, err error) {
	v := url.Values{}
	waiting(v, index, wait)
	return out, c.call(ctx, http.MethodGet, workloadPath(ref, ""), v, nil, &out, nil)
}

// CreateWorkload makes a new workload; one that exists is CodeConflict.
func (c *Client) CreateWorkload(ctx context.Context, w api.Workload) (out api.WriteResult, err error) {
	return out, c.call(ctx, http.MethodPost, "/v1/workloads", nil, w, &out, nil)
}

// ApplyWorkload makes a workload or brings it up to date. match, if not 0, is the ModifyIndex that it must have.
func (c *Client) ApplyWorkload(ctx context.Context, w api.Workload, match uint64) (out api.WriteResult, err error) {
	return out, c.call(ctx, http.MethodPut, workloadPath(w.Ref(), ""), nil, w, &out, ifMatch(match))
}

// Plan tells what ApplyWorkload would do, and changes nothing.
func (c *Client) Plan(ctx context.Context, w api.Workload) (out api.Plan, err error) {
	return out, c.call(ctx, http.MethodPost, "/v1/workloads:plan", nil, w, &out, nil)
}

// DeleteWorkload ends a workload.
func (c *Client) DeleteWorkload(ctx context.Context, ref api.Ref, match uint64) (out api.WriteResult, err error) {
	return out, c.call(ctx, http.MethodDelete, workloadPath(ref, ""), nil, nil, &out, ifMatch(match))
}

// Scale sets the number of replicas.
func (c *Client) Scale(ctx context.Context, ref api.Ref, replicas int, match uint64) (out api.WriteResult, err error) {
	return out, c.call(ctx, http.MethodPost, workloadPath(ref, "/scale"), nil, api.ScaleRequest{Replicas: replicas}, &out, ifMatch(match))
}

// Restart replaces all replicas, one at a time.
func (c *Client) Restart(ctx context.Context, ref api.Ref) (out api.WriteResult, err error) {
	return out, c.call(ctx, http.MethodPost, workloadPath(ref, "/restart"), nil, nil, &out, nil)
}

// Rollback goes back to an earlier version; 0 is the one before the current.
func (c *Client) Rollback(ctx context.Context, ref api.Ref, version uint64) (out api.WriteResult, err error) {
	return out, c.call(ctx, http.MethodPost, workloadPath(ref, "/rollback"), nil, api.RollbackRequest{Version: version}, &out, nil)
}

// History lists the versions kept.
func (c *Client) History(ctx context.Context, ref api.Ref) (out api.List[api.WorkloadVersion], err error) {
	return out, c.call(ctx, http.MethodGet, workloadPath(ref, "/history"), nil, nil, &out, nil)
}

// Explain tells why replicas are where they are.
func (c *Client) Explain(ctx context.Context, ref api.Ref) (out api.Explanation, err error) {
	return out, c.call(ctx, http.MethodGet, workloadPath(ref, "/explain"), nil, nil, &out, nil)
}

// Settled tells how far the cluster has taken up the last change; with an index it waits for a change.
func (c *Client) Settled(ctx context.Context, ref api.Ref, index uint64, wait time.Duration) (out api.Settled, err error) {
	v := url.Values{}
	waiting(v, index, wait)
	return out, c.call(ctx, http.MethodGet, workloadPath(ref, "/settled"), v, nil, &out, nil)
}

// Logs opens the log of a workload's replicas as text. Closing it, or ending ctx, ends it.
func (c *Client) Logs(ctx context.Context, ref api.Ref, o api.LogOptions) (io.ReadCloser, error) {
	v := url.Values{"tail": {strconv.Itoa(o.Tail)}}
	for key, on := range map[string]bool{"follow": o.Follow, "previous": o.Previous, "timestamps": o.Timestamps} {
		if on {
			v.Set(key, "true")
		}
	}
	if !o.Since.IsZero() {
		v.Set("since", o.Since.UTC().Format(time.RFC3339Nano))
	}
	if o.Replica != "" {
		v.Set("replica", o.Replica)
	}
	resp, err := c.do(ctx, &request{method: http.MethodGet, path: workloadPath(ref, "/logs"), query: v, stream: true})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}
