package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"tablekeeper/storage/bucket/buckettest"
)

// TestScriptsOnS3 runs scripts against real servers, through both clients.
func TestScriptsOnS3(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED with -short: real S3 servers")
	}
	t.Run("minio", func(t *testing.T) { runOnS3(t, buckettest.StartMinIO(t), "s3") })
	t.Run("versitygw", func(t *testing.T) { runOnS3(t, buckettest.StartVersityGW(t), "aws") })
}

func runOnS3(t *testing.T, server *buckettest.Server, scheme string) {
	name := server.NewBucket(t)
	params := scriptParams("testdata/s3")
	setup := params.Setup
	params.Setup = func(env *testscript.Env) error {
		address := server.URL(t, scheme, name+"/"+filepath.Base(env.WorkDir)).String()
		env.Setenv("BUCKET", address)
		env.Setenv("NOWHERE", strings.Replace(address, name, name+"-x", 1))
		env.Setenv("SECRET", server.SecretKey)
		env.Setenv("AWS_ACCESS_KEY_ID", server.AccessKey)
		env.Setenv("AWS_SECRET_ACCESS_KEY", server.SecretKey)
		for file, text := range map[string]string{"id": server.AccessKey, "secret": server.SecretKey} {
			if err := os.WriteFile(filepath.Join(env.WorkDir, file), []byte(text+"\n"), 0o600); err != nil {
				return fmt.Errorf("write keys: %w", err)
			}
		}
		return setup(env)
	}
	testscript.Run(t, params)
}
