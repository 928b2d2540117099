// Package minio keeps a bucket in a store that speaks S3, through minio-go: MinIO, versitygw, Ceph, Garage, the S3 of other clouds, AWS too. It makes
// single requests of package remote's uploads and ranges; the contract is kept there.
//
// Credentials come from the files that the URL names; else from AWS's environment variables, those of MinIO, the shared credentials
// file, and, where the store is AWS itself or the environment names a role, from the metadata services of EC2, ECS and EKS.
package minio

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/remote"
)

// Open makes a bucket of a URL such as s3://bucket/prefix?endpoint=http://127.0.0.1:9000; see remote.Location for the parameters. Nothing is sent
// yet: a bucket that is not there shows at the first call.
func Open(_ context.Context, u *url.URL, opts remote.Options) (*remote.Store, error) {
	if opts.Getenv == nil {
		opts.Getenv = os.Getenv
	}
	loc, err := remote.ParseLocation(u, opts.Getenv)
	if err != nil {
		return nil, err
	}
	client, err := connect(loc, opts)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", loc, err)
	}
	return remote.New(&api{minio.Core{Client: client}, loc}, loc, opts), nil
}

func connect(loc remote.Location, opts remote.Options) (*minio.Client, error) {
	host, secure := "s3.amazonaws.com", true
	if loc.Endpoint != nil {
		host, secure = loc.Endpoint.Host, loc.Endpoint.Scheme == "https"
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if err := opts.Tune(transport, loc); err != nil {
		return nil, err
	}
	lookup := minio.BucketLookupDNS
	if loc.PathStyle {
		lookup = minio.BucketLookupPath
	}
	return minio.New(host, &minio.Options{
		Creds:        credentials.New(&keys{loc: loc, opts: opts, chain: standard(loc, opts)}),
		Secure:       secure,
		Transport:    transport,
		Region:       loc.Region,
		BucketLookup: lookup,
		MaxRetries:   1, // who repeats a request must know that it is repeated
	})
}

// keys provides credentials to minio-go; none is an error rather than a request without a signature.
type keys struct {
	credentials.Expiry
	loc   remote.Location
	opts  remote.Options
	chain credentials.Chain
}

func (k *keys) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	var given remote.Keys
	switch {
	case k.opts.Keys != nil:
		given = *k.opts.Keys
		k.SetExpiration(time.Now().Add(100*365*24*time.Hour), 0)
	case k.loc.Files.Given():
		var err error
		if given, err = k.loc.Files.Read(k.opts.Getenv); err != nil {
			return credentials.Value{}, fmt.Errorf("%w: %w", bucket.ErrDenied, err)
		}
		k.SetExpiration(time.Now().Add(remote.KeyLife), -1)
	default:
		return k.standard(cc)
	}
	return credentials.Value{AccessKeyID: given.ID, SecretAccessKey: given.Secret, SessionToken: given.Token, SignerType: credentials.SignatureV4}, nil
}

func (k *keys) standard(cc *credentials.CredContext) (credentials.Value, error) {
	value, err := k.chain.RetrieveWithCredContext(cc)
	if err == nil && value.SignerType == credentials.SignatureAnonymous {
		err = errors.New("no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or access_key_id_file and secret_access_key_file in the URL")
	}
	if err != nil {
		return credentials.Value{}, fmt.Errorf("%w: %w", bucket.ErrDenied, err)
	}
	return value, nil
}

// Retrieve implements credentials.Provider for callers from before contexts.
func (k *keys) Retrieve() (credentials.Value, error) { return k.RetrieveWithCredContext(nil) }

func (k *keys) IsExpired() bool {
	if k.opts.Keys == nil && !k.loc.Files.Given() {
		return k.chain.IsExpired()
	}
	return k.Expiry.IsExpired()
}

// standard are AWS's sources. The metadata services are asked only where they are likely to be: elsewhere they cost seconds to be found
// missing.
func standard(loc remote.Location, opts remote.Options) credentials.Chain {
	chain := credentials.Chain{Providers: []credentials.Provider{
		&credentials.EnvAWS{}, &credentials.EnvMinio{},
		&credentials.FileAWSCredentials{Profile: loc.Files.Profile},
	}}
	role := opts.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") != "" || opts.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI") != "" || opts.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE") != ""
	if role || loc.Endpoint == nil || strings.HasSuffix(loc.Endpoint.Hostname(), ".amazonaws.com") {
		chain.Providers = append(chain.Providers, &credentials.IAM{Client: &http.Client{Timeout: 5 * time.Second}})
	}
	return chain
}
