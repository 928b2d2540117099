// Package awss3 keeps a bucket in AWS S3 through aws-sdk-go-v2, and in other stores that speak S3 where that library is wanted. It makes single
// requests of package remote's uploads and ranges; the contract is kept there.
//
// Credentials come from the files that the URL names; else from all the standard sources of the SDK: environment, shared files
// with profiles, SSO, roles of EC2, ECS, EKS and Lambda.
package awss3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/remote"
)

// Open makes a bucket of a URL such as aws://bucket/prefix?region=eu-central-1; see remote.Location for the parameters. Nothing is sent to the
// bucket yet: one that is not there shows at the first call.
func Open(ctx context.Context, u *url.URL, opts remote.Options) (*remote.Store, error) {
	if opts.Getenv == nil {
		opts.Getenv = os.Getenv
	}
	loc, err := remote.ParseLocation(u, opts.Getenv)
	if err != nil {
		return nil, err
	}
	client, err := connect(ctx, loc, opts)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", loc, err)
	}
	return remote.New(&api{client, loc}, loc, opts), nil
}

func connect(ctx context.Context, loc remote.Location, opts remote.Options) (*s3.Client, error) {
	var tuned error
	// A plain http.Client would make LoadDefaultConfig fail where AWS_CA_BUNDLE is set: it wants to add to the transport.
	client := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { tuned = opts.Tune(t, loc) })
	if tuned != nil {
		return nil, tuned
	}
	load := []func(*config.LoadOptions) error{
		config.WithHTTPClient(client),
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }), // who repeats a request must know that it is repeated
	}
	if loc.Region != "" {
		load = append(load, config.WithRegion(loc.Region))
	}
	if provider := fixed(loc, opts); provider != nil {
		load = append(load, config.WithCredentialsProvider(aws.NewCredentialsCache(provider)))
	} else if loc.Files.Profile != "" {
		load = append(load, config.WithSharedConfigProfile(loc.Files.Profile))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, err
	}
	if cfg.Region == "" {
		return nil, errors.New("no region: add ?region=… to the URL or set AWS_REGION")
	}
	cfg.Credentials = deniedWithout{cfg.Credentials}
	return s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.UsePathStyle = loc.PathStyle
		if loc.Endpoint != nil {
			o.BaseEndpoint = aws.String(loc.Endpoint.String())
		}
		// We give the checksums ourselves; the SDK's own come as trailers, which several stores refuse.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		o.DisableLogOutputChecksumValidationSkipped = true
		o.Logger = logging.Nop{} // it writes to standard error, of things that come as errors too
	}), nil
}

// fixed provides the keys of the options or the URL's files, nil if the standard sources are to be asked.
func fixed(loc remote.Location, opts remote.Options) aws.CredentialsProvider {
	if opts.Keys != nil {
		return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return credentials(*opts.Keys), nil })
	}
	if !loc.Files.Given() {
		return nil
	}
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		keys, err := loc.Files.Read(opts.Getenv)
		if err != nil {
			return aws.Credentials{}, fmt.Errorf("%w: %w", bucket.ErrDenied, err)
		}
		c := credentials(keys)
		c.CanExpire, c.Expires = true, time.Now().Add(remote.KeyLife)
		return c, nil
	})
}

// deniedWithout says in the contract's words that there is nothing to sign a request with.
type deniedWithout struct{ aws.CredentialsProvider }

func (d deniedWithout) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c, err := d.CredentialsProvider.Retrieve(ctx)
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: no credentials: %w", bucket.ErrDenied, err)
	}
	return c, err
}

func credentials(k remote.Keys) aws.Credentials {
	return aws.Credentials{AccessKeyID: k.ID, SecretAccessKey: k.Secret, SessionToken: k.Token, Source: "tablekeeper"}
}
