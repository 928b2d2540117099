package provision

import (
	"context"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// setting is a part that is one step.
type setting struct {
	p      *Provisioner
	name   string
	want   string
	cannot string // what it means that the server cannot
	unsure string // a server that does not say whether it can, until it is told to
	byAWS  bool   // wanted of AWS alone: others are looked at, and left to who runs them
	// read says how it is, "" for not at all, and whether that is as wanted.
	read  func(ctx context.Context) (now string, right bool, err error)
	write func(ctx context.Context) error
}

func (s *setting) wanted() []Step {
	return []Step{{Part: s.name, Status: Missing, Want: s.want}}
}

func (s *setting) look(ctx context.Context) ([]Step, error) {
	step := Step{Part: s.name, Want: s.want}
	now, right, err := s.read(ctx)
	step.Now = now
	switch {
	case unsupported(err):
		step.Status, step.Why = Cannot, s.cannot
	case err != nil:
		return nil, wrap(ctx, "look at "+s.name+" of "+s.p.String(), err)
	case right:
		step.Status = Right
	case s.byAWS && !s.p.aws:
		step.Status, step.Why = Cannot, s.cannot
	case now == "" && s.unsure != "" && s.p.server == s.unsure:
		step.Status, step.Why, step.Try = Cannot, s.cannot, true
	case now == "":
		step.Status = Missing
	default:
		step.Status = Differs
	}
	return []Step{step}, nil
}

func (s *setting) set(ctx context.Context) error {
	return wrap(ctx, "set "+s.name+" of "+s.p.String(), s.write(ctx))
}

func (p *Provisioner) name() *string { return aws.String(p.loc.Bucket) }

// absent turns the error for a configuration that is not there into none.
func absent(err error, codes ...string) error {
	for _, code := range codes {
		if codeOf(err) == code {
			return nil
		}
	}
	return err
}

func (p *Provisioner) bucket() part {
	return &setting{p: p, name: "bucket", want: p.loc.Bucket,
		read: func(ctx context.Context) (string, bool, error) {
			out, err := p.s3.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: p.name()})
			if err != nil {
				p.server = serverOf(noMetadata, err)
				if statusOf(err) == http.StatusNotFound {
					return "", false, nil
				}
				return "", false, err
			}
			p.server = serverOf(out.ResultMetadata, nil)
			return p.loc.Bucket, true, nil
		},
		write: func(ctx context.Context) error {
			in := &s3.CreateBucketInput{Bucket: p.name()}
			if region := p.s3.Options().Region; region != "us-east-1" {
				in.CreateBucketConfiguration = &types.CreateBucketConfiguration{LocationConstraint: types.BucketLocationConstraint(region)}
			}
			_, err := p.s3.CreateBucket(ctx, in)
			return absent(err, "BucketAlreadyOwnedByYou")
		},
	}
}

func (p *Provisioner) versioning() part {
	return &setting{p: p, name: "versioning", want: "Enabled",
		cannot: "an overwritten or deleted backup cannot be brought back", unsure: "VERSITYGW", // it needs --versioning-dir
		read: func(ctx context.Context) (string, bool, error) {
			out, err := p.s3.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: p.name()})
			if err != nil {
				return "", false, err
			}
			return string(out.Status), out.Status == types.BucketVersioningStatusEnabled, nil
		},
		write: func(ctx context.Context) error {
			_, err := p.s3.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: p.name(),
				VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}})
			return err
		},
	}
}

// protection is what AWS alone has, or means the same by.
func (p *Provisioner) protection() []part {
	return []part{p.publicAccess(), p.ownership(), p.encryption(), p.transport()}
}

func (p *Provisioner) publicAccess() part {
	all := &types.PublicAccessBlockConfiguration{BlockPublicAcls: aws.Bool(true), BlockPublicPolicy: aws.Bool(true), IgnorePublicAcls: aws.Bool(true), RestrictPublicBuckets: aws.Bool(true)}
	return &setting{p: p, name: "public access block", want: "everything blocked", byAWS: true,
		cannot: "left to this server: see to it that no policy makes the bucket public",
		read: func(ctx context.Context) (string, bool, error) {
			out, err := p.s3.GetPublicAccessBlock(ctx, &s3.GetPublicAccessBlockInput{Bucket: p.name()})
			if err != nil || out.PublicAccessBlockConfiguration == nil {
				return "", false, absent(err, "NoSuchPublicAccessBlockConfiguration")
			}
			c := out.PublicAccessBlockConfiguration
			if aws.ToBool(c.BlockPublicAcls) && aws.ToBool(c.BlockPublicPolicy) && aws.ToBool(c.IgnorePublicAcls) && aws.ToBool(c.RestrictPublicBuckets) {
				return "everything blocked", true, nil
			}
			return "not everything blocked", false, nil
		},
		write: func(ctx context.Context) error {
			_, err := p.s3.PutPublicAccessBlock(ctx, &s3.PutPublicAccessBlockInput{Bucket: p.name(), PublicAccessBlockConfiguration: all})
			return err
		},
	}
}

func (p *Provisioner) ownership() part {
	const want = types.ObjectOwnershipBucketOwnerEnforced
	return &setting{p: p, name: "ownership", want: string(want), byAWS: true,
		cannot: "left to this server",
		read: func(ctx context.Context) (string, bool, error) {
			out, err := p.s3.GetBucketOwnershipControls(ctx, &s3.GetBucketOwnershipControlsInput{Bucket: p.name()})
			if err != nil || out.OwnershipControls == nil || len(out.OwnershipControls.Rules) == 0 {
				return "", false, absent(err, "OwnershipControlsNotFoundError")
			}
			now := out.OwnershipControls.Rules[0].ObjectOwnership
			return string(now), now == want, nil
		},
		write: func(ctx context.Context) error {
			_, err := p.s3.PutBucketOwnershipControls(ctx, &s3.PutBucketOwnershipControlsInput{Bucket: p.name(),
				OwnershipControls: &types.OwnershipControls{Rules: []types.OwnershipControlsRule{{ObjectOwnership: want}}}})
			return err
		},
	}
}

func (p *Provisioner) encryption() part {
	return &setting{p: p, name: "encryption", want: "AES256 or aws:kms", byAWS: true,
		cannot: "left to this server; tablekeeper encrypts by itself with encryption.recipients",
		read: func(ctx context.Context) (string, bool, error) {
			out, err := p.s3.GetBucketEncryption(ctx, &s3.GetBucketEncryptionInput{Bucket: p.name()})
			if err != nil || out.ServerSideEncryptionConfiguration == nil {
				return "", false, absent(err, "ServerSideEncryptionConfigurationNotFoundError")
			}
			for _, r := range out.ServerSideEncryptionConfiguration.Rules {
				// Any algorithm: one that was chosen by hand is stronger than ours.
				if d := r.ApplyServerSideEncryptionByDefault; d != nil && d.SSEAlgorithm != "" {
					return string(d.SSEAlgorithm), true, nil
				}
			}
			return "", false, nil
		},
		write: func(ctx context.Context) error {
			rule := types.ServerSideEncryptionRule{ApplyServerSideEncryptionByDefault: &types.ServerSideEncryptionByDefault{SSEAlgorithm: types.ServerSideEncryptionAes256}}
			_, err := p.s3.PutBucketEncryption(ctx, &s3.PutBucketEncryptionInput{Bucket: p.name(),
				ServerSideEncryptionConfiguration: &types.ServerSideEncryptionConfiguration{Rules: []types.ServerSideEncryptionRule{rule}}})
			return err
		},
	}
}

// partition is the part of AWS that a region belongs to.
func partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}
