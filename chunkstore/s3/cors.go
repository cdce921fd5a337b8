package s3

import (
	"context"
	"encoding/xml"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
)

type corsConfiguration struct {
	XMLName xml.Name   `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CORSConfiguration"`
	Rules   []corsRule `xml:"CORSRule"`
}

type corsRule struct {
	ID      string   `xml:",omitempty"`
	Origins []string `xml:"AllowedOrigin"`
	Methods []string `xml:"AllowedMethod"`
	Headers []string `xml:"AllowedHeader"`
	Expose  []string `xml:"ExposeHeader"`
	MaxAge  int      `xml:"MaxAgeSeconds,omitempty"`
}

func (c *call) getCORS() error {
	b, err := c.readBucket()
	if err != nil {
		return err
	}
	if len(b.CORS) == 0 {
		return refuse("NoSuchCORSConfiguration", "the CORS configuration does not exist")
	}
	var out corsConfiguration
	for _, r := range b.CORS {
		out.Rules = append(out.Rules, corsRule{r.ID, r.Origins, r.Methods, r.Headers, r.ExposeHeaders, r.MaxAgeSeconds})
	}
	return c.ok(out)
}

func (c *call) putCORS() error {
	var in struct {
		XMLName xml.Name   `xml:"CORSConfiguration"`
		Rules   []corsRule `xml:"CORSRule"`
	}
	if err := c.document(&in); err != nil {
		return err
	}
	if len(in.Rules) == 0 {
		return refuse("MalformedXML", "a CORS configuration has at least one rule")
	}
	var rules []api.CORSRule
	for _, r := range in.Rules {
		rules = append(rules, api.CORSRule{ID: r.ID, Origins: r.Origins, Methods: r.Methods, Headers: r.Headers, ExposeHeaders: r.Expose, MaxAgeSeconds: r.MaxAge})
	}
	return c.changeBucket(http.StatusOK, func(b *api.Bucket) { b.CORS = rules })
}

func (c *call) deleteCORS() error {
	return c.changeBucket(http.StatusNoContent, func(b *api.Bucket) { b.CORS = nil })
}

// corsRule is the first of the bucket's rules that lets a page of the request's origin use a method, nil
// for none. What it is asked for before a request is signed is kept for a moment.
func (c *call) corsRule(method string, headers []string) (*api.CORSRule, error) {
	origin := c.r.Header.Get("Origin")
	if c.bucket == "" || api.CheckBucketName(c.bucket) != nil {
		return nil, nil
	}
	b, err := c.d.buckets.get(c.ctx(), c.bucket, func(ctx context.Context) (*api.Bucket, error) {
		a, err := c.d.backend.Meta().Read(ctx, meta.Query{Bucket: c.bucket})
		if err != nil {
			return nil, err
		}
		return a.Bucket, nil
	})
	if err != nil {
		return nil, err
	}
	for i := range b.CORS {
		if r := &b.CORS[i]; lets(r, origin, method, headers) {
			return r, nil
		}
	}
	return nil, nil
}

func lets(r *api.CORSRule, origin, method string, headers []string) bool {
	return slices.ContainsFunc(r.Origins, func(p string) bool { return matches(p, origin) }) && slices.Contains(r.Methods, method) &&
		!slices.ContainsFunc(headers, func(h string) bool {
			return !slices.ContainsFunc(r.Headers, func(p string) bool { return matches(strings.ToLower(p), h) })
		})
}

// matches compares with a pattern in which one * stands for any text.
func matches(pattern, s string) bool {
	head, tail, wild := strings.Cut(pattern, "*")
	if !wild {
		return pattern == s
	}
	return len(s) >= len(head)+len(tail) && strings.HasPrefix(s, head) && strings.HasSuffix(s, tail)
}

// preflight answers a browser that asks whether it may send a request.
func (c *call) preflight() error {
	c.operation = "Preflight"
	h := c.r.Header
	method := h.Get("Access-Control-Request-Method")
	if h.Get("Origin") == "" || method == "" {
		return refuse("BadRequest", "insufficient information: Origin and Access-Control-Request-Method are needed")
	}
	var headers []string
	for name := range strings.SplitSeq(h.Get("Access-Control-Request-Headers"), ",") {
		if name = strings.ToLower(strings.TrimSpace(name)); name != "" {
			headers = append(headers, name)
		}
	}
	rule, err := c.corsRule(method, headers)
	if err != nil {
		return err
	}
	if rule == nil {
		return refuse("AccessForbidden", "CORSResponse: this CORS request is not allowed: no rule of the bucket lets this origin, method or header")
	}
	c.allow(rule)
	out := c.w.Header()
	if len(headers) > 0 {
		out.Set("Access-Control-Allow-Headers", strings.Join(headers, ", "))
	}
	if rule.MaxAgeSeconds > 0 {
		out.Set("Access-Control-Max-Age", strconv.Itoa(rule.MaxAgeSeconds))
	}
	return c.respond(http.StatusOK)
}

// allowOrigin tells the browser of a page of another origin what it may read of the answer. Without a rule
// it may read nothing.
func (c *call) allowOrigin() {
	if c.r.Header.Get("Origin") == "" {
		return
	}
	if rule, err := c.corsRule(c.r.Method, nil); err == nil && rule != nil {
		c.allow(rule)
	}
}

func (c *call) allow(r *api.CORSRule) {
	h := c.w.Header()
	h.Set("Vary", "Origin, Access-Control-Request-Headers, Access-Control-Request-Method")
	h.Set("Access-Control-Allow-Methods", strings.Join(r.Methods, ", "))
	if len(r.ExposeHeaders) > 0 {
		h.Set("Access-Control-Expose-Headers", strings.Join(r.ExposeHeaders, ", "))
	}
	if slices.Contains(r.Origins, "*") {
		h.Set("Access-Control-Allow-Origin", "*")
		return
	}
	h.Set("Access-Control-Allow-Origin", c.r.Header.Get("Origin"))
	h.Set("Access-Control-Allow-Credentials", "true")
}
