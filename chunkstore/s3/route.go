package s3

import (
	"cmp"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/cloudless/cloudless/api"
)

// operation is what a request asks for, by S3's name.
type operation struct {
	name  string
	write bool
	run   func(*call) error
}

// operations by method, what the path names ("/", "bucket" or "object"), and subresource.
var operations = map[string]operation{
	"GET /": {"ListBuckets", false, (*call).listBuckets},

	"PUT bucket":                   {"CreateBucket", true, (*call).createBucket},
	"HEAD bucket":                  {"HeadBucket", false, (*call).headBucket},
	"DELETE bucket":                {"DeleteBucket", true, (*call).deleteBucket},
	"GET bucket":                   {"ListObjects", false, (*call).listObjects},
	"GET bucket?list-type":         {"ListObjectsV2", false, (*call).listObjectsV2},
	"GET bucket?versions":          {"ListObjectVersions", false, (*call).listObjectVersions},
	"GET bucket?uploads":           {"ListMultipartUploads", false, (*call).listUploads},
	"POST bucket?delete":           {"DeleteObjects", true, (*call).deleteObjects},
	"GET bucket?cors":              {"GetBucketCors", false, (*call).getCORS},
	"PUT bucket?cors":              {"PutBucketCors", true, (*call).putCORS},
	"DELETE bucket?cors":           {"DeleteBucketCors", true, (*call).deleteCORS},
	"GET bucket?lifecycle":         {"GetBucketLifecycleConfiguration", false, (*call).getLifecycle},
	"PUT bucket?lifecycle":         {"PutBucketLifecycleConfiguration", true, (*call).putLifecycle},
	"DELETE bucket?lifecycle":      {"DeleteBucketLifecycle", true, (*call).deleteLifecycle},
	"GET bucket?tagging":           {"GetBucketTagging", false, (*call).getBucketTagging},
	"PUT bucket?tagging":           {"PutBucketTagging", true, (*call).putBucketTagging},
	"DELETE bucket?tagging":        {"DeleteBucketTagging", true, (*call).deleteBucketTagging},
	"GET bucket?acl":               {"GetBucketAcl", false, (*call).getACL},
	"PUT bucket?acl":               {"PutBucketAcl", true, (*call).putACL},
	"GET bucket?location":          {"GetBucketLocation", false, (*call).getLocation},
	"GET bucket?versioning":        {"GetBucketVersioning", false, fixed(versioningConfiguration{})},
	"GET bucket?logging":           {"GetBucketLogging", false, fixed(bucketLoggingStatus{})},
	"GET bucket?notification":      {"GetBucketNotificationConfiguration", false, fixed(notificationConfiguration{})},
	"GET bucket?accelerate":        {"GetBucketAccelerateConfiguration", false, fixed(accelerateConfiguration{})},
	"GET bucket?requestPayment":    {"GetBucketRequestPayment", false, fixed(requestPaymentConfiguration{Payer: "BucketOwner"})},
	"GET bucket?ownershipControls": {"GetBucketOwnershipControls", false, fixed(ownershipControls{Ownership: "BucketOwnerEnforced"})},
	"GET bucket?policy":            {"GetBucketPolicy", false, absent("NoSuchBucketPolicy", "bucket policy")},
	"GET bucket?policyStatus":      {"GetBucketPolicyStatus", false, absent("NoSuchBucketPolicy", "bucket policy")},
	"GET bucket?website":           {"GetBucketWebsite", false, absent("NoSuchWebsiteConfiguration", "website configuration")},
	"GET bucket?encryption":        {"GetBucketEncryption", false, absent("ServerSideEncryptionConfigurationNotFoundError", "server side encryption configuration")},
	"GET bucket?replication":       {"GetBucketReplication", false, absent("ReplicationConfigurationNotFoundError", "replication configuration")},
	"GET bucket?object-lock":       {"GetObjectLockConfiguration", false, absent("ObjectLockConfigurationNotFoundError", "object lock configuration")},
	"GET bucket?publicAccessBlock": {"GetPublicAccessBlock", false, absent("NoSuchPublicAccessBlockConfiguration", "public access block configuration")},
	"GET bucket?inventory":         {"ListBucketInventoryConfigurations", false, listed("ListInventoryConfigurationsResult")},
	"GET bucket?analytics":         {"ListBucketAnalyticsConfigurations", false, listed("ListBucketAnalyticsConfigurationsResult")},
	"GET bucket?metrics":           {"ListBucketMetricsConfigurations", false, listed("ListMetricsConfigurationsResult")},

	"DELETE bucket?policy":            {"DeleteBucketPolicy", true, (*call).nothing},
	"DELETE bucket?website":           {"DeleteBucketWebsite", true, (*call).nothing},
	"DELETE bucket?encryption":        {"DeleteBucketEncryption", true, (*call).nothing},
	"DELETE bucket?replication":       {"DeleteBucketReplication", true, (*call).nothing},
	"DELETE bucket?ownershipControls": {"DeleteBucketOwnershipControls", true, (*call).nothing},
	"DELETE bucket?publicAccessBlock": {"DeletePublicAccessBlock", true, (*call).nothing},

	"GET object":             {"GetObject", false, (*call).getObject},
	"HEAD object":            {"HeadObject", false, (*call).headObject},
	"GET object?attributes":  {"GetObjectAttributes", false, (*call).getAttributes},
	"PUT object":             {"PutObject", true, (*call).putObject},
	"DELETE object":          {"DeleteObject", true, (*call).deleteObject},
	"GET object?tagging":     {"GetObjectTagging", false, (*call).getTagging},
	"PUT object?tagging":     {"PutObjectTagging", true, (*call).putTagging},
	"DELETE object?tagging":  {"DeleteObjectTagging", true, (*call).deleteTagging},
	"GET object?acl":         {"GetObjectAcl", false, (*call).getACL},
	"PUT object?acl":         {"PutObjectAcl", true, (*call).putACL},
	"POST object?uploads":    {"CreateMultipartUpload", true, (*call).createUpload},
	"PUT object?uploadId":    {"UploadPart", true, (*call).uploadPart},
	"GET object?uploadId":    {"ListParts", false, (*call).listParts},
	"POST object?uploadId":   {"CompleteMultipartUpload", true, (*call).completeUpload},
	"DELETE object?uploadId": {"AbortMultipartUpload", true, (*call).abortUpload},
}

// subresources are the parameters that ask for something else than the bucket or object itself, in S3 as
// it is. One that has no operation is not implemented; parameters that are not here are of no matter.
var subresources = []string{
	"uploadId", "uploads", "delete", "versions", "list-type", "acl", "accelerate", "analytics", "append", "attributes", "cors", "encryption", "intelligent-tiering", "inventory",
	"legal-hold", "lifecycle", "location", "logging", "metadataConfiguration", "metadataTable", "metrics", "notification", "object-lock", "ownershipControls", "policy", "policyStatus",
	"publicAccessBlock", "renameObject", "replication", "requestPayment", "restore", "retention", "select", "session", "tagging", "torrent", "versioning", "website",
}

// allowed are the methods that are for a thing itself.
var allowed = map[string]string{"/": "GET", "bucket": "DELETE, GET, HEAD, OPTIONS, PUT", "object": "DELETE, GET, HEAD, OPTIONS, PUT"}

// byLength sorts domains such that a longer one is tried first: it may end in a shorter one. They are in lower
// case, as hosts are compared.
func byLength(domains []string) []string {
	domains = slices.Clone(domains)
	for i, d := range domains {
		domains[i] = strings.ToLower(d)
	}
	slices.SortStableFunc(domains, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	return domains
}

// route finds the bucket and key: BUCKET.DOMAIN/KEY or /BUCKET/KEY.
func (c *call) route(domains []string) error {
	var ok bool
	if c.q, ok = parseParams(c.r.URL.RawQuery); !ok {
		return refuse("InvalidURI", "the query cannot be decoded")
	}
	path := strings.TrimPrefix(c.r.URL.Path, "/")
	if c.bucket = bucketOfHost(c.r.Host, domains); c.bucket != "" {
		c.key = path
	} else {
		c.bucket, c.key, _ = strings.Cut(path, "/")
	}
	if c.bucket == "" && c.key != "" {
		return refuse("InvalidBucketName", "the path names no bucket")
	}
	return nil
}

// bucketOfHost is the bucket that a host name names, "" for none.
func bucketOfHost(host string, domains []string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for _, domain := range domains {
		if name, ok := strings.CutSuffix(host, "."+domain); ok && api.CheckBucketName(name) == nil {
			return name
		}
		if host == domain {
			return ""
		}
	}
	return ""
}

// find gives the operation that the request asks for.
func (c *call) find() (operation, error) {
	what := "/"
	switch {
	case c.key != "":
		what = "object"
	case c.bucket != "":
		what = "bucket"
	}
	sub := ""
	for _, name := range subresources {
		if what != "/" && c.q.has(name) {
			sub = "?" + name
			break
		}
	}
	op, ok := operations[c.r.Method+" "+what+sub]
	switch {
	case ok && c.q.has("versionId") && c.q.get("versionId") != "null":
		return op, refuse("NoSuchVersion", "buckets have no versions: the one that is there is %q", "null")
	case ok:
		c.operation = op.name
		return op, c.expected()
	case sub == "" && c.r.Method != http.MethodPost:
		c.w.Header().Set("Allow", allowed[what])
		return op, refuse("MethodNotAllowed", "the method is not allowed against this resource")
	}
	return op, refuse("NotImplemented", "%s %s%s is not implemented", c.r.Method, what, sub)
}

// expected refuses a request that is meant for another owner's bucket.
func (c *call) expected() error {
	for _, name := range []string{"X-Amz-Expected-Bucket-Owner", "X-Amz-Source-Expected-Bucket-Owner"} {
		if v := c.r.Header.Get(name); v != "" && v != ownerID {
			return refuse("AccessDenied", "the owner of all buckets is %q", ownerID)
		}
	}
	return nil
}
