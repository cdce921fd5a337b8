package link

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"

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
	for _, addr := range addrs {
		if _, _, err := net.SplitHostPort(addr); err != nil || strings.Contains(addr, "/") {
			return nil, api.Errorf(api.CodeInvalid, "--join: %q is not HOST:PORT", addr).WithHint(joinHint)
		}
	}
	client := JoinHTTPClient(tok.CAHash, dial)
	last := error(api.Errorf(api.CodeInvalid, "join: no address is given"))
	for _, addr := range addrs {
		resp, err := enrolAt(ctx, client, addr, req)
		if err == nil {
			return resp, nil
		}
		last = unavailable(addr, err)
		if !api.AskAnother(err) {
			return nil, err
		}
	}
	return nil, api.AsError(last).WithOp("join")
}

const joinHint = "--join takes HOST:PORT of a coordinator's node port, 7701 by default; is that coordinator up?"

// noProtocol is the alert of a server that speaks TLS, but no protocol of node ports; crypto/tls has no
// exported type for it.
const noProtocol = "tls: no application protocol"

// unavailable gives errors of the network the code and words of a user's error.
func unavailable(addr string, err error) error {
	switch {
	case api.CodeOf(err) != api.CodeInternal:
		return err
	case strings.Contains(err.Error(), noProtocol):
		return api.Errorf(api.CodeUnavailable, "%s is not the node port of a coordinator: %w", addr, err).WithHint(joinHint)
	}
	return api.Errorf(api.CodeUnavailable, "%s does not answer as a coordinator: %w", addr, err).WithHint(joinHint)
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
