package s3

import (
	"encoding/xml"
	"net/http"
	"strings"
)

// What S3 has and this store has not is told as S3 tells it of a bucket that does not use it.

type versioningConfiguration struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ VersioningConfiguration"`
}

type bucketLoggingStatus struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ BucketLoggingStatus"`
}

type notificationConfiguration struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ NotificationConfiguration"`
}

type accelerateConfiguration struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ AccelerateConfiguration"`
}

type requestPaymentConfiguration struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ RequestPaymentConfiguration"`
	Payer   string
}

type ownershipControls struct {
	XMLName   xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ OwnershipControls"`
	Ownership string   `xml:"Rule>ObjectOwnership"`
}

// fixed answers with a document that is the same for every bucket that is there.
func fixed(v any) func(*call) error {
	return func(c *call) error {
		if _, err := c.readBucket(); err != nil {
			return err
		}
		return c.ok(v)
	}
}

// absent answers that a bucket that is there has no such thing.
func absent(code, what string) func(*call) error {
	return func(c *call) error {
		if _, err := c.readBucket(); err != nil {
			return err
		}
		return refuse(code, "the %s does not exist", what)
	}
}

type noConfigurations struct {
	XMLName     xml.Name
	IsTruncated bool
}

// listed answers that a bucket that is there has no configuration of a kind of which it could have many.
func listed(document string) func(*call) error {
	return func(c *call) error {
		if c.q.has("id") {
			return absent("NoSuchConfiguration", "configuration")(c)
		}
		return fixed(noConfigurations{XMLName: xml.Name{Space: namespace, Local: document}})(c)
	}
}

// nothing answers that what a bucket that is there never has is gone.
func (c *call) nothing() error {
	if _, err := c.readBucket(); err != nil {
		return err
	}
	return c.respond(http.StatusNoContent)
}

type locationConstraint struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ LocationConstraint"`
	Region  string   `xml:",chardata"`
}

// getLocation says the region that the client signs for: every region is this one. S3 writes its first
// region as nothing.
func (c *call) getLocation() error {
	out := locationConstraint{Region: c.sig.region}
	if out.Region == defaultRegion {
		out.Region = ""
	}
	return fixed(out)(c)
}

type accessControlPolicy struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ AccessControlPolicy"`
	Owner   owner
	Grant   aclGrant `xml:"AccessControlList>Grant"`
}

type aclGrant struct {
	Grantee    aclGrantee
	Permission string
}

type aclGrantee struct {
	Instance string `xml:"xmlns:xsi,attr"`
	Type     string `xml:"xsi:type,attr"`
	owner
}

// getACL says what is so: whoever has a key may do what the key is for.
func (c *call) getACL() error {
	if c.key != "" {
		if _, err := c.d.backend.Stat(c.ctx(), c.bucket, c.key); err != nil {
			return err
		}
	}
	grantee := aclGrantee{"http://www.w3.org/2001/XMLSchema-instance", "CanonicalUser", self}
	return fixed(accessControlPolicy{Owner: self, Grant: aclGrant{grantee, "FULL_CONTROL"}})(c)
}

// putACL takes the one list that there is.
func (c *call) putACL() error {
	if c.r.ContentLength != 0 || c.r.Header.Get("X-Amz-Acl") == "" {
		return refuse("AccessControlListNotSupported", "buckets here have no access control lists: limit access keys instead")
	}
	if err := c.refuseGrants(); err != nil {
		return err
	}
	if _, err := c.readBucket(); err != nil {
		return err
	}
	return c.respond(200)
}

// refuseGrants refuses lists of who else may: that is for access keys to say.
func (c *call) refuseGrants() error {
	switch acl := c.r.Header.Get("X-Amz-Acl"); acl {
	case "", "private", "bucket-owner-full-control":
	default:
		return refuse("AccessControlListNotSupported", "the list %q is not supported: buckets here have no access control lists", acl)
	}
	for name := range c.r.Header {
		if strings.HasPrefix(name, "X-Amz-Grant-") {
			return refuse("AccessControlListNotSupported", "the header %s is not supported: buckets here have no access control lists", name)
		}
	}
	return nil
}
