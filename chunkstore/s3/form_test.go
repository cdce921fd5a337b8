package s3

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"maps"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/cloudless/cloudless/api"
)

// postForm sends a form with a file, which comes last. Its fields are in no order.
func (w *world) postForm(url string, fields map[string]string, file string) answerText {
	w.t.Helper()
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	for name, value := range fields {
		must(w.t, form.WriteField(name, value))
	}
	part, err := form.CreateFormFile("file", "cat.jpg")
	must(w.t, err)
	_, err = part.Write([]byte(file))
	must(w.t, err)
	must(w.t, form.WriteField("submit", "behind the file nothing counts"))
	must(w.t, form.Close())
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, url, &b)
	must(w.t, err)
	r.Header.Set("Content-Type", form.FormDataContentType())
	r.Header.Set("X-Amz-Meta-Owner", "whoever") // nobody has signed it
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	must(w.t, err)
	defer resp.Body.Close()
	var text bytes.Buffer
	_, err = text.ReadFrom(resp.Body)
	must(w.t, err)
	return answerText{resp, text.String()}
}

// signForm makes the fields of a form as Amazon's client does, with more conditions.
func signForm(t testing.TB, c *sdk.Client, key string, conditions ...any) (url string, fields map[string]string) {
	t.Helper()
	out, err := sdk.NewPresignClient(c).PresignPostObject(t.Context(), &sdk.PutObjectInput{Bucket: str("assets"), Key: &key}, func(o *sdk.PresignPostOptions) { o.Conditions = conditions })
	must(t, err)
	return out.URL, out.Values
}

// A browser puts a file with a form that somebody has signed, and is answered as the form says.
func TestForms(t *testing.T) {
	w := newWorld(t)
	c := w.bucket("assets")
	conditions := []any{
		[]any{"starts-with", "$x-amz-meta-owner", ""}, []any{"starts-with", "$Content-Type", "image/"}, []any{"starts-with", "$success_action_status", ""}, []any{"starts-with", "$success_action_redirect", ""},
		[]any{"starts-with", "$tagging", ""}, []any{"content-length-range", 2, 1 << 20},
	}
	full := map[string]string{"X-Amz-Meta-Owner": "ann", "content-type": "image/x", "success_action_status": "201", "success_action_redirect": "", "tagging": "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>", "x-ignore-me": "1"}
	url, fields := signForm(t, c, "pictures/${filename}", conditions...)
	maps.Copy(fields, full)
	data := noise(200_000)
	made := w.postForm(url, fields, string(data))
	if made.says(t, "a form", 201, ""); made.Header.Get("Location") != w.url+"/assets/pictures/cat.jpg" || !strings.Contains(made.text, "<Key>pictures/cat.jpg</Key>") || made.Header.Get("Etag") != tagOf(data) {
		t.Errorf("%v %s", made.Header, made.text)
	}
	if got := get(t, c, "pictures/cat.jpg"); !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back", len(got))
	}
	head, err := c.HeadObject(t.Context(), &sdk.HeadObjectInput{Bucket: str("assets"), Key: str("pictures/cat.jpg")})
	must(t, err)
	if *head.ContentType != "image/x" || head.Metadata["owner"] != "ann" || *head.TagCount != 1 {
		t.Errorf("%+v", head)
	}
	for status, want := range map[string]int{"200": 200, "204": 204, "404": 204, "": 204} {
		fields["success_action_status"] = status
		w.postForm(url, fields, "ok").says(t, status, want, "")
	}
	fields["success_action_redirect"] = "https://example.com/done?a=b"
	moved := w.postForm(url, fields, "ok")
	if to := moved.Header.Get("Location"); moved.StatusCode != http.StatusSeeOther || !strings.HasPrefix(to, "https://example.com/done?a=b&bucket=assets&etag=") {
		t.Errorf("%d %s", moved.StatusCode, to)
	}
	for n, code := range map[int]string{1: "EntityTooSmall", 2: "", 1 << 20: "", 1<<20 + 1: "EntityTooLarge"} {
		resp := w.postForm(url, fields, string(noise(n)))
		if got := strings.Contains(resp.text, "<Code>"+code+"</Code>"); got != (code != "") {
			t.Errorf("%d bytes: %d %s", n, resp.StatusCode, resp.text)
		}
	}
}

// A form counts only as it was signed, and its signer's key must be good for it.
func TestFormsAreRefused(t *testing.T) {
	w := newWorld(t)
	c := w.bucket("assets")
	w.bucket("others")
	w.keys.set("READER", secretKey, api.SigningKey{ReadOnly: true})
	url, good := signForm(t, c, "k")
	for name, test := range map[string]struct {
		change map[string]string
		status int
		code   string
	}{
		"as it was signed": {nil, 204, ""}, "another key": {map[string]string{"key": "l"}, 403, "AccessDenied"}, "another field": {map[string]string{"x-amz-meta-a": "b"}, 403, "AccessDenied"},
		"no key": {map[string]string{"key": ""}, 400, "InvalidArgument"}, "another signature": {map[string]string{"X-Amz-Signature": strings.Repeat("0", 64)}, 403, "SignatureDoesNotMatch"},
		"another policy": {map[string]string{"policy": policyText(time.Now().Add(time.Hour), `{"bucket":"assets"}`)}, 403, "SignatureDoesNotMatch"}, "no signature": {map[string]string{"policy": "", "X-Amz-Signature": ""}, 403, "AccessDenied"},
		"version 2": {map[string]string{"X-Amz-Algorithm": ""}, 400, "InvalidRequest"}, "another day": {map[string]string{"X-Amz-Date": "20200101T000000Z"}, 400, "AuthorizationQueryParametersError"},
		"too much": {map[string]string{"x-ignore-a": strings.Repeat("x", maxFormBytes)}, 400, "MaxPostPreDataLengthExceededError"},
	} {
		fields := maps.Clone(good)
		maps.Copy(fields, test.change)
		w.postForm(url, fields, "x").says(t, name, test.status, test.code)
	}
	w.postForm(w.url+"/others", good, "x").says(t, "another bucket", 403, "AccessDenied")
	readURL, reader := signForm(t, w.client(func(o *sdk.Options) { o.Credentials = static("READER") }), "k")
	w.postForm(readURL, reader, "x").says(t, "a reader's key", 403, "AccessDenied")
	w.ask(http.MethodPost, "/assets", "", "Content-Type", "multipart/form-data").says(t, "no form", 400, "MalformedPOSTRequest")
	w.ask(http.MethodPost, "/assets", "--b--\r\n", "Content-Type", "multipart/form-data; boundary=b").says(t, "no file", 400, "InvalidArgument")
	w.ask(http.MethodPost, "/assets", "--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk", "Content-Type", "multipart/form-data; boundary=b").says(t, "cut short", 400, "MalformedPOSTRequest")
}

func policyText(expires time.Time, conditions string) string {
	return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, `{"expiration":%q,"conditions":[%s]}`, expires.UTC().Format(time.RFC3339), conditions))
}

// What a policy says is held to the letter; one that cannot be read lets nothing.
func TestPolicies(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	fields := map[string]string{"bucket": "b", "key": "user/eve", "policy": "p", "x-amz-signature": "s", "x-ignore-x": "1"}
	for conditions, code := range map[string]string{
		`{"bucket":"b","key":"user/eve"}`: "", `{"bUcKeT":"b"},["StArTs-WiTh","$Key","user/"]`: "", `{"bucket":"b"},["eq","$key","user/eve"],["content-length-range",0,0]`: "", `{"bucket":"b"},["starts-with","$key",""]`: "",
		`{"bucket":"b"}`: "AccessDenied", `{"key":"user/eve"}`: "AccessDenied", `{"bucket":"b"},["eq","$key","user/"]`: "AccessDenied", `{"bucket":"b"},["starts-with","$key","user/eve/"]`: "AccessDenied",
		`{"bucket":"b"},["starts-with","$key",""],{"x-amz-meta-a":"b"}`: "AccessDenied", ``: "InvalidPolicyDocument", `{}`: "InvalidPolicyDocument", `[]`: "InvalidPolicyDocument", `["eq","key","a"]`: "InvalidPolicyDocument",
		`["like","$key","a"]`: "InvalidPolicyDocument", `["content-length-range",1]`: "InvalidPolicyDocument", `["content-length-range",2,1]`: "InvalidPolicyDocument", `["content-length-range",-1,1]`: "InvalidPolicyDocument",
	} {
		p, err := parsePolicy(policyText(now.Add(time.Second), conditions))
		if err == nil {
			err = p.allows(fields, now)
		}
		if inWordsOf(err) != code {
			t.Errorf("%s: %v, want %q", conditions, err, code)
		}
	}
	p, err := parsePolicy(policyText(now, `{"bucket":"b","key":"user/eve"}`))
	if must(t, err); p.allows(fields, now.Add(-1)) != nil || inWordsOf(p.allows(fields, now)) != "AccessDenied" {
		t.Error("a policy holds until it expires")
	}
	for _, text := range []string{"%", "AAAA", base64.StdEncoding.EncodeToString([]byte(`{"expiration":"tomorrow","conditions":[{"bucket":"b"}]}`))} {
		if _, err := parsePolicy(text); inWordsOf(err) != "InvalidPolicyDocument" {
			t.Errorf("%q: %v", text, err)
		}
	}
}
