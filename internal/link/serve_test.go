package link

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/pki"
	"github.com/cloudless/cloudless/test/simnet"
)

// A server whose end has come gives the request that it is serving its answer, and waits no longer for a
// client that keeps its connection.
func TestAServerEndsSoonAfterItsLastAnswer(t *testing.T) {
	const lastWork = 3 * time.Second
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		net := simnet.New()
		server, agent := net.Host("s-1"), net.Host("n-1")
		ln, err := server.Listen(7701)
		if err != nil {
			t.Fatal(err)
		}
		m := NewMux(ln, s.member(api.RoleServer, "s-1"), zerolog.Nop())
		node := m.Handle(api.ALPNNode, api.RoleNode)
		s.run("mux", m.Serve)
		serving := make(chan struct{})
		end := s.run("node API", func(ctx context.Context) error {
			return ServeHTTP2(ctx, node, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(serving)
				<-r.Context().Done()
				time.Sleep(lastWork)
				fmt.Fprint(w, "goodbye")
			}), zerolog.Nop())
		})
		client := (&Dialer{Creds: s.member(api.RoleNode, "n-1"), Net: agent.Dial}).HTTPClient(api.ALPNNode, pki.Identity{Role: api.RoleServer})
		answer := make(chan string, 1)
		go func() {
			text, err := s.get(client, "https://"+server.Addr(7701)+"/")
			answer <- fmt.Sprint(text, err)
		}()
		<-serving
		began := time.Now()
		end()
		if got := <-answer; got != "goodbye<nil>" {
			t.Errorf("the last answer: %s", got)
		}
		if took := time.Since(began); took < lastWork || took > lastWork+lastWords { // net/http looks now and then whether all have gone
			t.Errorf("ended after %s", took)
		}
	})
}
