package awss3

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"iter"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/remote"
)

// api makes the requests. Each is tried once.
type api struct {
	client *s3.Client
	loc    remote.Location
}

// failure turns an error of the SDK into the shared one, if the store answered.
func failure(err error) error {
	var response *awshttp.ResponseError
	if !errors.As(err, &response) {
		return err
	}
	f := &remote.AnswerError{Status: response.HTTPStatusCode()}
	var answer smithy.APIError
	if errors.As(err, &answer) {
		f.Code, f.Message = answer.ErrorCode(), answer.ErrorMessage()
	}
	if f.Code == "UnknownError" {
		f.Code = "" // the SDK's word where the store sent none
	}
	if f.Status < 300 && f.Code == "" {
		return err // the answer could not be read
	}
	return f
}

func etag(quoted *string) string { return strings.Trim(aws.ToString(quoted), `"`) }

func quoted(etag string) *string {
	if etag == "" {
		return nil
	}
	return aws.String(`"` + etag + `"`)
}

func (a *api) name() *string { return aws.String(a.loc.Bucket) }

func (a *api) mode(wanted bool) types.ChecksumMode {
	if wanted && !a.loc.NoChecksum {
		return types.ChecksumModeEnabled
	}
	return ""
}

func (a *api) Get(ctx context.Context, key, version, byteRange string) (remote.Object, error) {
	in := &s3.GetObjectInput{Bucket: a.name(), Key: &key, IfMatch: quoted(version), ChecksumMode: a.mode(byteRange == "")}
	if byteRange != "" {
		in.Range = &byteRange
	}
	out, err := a.client.GetObject(ctx, in)
	if err != nil {
		return remote.Object{}, failure(err)
	}
	size := int64(-1)
	if out.ContentLength != nil {
		size = *out.ContentLength
	}
	info := bucket.Info{Key: key, Size: size, ETag: etag(out.ETag), Modified: aws.ToTime(out.LastModified)}
	if out.ChecksumType != types.ChecksumTypeComposite {
		info.CRC32C, info.SHA256 = toHex(out.ChecksumCRC32C, 4), toHex(out.ChecksumSHA256, 32)
	}
	return remote.Object{Body: out.Body, Info: info, ContentRange: aws.ToString(out.ContentRange)}, nil
}

func (a *api) Head(ctx context.Context, key string) (bucket.Info, error) {
	out, err := a.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: a.name(), Key: &key, ChecksumMode: a.mode(true)})
	if err != nil {
		return bucket.Info{}, failure(err)
	}
	info := bucket.Info{Key: key, Size: aws.ToInt64(out.ContentLength), ETag: etag(out.ETag), Modified: aws.ToTime(out.LastModified)}
	if out.ChecksumType != types.ChecksumTypeComposite {
		info.CRC32C, info.SHA256 = toHex(out.ChecksumCRC32C, 4), toHex(out.ChecksumSHA256, 32)
	}
	return info, nil
}

// toHex is a checksum of S3 in hex, "" if there is none of the whole object: those of parts end in a dash and their number.
func toHex(checksum *string, size int) string {
	raw, err := base64.StdEncoding.DecodeString(aws.ToString(checksum))
	if err != nil || len(raw) != size {
		return ""
	}
	return hex.EncodeToString(raw)
}

func (a *api) List(ctx context.Context, prefix, after string, max int) iter.Seq2[bucket.Info, error] {
	return func(yield func(bucket.Info, error) bool) {
		in := &s3.ListObjectsV2Input{Bucket: a.name(), Prefix: &prefix, MaxKeys: aws.Int32(int32(max))}
		if after != "" {
			in.StartAfter = &after
		}
		pages := s3.NewListObjectsV2Paginator(a.client, in, func(o *s3.ListObjectsV2PaginatorOptions) { o.StopOnDuplicateToken = true })
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(bucket.Info{}, failure(err))
				return
			}
			for _, o := range page.Contents {
				if !yield(bucket.Info{Key: aws.ToString(o.Key), Size: aws.ToInt64(o.Size), ETag: etag(o.ETag), Modified: aws.ToTime(o.LastModified)}, nil) {
					return
				}
			}
		}
	}
}

func (a *api) Tags(ctx context.Context, key string) (map[string]string, error) {
	out, err := a.client.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: a.name(), Key: &key})
	if err != nil {
		return nil, failure(err)
	}
	tags := make(map[string]string, len(out.TagSet))
	for _, t := range out.TagSet {
		tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return tags, nil
}

func (a *api) SetTags(ctx context.Context, key string, tags map[string]string) error {
	if len(tags) == 0 {
		_, err := a.client.DeleteObjectTagging(ctx, &s3.DeleteObjectTaggingInput{Bucket: a.name(), Key: &key})
		return failure(err)
	}
	set := make([]types.Tag, 0, len(tags))
	for k, v := range tags {
		set = append(set, types.Tag{Key: &k, Value: &v})
	}
	_, err := a.client.PutObjectTagging(ctx, &s3.PutObjectTaggingInput{Bucket: a.name(), Key: &key, Tagging: &types.Tagging{TagSet: set}})
	return failure(err)
}

// header is a set of tags as the header x-amz-tagging has it.
func header(tags map[string]string) *string {
	if len(tags) == 0 {
		return nil
	}
	values := url.Values{}
	for k, v := range tags {
		values.Set(k, v)
	}
	return aws.String(values.Encode())
}

func (a *api) Delete(ctx context.Context, key string) error {
	_, err := a.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: a.name(), Key: &key})
	return failure(err)
}

// crc is a checksum as S3 has it, nil for stores that refuse them.
func (a *api) crc(sum uint32) *string {
	if a.loc.NoChecksum {
		return nil
	}
	return aws.String(base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum)))
}

func absent(c remote.Conditions) *string {
	if c.IfAbsent {
		return aws.String("*")
	}
	return nil
}

func (a *api) Put(ctx context.Context, key string, p remote.Part, c remote.Conditions) (string, error) {
	out, err := a.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: a.name(), Key: &key, Body: bytes.NewReader(p.Data), ContentLength: &p.Size, ChecksumCRC32C: a.crc(p.CRC32C),
		IfNoneMatch: absent(c), IfMatch: quoted(c.IfMatch), Tagging: header(c.Tags), ContentType: aws.String("application/octet-stream"),
	})
	if err != nil {
		return "", failure(err)
	}
	return etag(out.ETag), nil
}

func (a *api) Begin(ctx context.Context, key string, c remote.Conditions) (string, error) {
	in := &s3.CreateMultipartUploadInput{Bucket: a.name(), Key: &key, Tagging: header(c.Tags), ContentType: aws.String("application/octet-stream")}
	if !a.loc.NoChecksum {
		in.ChecksumAlgorithm, in.ChecksumType = types.ChecksumAlgorithmCrc32c, types.ChecksumTypeFullObject
	}
	out, err := a.client.CreateMultipartUpload(ctx, in)
	if err != nil {
		return "", failure(err)
	}
	return aws.ToString(out.UploadId), nil
}

func (a *api) PutPart(ctx context.Context, key, id string, p remote.Part) (string, error) {
	out, err := a.client.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: a.name(), Key: &key, UploadId: &id, PartNumber: aws.Int32(int32(p.Number)), Body: bytes.NewReader(p.Data), ContentLength: &p.Size, ChecksumCRC32C: a.crc(p.CRC32C),
	})
	if err != nil {
		return "", failure(err)
	}
	return etag(out.ETag), nil
}

func (a *api) Complete(ctx context.Context, key, id string, parts []remote.Part, whole remote.Part, c remote.Conditions) (string, error) {
	in := &s3.CompleteMultipartUploadInput{
		Bucket: a.name(), Key: &key, UploadId: &id, MultipartUpload: &types.CompletedMultipartUpload{},
		IfNoneMatch: absent(c), IfMatch: quoted(c.IfMatch), ChecksumCRC32C: a.crc(whole.CRC32C),
	}
	if !a.loc.NoChecksum {
		in.ChecksumType = types.ChecksumTypeFullObject
	}
	for _, p := range parts {
		in.MultipartUpload.Parts = append(in.MultipartUpload.Parts, types.CompletedPart{
			PartNumber: aws.Int32(int32(p.Number)), ETag: quoted(p.ETag), ChecksumCRC32C: a.crc(p.CRC32C),
		})
	}
	out, err := a.client.CompleteMultipartUpload(ctx, in)
	if err != nil {
		return "", failure(err)
	}
	return etag(out.ETag), nil
}

func (a *api) Abort(ctx context.Context, key, id string) error {
	_, err := a.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: a.name(), Key: &key, UploadId: &id})
	return failure(err)
}

func (a *api) Lifecycle(ctx context.Context) ([]remote.Rule, error) {
	out, err := a.client.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: a.name()})
	if err != nil {
		return nil, failure(err)
	}
	var rules []remote.Rule
	for _, r := range out.Rules {
		if e := r.Expiration; r.Status == types.ExpirationStatusEnabled && e != nil && (aws.ToInt32(e.Days) > 0 || e.Date != nil) {
			rules = append(rules, rule(r))
		}
	}
	return rules, nil
}

func rule(r types.LifecycleRule) remote.Rule {
	out := remote.Rule{ID: aws.ToString(r.ID)}
	f := r.Filter
	if f == nil {
		return out
	}
	out.Prefix = aws.ToString(f.Prefix)
	selected := []types.Tag{}
	if f.Tag != nil {
		selected = append(selected, *f.Tag)
	}
	sizes := f.ObjectSizeGreaterThan != nil || f.ObjectSizeLessThan != nil
	if f.And != nil {
		out.Prefix += aws.ToString(f.And.Prefix)
		selected = append(selected, f.And.Tags...)
		sizes = sizes || f.And.ObjectSizeGreaterThan != nil || f.And.ObjectSizeLessThan != nil
	}
	if len(selected) > 0 {
		out.Tag = aws.ToString(selected[0].Key) + "=" + aws.ToString(selected[0].Value)
	}
	out.MoreTags = len(selected) > 1 || sizes
	return out
}
