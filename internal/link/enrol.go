package link

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/pki"
)

// Enrol asks the coordinators at addrs, in turn, for an identity. The token's CA hash is checked in
// the handshake, before the token is sent. A refusal ends it; only a coordinator that cannot be
// reached, or has no leader, makes it go on to the next.
func Enrol(ctx context.Context, dial NetDial, addrs []string, req api.EnrolRequest) (*api.EnrolResponse, error) {
	tok, err := pki.ParseJoinToken(req.Token)
	if err != nil {
		return nil, err
	}
	client := JoinHTTPClient(tok.CAHash, dial)
	last := error(api.Errorf(api.CodeInvalid, "join: no address is given"))
	for _, addr := range addrs {
		resp, err := enrolAt(ctx, client, addr, req)
		if err == nil {
			return resp, nil
		}
		last = err
		if code := api.CodeOf(err); code != api.CodeInternal && code != api.CodeUnavailable && code != "not_leader" {
			return nil, err
		}
	}
	return nil, api.AsError(unavailable(last)).WithOp("join")
}

// unavailable gives errors of the network the code and words of a user's error.
func unavailable(err error) error {
	if api.CodeOf(err) != api.CodeInternal {
		return err
	}
	return &api.Error{Code: api.CodeUnavailable, Message: err.Error(), Hint: "check --join and that the coordinator is up", Err: err}
}

func enrolAt(ctx context.Context, client *http.Client, addr string, req api.EnrolRequest) (*api.EnrolResponse, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	hreq, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+addr+api.PathEnrol, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	hreq.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(hreq)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	in := json.NewDecoder(io.LimitReader(resp.Body, api.MaxBodyBytes))
	if resp.StatusCode != http.StatusOK {
		var eb api.ErrorBody
		if err := in.Decode(&eb); err != nil || eb.Error == nil {
			return nil, api.Errorf(api.CodeUnavailable, "%s answered with status %d", addr, resp.StatusCode)
		}
		return nil, eb.Error
	}
	var out api.EnrolResponse
	if err := in.Decode(&out); err != nil {
		return nil, err
	}
	return &out, nil
}
