package provision

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/remote"
)

// connect makes the clients. The topic is reached with the keys of the bucket.
func (p *Provisioner) connect(ctx context.Context, u *url.URL, opts Options) error {
	getenv := opts.Remote.Getenv
	if getenv == nil {
		getenv = os.Getenv
	}
	var err error
	if p.loc, err = remote.ParseLocation(u, getenv); err != nil {
		return err
	}
	cfg, err := p.load(ctx, opts.Remote, getenv)
	if err != nil {
		return fmt.Errorf("bucket %s: %w", p.loc, err)
	}
	p.s3 = s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.UsePathStyle = p.loc.PathStyle
		if p.loc.Endpoint != nil {
			o.BaseEndpoint = aws.String(p.loc.Endpoint.String())
		}
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		o.Logger = logging.Nop{}
	})
	p.sns = sns.NewFromConfig(cfg, func(o *sns.Options) {
		if opts.SNSEndpoint != "" {
			o.BaseEndpoint = aws.String(opts.SNSEndpoint)
		}
		if region := regionOf(p.want.Topic); region != "" {
			o.Region = region
		}
	})
	return nil
}

func (p *Provisioner) load(ctx context.Context, opts remote.Options, getenv func(string) string) (aws.Config, error) {
	var tuned error
	client := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { tuned = opts.Tune(t, p.loc) })
	if tuned != nil {
		return aws.Config{}, tuned
	}
	load := []func(*config.LoadOptions) error{config.WithHTTPClient(client)}
	if p.loc.Region != "" {
		load = append(load, config.WithRegion(p.loc.Region))
	}
	switch {
	case opts.Keys != nil:
		load = append(load, fixed(*opts.Keys))
	case p.loc.Files.Given():
		keys, err := p.loc.Files.Read(getenv)
		if err != nil {
			return aws.Config{}, fmt.Errorf("%w: %w", bucket.ErrDenied, err)
		}
		load = append(load, fixed(keys))
	case p.loc.Files.Profile != "":
		load = append(load, config.WithSharedConfigProfile(p.loc.Files.Profile))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err == nil && cfg.Region == "" {
		err = errors.New("no region: add ?region=… to the URL or set AWS_REGION")
	}
	return cfg, err
}

func fixed(k remote.Keys) func(*config.LoadOptions) error {
	return config.WithCredentialsProvider(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: k.ID, SecretAccessKey: k.Secret, SessionToken: k.Token, Source: "tablekeeper"}, nil
	}))
}

func isAWS(l remote.Location) bool {
	if l.Endpoint == nil {
		return true
	}
	host := l.Endpoint.Hostname()
	return strings.HasSuffix(host, ".amazonaws.com") || strings.HasSuffix(host, ".amazonaws.com.cn")
}

// regionOf is the region in an ARN, "" if it is none.
func regionOf(arn string) string {
	if parts := strings.SplitN(arn, ":", 6); len(parts) == 6 && parts[0] == "arn" {
		return parts[3]
	}
	return ""
}

// serverOf is what a server calls itself in its answer.
func serverOf(m middleware.Metadata, err error) string {
	var answer *awshttp.ResponseError
	if errors.As(err, &answer) {
		return answer.Response.Header.Get("Server")
	}
	if raw, ok := awsmiddleware.GetRawResponse(m).(*smithyhttp.Response); ok {
		return raw.Header.Get("Server")
	}
	return ""
}

// statusOf is the HTTP status of an error, 0 if no server answered.
func statusOf(err error) int {
	var answer *awshttp.ResponseError
	if errors.As(err, &answer) {
		return answer.HTTPStatusCode()
	}
	return 0
}

func codeOf(err error) string {
	var answer smithy.APIError
	if errors.As(err, &answer) {
		return answer.ErrorCode()
	}
	return ""
}

// unsupported tells whether a server knows nothing of what it was asked.
func unsupported(err error) bool {
	switch codeOf(err) {
	case "NotImplemented", "XNotImplemented", "NotSupported", "UnsupportedOperation", "VersioningNotConfigured":
		return true
	}
	status := statusOf(err)
	return status == http.StatusNotImplemented || status == http.StatusMethodNotAllowed
}

// wrap says what we were doing, and in the bucket's words what kind of error it was.
func wrap(ctx context.Context, doing string, err error) error {
	switch status := statusOf(err); {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", doing, ctx.Err())
	case status == http.StatusForbidden || status == http.StatusUnauthorized:
		return fmt.Errorf("%s: %w: %w", doing, bucket.ErrDenied, err)
	case codeOf(err) == "NoSuchBucket":
		return fmt.Errorf("%s: %w: %w", doing, bucket.ErrNoBucket, err)
	case status == 0 && codeOf(err) == "", status == http.StatusServiceUnavailable:
		return fmt.Errorf("%s: %w: %w", doing, bucket.ErrUnreachable, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}
