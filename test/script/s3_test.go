package script

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/rogpeppe/go-internal/testscript"
)

// unfinished BUCKET KEY [TEXT] begins an upload in parts at the S3 door, and sends one of this text.
func cmdUnfinished(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: unfinished BUCKET KEY [TEXT]")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := sdk.New(sdk.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(ts.Getenv("S3")), UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(ts.Getenv("S3_ACCESS_KEY"), ts.Getenv("S3_SECRET_KEY"), ""),
	})
	u, err := c.CreateMultipartUpload(ctx, &sdk.CreateMultipartUploadInput{Bucket: &args[0], Key: &args[1]})
	ts.Check(err)
	for _, text := range args[2:] {
		_, err := c.UploadPart(ctx, &sdk.UploadPartInput{Bucket: &args[0], Key: &args[1], UploadId: u.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader(text)})
		ts.Check(err)
	}
}
