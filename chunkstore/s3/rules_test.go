package s3

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cloudless/cloudless/api"
)

func TestTags(t *testing.T) {
	c := newWorld(t).bucket("assets")
	put(t, c, "k", []byte("x"))
	tags := func(n int) *types.Tagging {
		out := &types.Tagging{TagSet: []types.Tag{}}
		for i := range n {
			out.TagSet = append(out.TagSet, types.Tag{Key: str(fmt.Sprint("k", i)), Value: str("v")})
		}
		return out
	}
	for n, code := range map[int]string{0: "", api.MaxObjectTags: "", api.MaxObjectTags + 1: "InvalidTag"} {
		_, err := c.PutObjectTagging(t.Context(), &sdk.PutObjectTaggingInput{Bucket: str("assets"), Key: str("k"), Tagging: tags(n)})
		wants(t, err, code)
		if code == "" {
			out, err := c.GetObjectTagging(t.Context(), &sdk.GetObjectTaggingInput{Bucket: str("assets"), Key: str("k")})
			must(t, err)
			if len(out.TagSet) != n {
				t.Errorf("%d tags, want %d", len(out.TagSet), n)
			}
		}
	}
	twice := tags(1)
	twice.TagSet = append(twice.TagSet, twice.TagSet[0])
	_, err := c.PutObjectTagging(t.Context(), &sdk.PutObjectTaggingInput{Bucket: str("assets"), Key: str("k"), Tagging: twice})
	wants(t, err, "InvalidTag")
	_, err = c.DeleteObjectTagging(t.Context(), &sdk.DeleteObjectTaggingInput{Bucket: str("assets"), Key: str("k")})
	must(t, err)
	if got := get(t, c, "k"); string(got) != "x" {
		t.Errorf("%q", got)
	}
	_, err = c.PutObjectTagging(t.Context(), &sdk.PutObjectTaggingInput{Bucket: str("assets"), Key: str("none"), Tagging: tags(1)})
	wants(t, err, "NoSuchKey")
	_, err = c.GetBucketTagging(t.Context(), &sdk.GetBucketTaggingInput{Bucket: str("assets")})
	wants(t, err, "NoSuchTagSet")
	for n, code := range map[int]string{api.MaxBucketTags: "", api.MaxBucketTags + 1: "InvalidTag"} {
		_, err = c.PutBucketTagging(t.Context(), &sdk.PutBucketTaggingInput{Bucket: str("assets"), Tagging: tags(n)})
		wants(t, err, code)
	}
	out, err := c.GetBucketTagging(t.Context(), &sdk.GetBucketTaggingInput{Bucket: str("assets")})
	must(t, err)
	if len(out.TagSet) != api.MaxBucketTags {
		t.Errorf("%d tags", len(out.TagSet))
	}
	_, err = c.DeleteBucketTagging(t.Context(), &sdk.DeleteBucketTaggingInput{Bucket: str("assets")})
	must(t, err)
}

func TestDeleteMany(t *testing.T) {
	w := newWorld(t)
	c := w.bucket("assets")
	keys := append(slices.Clone(oddKeys), "none")
	keys = slices.DeleteFunc(keys, func(k string) bool { return k == "\x01\x7f" }) // XML cannot say it
	for _, key := range oddKeys {
		put(t, c, key, nil)
	}
	var ids []types.ObjectIdentifier
	for _, key := range keys {
		ids = append(ids, types.ObjectIdentifier{Key: &key})
	}
	out, err := c.DeleteObjects(t.Context(), &sdk.DeleteObjectsInput{Bucket: str("assets"), Delete: &types.Delete{Objects: ids}})
	must(t, err)
	if len(out.Deleted) != len(keys) || len(out.Errors) != 0 {
		t.Errorf("%d deleted, %+v", len(out.Deleted), out.Errors)
	}
	list, err := c.ListObjectsV2(t.Context(), &sdk.ListObjectsV2Input{Bucket: str("assets"), EncodingType: "url"})
	must(t, err)
	if len(list.Contents) != 1 {
		t.Errorf("%d are left", len(list.Contents))
	}
	put(t, c, "k", nil)
	one := []types.ObjectIdentifier{{Key: str("k"), ETag: str("other")}, {Key: str("a"), VersionId: str("v1")}, {Key: str("b")}}
	out, err = c.DeleteObjects(t.Context(), &sdk.DeleteObjectsInput{Bucket: str("assets"), Delete: &types.Delete{Objects: one, Quiet: aws.Bool(true)}})
	must(t, err)
	if len(out.Deleted) != 0 || len(out.Errors) != 2 || *out.Errors[0].Code != "NoSuchVersion" || *out.Errors[1].Code != "PreconditionFailed" {
		t.Errorf("%+v, %+v", out.Deleted, out.Errors)
	}
	for n, code := range map[int]string{0: "MalformedXML", MaxDeleteKeys: "", MaxDeleteKeys + 1: "MalformedXML"} {
		many := make([]types.ObjectIdentifier, n)
		for i := range many {
			many[i].Key = str("x")
		}
		_, err = c.DeleteObjects(t.Context(), &sdk.DeleteObjectsInput{Bucket: str("assets"), Delete: &types.Delete{Objects: many}})
		wants(t, err, code)
	}
	_, err = c.DeleteObjects(t.Context(), &sdk.DeleteObjectsInput{Bucket: str("nothing"), Delete: &types.Delete{Objects: ids}})
	wants(t, err, "NoSuchBucket")
}

func TestLifecycle(t *testing.T) {
	c := newWorld(t).bucket("assets")
	_, err := c.GetBucketLifecycleConfiguration(t.Context(), &sdk.GetBucketLifecycleConfigurationInput{Bucket: str("assets")})
	wants(t, err, "NoSuchLifecycleConfiguration")
	set := func(rules ...types.LifecycleRule) error {
		_, err := c.PutBucketLifecycleConfiguration(t.Context(), &sdk.PutBucketLifecycleConfigurationInput{
			Bucket: str("assets"), LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: rules},
		})
		return err
	}
	prefix, day := &types.LifecycleRuleFilter{Prefix: str("logs/")}, time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	must(t, set(
		types.LifecycleRule{ID: str("a"), Status: "Enabled", Filter: prefix, Expiration: &types.LifecycleExpiration{Days: aws.Int32(3)}, AbortIncompleteMultipartUpload: &types.AbortIncompleteMultipartUpload{DaysAfterInitiation: aws.Int32(7)}},
		types.LifecycleRule{ID: str("b"), Status: "Disabled", Filter: &types.LifecycleRuleFilter{Prefix: str("")}, Expiration: &types.LifecycleExpiration{Date: &day}},
	))
	out, err := c.GetBucketLifecycleConfiguration(t.Context(), &sdk.GetBucketLifecycleConfigurationInput{Bucket: str("assets")})
	must(t, err)
	if r := out.Rules; len(r) != 2 || *r[0].ID != "a" || *r[0].Filter.Prefix != "logs/" || *r[0].Expiration.Days != 3 || *r[0].AbortIncompleteMultipartUpload.DaysAfterInitiation != 7 ||
		r[1].Status != "Disabled" || !r[1].Expiration.Date.Equal(day) {
		t.Errorf("%+v", r)
	}
	days := &types.LifecycleExpiration{Days: aws.Int32(1)}
	for name, test := range map[string]struct {
		rule types.LifecycleRule
		code string
	}{
		"a transition": {types.LifecycleRule{Status: "Enabled", Filter: prefix, Transitions: []types.Transition{{Days: aws.Int32(1), StorageClass: "GLACIER"}}}, "NotImplemented"},
		"two in one":   {types.LifecycleRule{Status: "Enabled", Filter: &types.LifecycleRuleFilter{Prefix: str("a"), ObjectSizeLessThan: aws.Int64(1)}, Expiration: days}, "MalformedXML"},
		"old and new":  {types.LifecycleRule{Status: "Enabled", Prefix: str("a"), Filter: prefix, Expiration: days}, "MalformedXML"}, //nolint:staticcheck // the old form is what is tested
		"no size":      {types.LifecycleRule{Status: "Enabled", Filter: &types.LifecycleRuleFilter{ObjectSizeLessThan: aws.Int64(0)}, Expiration: days}, "InvalidArgument"},
		"a large size": {types.LifecycleRule{Status: "Enabled", Filter: &types.LifecycleRuleFilter{ObjectSizeGreaterThan: aws.Int64(api.MaxLifecycleBytes)}, Expiration: days}, "InvalidArgument"},
		"ends uploads": {types.LifecycleRule{Status: "Enabled", Filter: &types.LifecycleRuleFilter{Tag: &types.Tag{Key: str("a"), Value: str("b")}}, AbortIncompleteMultipartUpload: &types.AbortIncompleteMultipartUpload{DaysAfterInitiation: aws.Int32(1)}}, "InvalidRequest"},
		"at once":      {types.LifecycleRule{Status: "Enabled", Filter: prefix, AbortIncompleteMultipartUpload: &types.AbortIncompleteMultipartUpload{DaysAfterInitiation: aws.Int32(0)}}, "InvalidArgument"},
		"versions":     {types.LifecycleRule{Status: "Enabled", Filter: prefix, NoncurrentVersionExpiration: &types.NoncurrentVersionExpiration{NoncurrentDays: aws.Int32(1)}}, "NotImplemented"},
		"no days":      {types.LifecycleRule{Status: "Enabled", Filter: prefix, Expiration: &types.LifecycleExpiration{Days: aws.Int32(0)}}, "InvalidArgument"},
		"nothing":      {types.LifecycleRule{Status: "Enabled", Filter: prefix}, "InvalidArgument"},
		"a status":     {types.LifecycleRule{Status: "On", Filter: prefix, Expiration: days}, "MalformedXML"},
	} {
		t.Log(name)
		wants(t, set(test.rule), test.code)
	}
	twice := types.LifecycleRule{ID: str("a"), Status: "Enabled", Filter: prefix, Expiration: days}
	wants(t, set(twice, twice), "InvalidArgument")
	for marker, code := range map[bool]string{false: "", true: "NotImplemented"} { // false asks for nothing
		wants(t, set(types.LifecycleRule{Status: "Enabled", Filter: prefix, Expiration: &types.LifecycleExpiration{Days: aws.Int32(1), ExpiredObjectDeleteMarker: &marker}}), code)
	}
	_, err = c.DeleteBucketLifecycle(t.Context(), &sdk.DeleteBucketLifecycleInput{Bucket: str("assets")})
	must(t, err)
	_, err = c.GetBucketLifecycleConfiguration(t.Context(), &sdk.GetBucketLifecycleConfigurationInput{Bucket: str("assets")})
	wants(t, err, "NoSuchLifecycleConfiguration")
}

// A rule for tags and sizes comes back in the form in which it was set, with an id.
func TestFiltersOfRules(t *testing.T) {
	c := newWorld(t).bucket("assets")
	tagged := []types.Tag{{Key: str("a"), Value: str("b")}, {Key: str("c"), Value: str("")}}
	filters := []types.LifecycleRuleFilter{
		{Tag: &tagged[0]}, {ObjectSizeGreaterThan: aws.Int64(0)}, {ObjectSizeLessThan: aws.Int64(1)}, {Prefix: str("")},
		{And: &types.LifecycleRuleAndOperator{Prefix: str("p/"), Tags: tagged, ObjectSizeGreaterThan: aws.Int64(5), ObjectSizeLessThan: aws.Int64(9)}},
	}
	var rules []types.LifecycleRule
	for i := range filters {
		rules = append(rules, types.LifecycleRule{Status: "Enabled", Filter: &filters[i], Expiration: &types.LifecycleExpiration{Days: aws.Int32(1)}})
	}
	_, err := c.PutBucketLifecycleConfiguration(t.Context(), &sdk.PutBucketLifecycleConfigurationInput{Bucket: str("assets"), LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: rules}})
	must(t, err)
	out, err := c.GetBucketLifecycleConfiguration(t.Context(), &sdk.GetBucketLifecycleConfigurationInput{Bucket: str("assets")})
	must(t, err)
	for i, r := range out.Rules {
		if d := cmp.Diff(filters[i], *r.Filter, cmpopts.IgnoreUnexported(types.LifecycleRuleFilter{}, types.LifecycleRuleAndOperator{}, types.Tag{})); d != "" || !strings.HasPrefix(*r.ID, "rule") {
			t.Errorf("%s, %s", *r.ID, d)
		}
	}
	if len(out.Rules) != len(filters) {
		t.Errorf("%d rules", len(out.Rules))
	}
}

func (w *world) preflight(origin, method, headers string) *http.Response {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodOptions, w.url+"/assets/k", nil)
	must(w.t, err)
	for name, v := range map[string]string{"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers} {
		if v != "" {
			r.Header.Set(name, v)
		}
	}
	resp, err := http.DefaultClient.Do(r)
	must(w.t, err)
	resp.Body.Close()
	return resp
}

// A page may do what a rule of the bucket lets its origin do, and is told so before it has signed anything.
func TestCORS(t *testing.T) {
	w := newWorld(t)
	c := w.bucket("assets")
	_, err := c.GetBucketCors(t.Context(), &sdk.GetBucketCorsInput{Bucket: str("assets")})
	wants(t, err, "NoSuchCORSConfiguration")
	_, err = c.PutBucketCors(t.Context(), &sdk.PutBucketCorsInput{Bucket: str("assets"), CORSConfiguration: &types.CORSConfiguration{CORSRules: []types.CORSRule{
		{ID: str("r"), AllowedOrigins: []string{"https://*.example.com"}, AllowedMethods: []string{"GET", "PUT"}, AllowedHeaders: []string{"x-amz-*"}, ExposeHeaders: []string{"ETag"}, MaxAgeSeconds: aws.Int32(60)},
		{AllowedOrigins: []string{"*"}, AllowedMethods: []string{"HEAD"}},
	}}})
	must(t, err)
	out, err := c.GetBucketCors(t.Context(), &sdk.GetBucketCorsInput{Bucket: str("assets")})
	must(t, err)
	if len(out.CORSRules) != 2 || *out.CORSRules[0].ID != "r" || *out.CORSRules[0].MaxAgeSeconds != 60 {
		t.Errorf("%+v", out.CORSRules)
	}
	ok := w.preflight("https://a.example.com", "PUT", "X-Amz-Date, x-amz-content-sha256")
	if h := ok.Header; ok.StatusCode != 200 || h.Get("Access-Control-Allow-Origin") != "https://a.example.com" || h.Get("Access-Control-Allow-Methods") != "GET, PUT" ||
		h.Get("Access-Control-Allow-Headers") != "x-amz-date, x-amz-content-sha256" || h.Get("Access-Control-Max-Age") != "60" || h.Get("Access-Control-Expose-Headers") != "ETag" {
		t.Errorf("%d %v", ok.StatusCode, h)
	}
	for name, bad := range map[string]*http.Response{
		"another origin": w.preflight("https://example.org", "PUT", ""), "another method": w.preflight("https://a.example.com", "DELETE", ""),
		"another header": w.preflight("https://a.example.com", "PUT", "authorization"),
	} {
		if bad.StatusCode != http.StatusForbidden || bad.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %d %v", name, bad.StatusCode, bad.Header)
		}
	}
	if bad := w.preflight("", "PUT", ""); bad.StatusCode != http.StatusBadRequest {
		t.Errorf("no origin: %d", bad.StatusCode)
	}
	if any := w.preflight("https://example.org", "HEAD", ""); any.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("%v", any.Header)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"/assets/none", nil)
	must(t, err)
	r.Header.Set("Origin", "https://a.example.com")
	sign(r, emptyPayload, time.Now())
	resp, err := http.DefaultClient.Do(r)
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != 404 || resp.Header.Get("Access-Control-Allow-Origin") != "https://a.example.com" {
		t.Errorf("an error, too, is to be readable: %d %v", resp.StatusCode, resp.Header)
	}
	_, err = c.DeleteBucketCors(t.Context(), &sdk.DeleteBucketCorsInput{Bucket: str("assets")})
	must(t, err)
}
