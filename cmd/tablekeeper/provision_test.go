package main

import (
	"os"
	"regexp"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"tablekeeper"
	"tablekeeper/storage/bucket/buckettest"
)

// TestProvision runs the command against a real MinIO.
func TestProvision(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED with -short: a real S3 server")
	}
	server := buckettest.StartMinIO(t)
	params := scriptParams("testdata/provision")
	setup := params.Setup
	params.Setup = func(env *testscript.Env) error {
		env.Setenv("BUCKET", server.URL(t, "s3", "made-by-provision").String())
		env.Setenv("AWS_ACCESS_KEY_ID", server.AccessKey)
		env.Setenv("AWS_SECRET_ACCESS_KEY", server.SecretKey)
		env.Setenv("AWS_CA_BUNDLE", os.Getenv("AWS_CA_BUNDLE"))
		return setup(env)
	}
	testscript.Run(t, params)
}

// TestProvisionSetsWhatTheTemplateDoes holds what the template says in figures against what the command sets.
func TestProvisionSetsWhatTheTemplateDoes(t *testing.T) {
	for _, what := range []string{
		`Id: superseded\n.*\n +TagFilters:\n +- Key: tablekeeper\n +Value: superseded\n +ExpirationInDays: !Ref RetentionDays`,
		`Id: noncurrent\n.*\n +NoncurrentVersionExpiration:\n +NoncurrentDays: !Ref NoncurrentDays`,
		`Id: incomplete-uploads\n.*\n +AbortIncompleteMultipartUpload:\n +DaysAfterInitiation: 2\n`,
		`VersioningConfiguration:\n +Status: Enabled`,
		`ObjectOwnership: BucketOwnerEnforced`,
		`Sid: RefusePlainHTTP\n +Effect: Deny\n +Principal: \{AWS: "\*"\}\n +Action: \[s3:GetObject, s3:PutObject, s3:DeleteObject, s3:ListBucket\]`,
		`DisplayName: tablekeeper`,
	} {
		if !regexp.MustCompile(what).Match(tablekeeper.Template) {
			t.Errorf("the template has no %s", what)
		}
	}
	if uploadDays != 2 {
		t.Error("unfinished uploads")
	}
}
