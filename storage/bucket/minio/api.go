package minio

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/lifecycle"
	"github.com/minio/minio-go/v7/pkg/tags"

	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/remote"
)

// api makes the requests. Each is tried once.
type api struct {
	core minio.Core
	loc  remote.Location
}

// failure turns an error of minio-go into the shared one, if the store answered.
func failure(err error) error {
	var response minio.ErrorResponse
	if !errors.As(err, &response) || response.StatusCode == 0 && response.Code == "" {
		return err
	}
	code := response.Code
	if strings.Contains(code, " ") {
		code = "" // minio-go puts the status line where the store sent no code
	}
	return &remote.AnswerError{Status: response.StatusCode, Code: code, Message: response.Message}
}

func (a *api) Get(ctx context.Context, key, etag, byteRange string) (remote.Object, error) {
	// Checksum mode lets minio-go compare the checksum of a whole body as it is read.
	opts := minio.GetObjectOptions{Checksum: byteRange == "" && !a.loc.NoChecksum}
	if byteRange != "" {
		opts.Set("Range", byteRange)
	}
	if etag != "" {
		if err := opts.SetMatchETag(etag); err != nil {
			return remote.Object{}, err
		}
	}
	body, info, header, err := a.core.GetObject(ctx, a.loc.Bucket, key, opts)
	if err != nil {
		return remote.Object{}, failure(err)
	}
	return remote.Object{Body: body, Info: describe(info), ContentRange: header.Get("Content-Range")}, nil
}

func (a *api) Head(ctx context.Context, key string) (bucket.Info, error) {
	info, err := a.core.StatObject(ctx, a.loc.Bucket, key, minio.StatObjectOptions{Checksum: !a.loc.NoChecksum})
	if err != nil {
		return bucket.Info{}, failure(err)
	}
	return describe(info), nil
}

func describe(o minio.ObjectInfo) bucket.Info {
	info := bucket.Info{Key: o.Key, Size: o.Size, ETag: o.ETag, Modified: o.LastModified}
	if o.ChecksumMode != minio.ChecksumCompositeMode.String() {
		info.CRC32C, info.SHA256 = toHex(o.ChecksumCRC32C, 4), toHex(o.ChecksumSHA256, sha256.Size)
	}
	return info
}

// toHex is a checksum of S3 in hex, "" if there is none of the whole object: those of parts end in a dash and their number.
func toHex(checksum string, size int) string {
	raw, err := base64.StdEncoding.DecodeString(checksum)
	if err != nil || len(raw) != size {
		return ""
	}
	return hex.EncodeToString(raw)
}

func (a *api) List(ctx context.Context, prefix, after string, max int) iter.Seq2[bucket.Info, error] {
	return func(yield func(bucket.Info, error) bool) {
		owner := false
		opts := minio.ListObjectsOptions{Prefix: prefix, StartAfter: after, Recursive: true, MaxKeys: max, FetchOwner: &owner}
		for o := range a.core.ListObjectsIter(ctx, a.loc.Bucket, opts) {
			if o.Err != nil {
				yield(bucket.Info{}, failure(o.Err))
				return
			}
			if !yield(bucket.Info{Key: o.Key, Size: o.Size, ETag: o.ETag, Modified: o.LastModified}, nil) {
				return
			}
		}
		// minio-go ends without a word when the context does.
		if ctx.Err() != nil {
			yield(bucket.Info{}, context.Cause(ctx))
		}
	}
}

func (a *api) Tags(ctx context.Context, key string) (map[string]string, error) {
	t, err := a.core.GetObjectTagging(ctx, a.loc.Bucket, key, minio.GetObjectTaggingOptions{})
	if err != nil {
		return nil, failure(err)
	}
	return t.ToMap(), nil
}

func (a *api) SetTags(ctx context.Context, key string, m map[string]string) error {
	if len(m) == 0 {
		return failure(a.core.RemoveObjectTagging(ctx, a.loc.Bucket, key, minio.RemoveObjectTaggingOptions{}))
	}
	t, err := tags.NewTags(m, true)
	if err != nil {
		return fmt.Errorf("%w: %w", bucket.ErrKey, err)
	}
	return failure(a.core.PutObjectTagging(ctx, a.loc.Bucket, key, t, minio.PutObjectTaggingOptions{}))
}

func (a *api) Delete(ctx context.Context, key string) error {
	return failure(a.core.RemoveObject(ctx, a.loc.Bucket, key, minio.RemoveObjectOptions{}))
}

// options of the request that creates an object. minio-go leaves tags out that it does not like, so they are tried first.
func options(c remote.Conditions) (minio.PutObjectOptions, error) {
	opts := minio.PutObjectOptions{UserTags: c.Tags, DisableContentSha256: true, UserMetadata: map[string]string{}}
	if _, err := tags.NewTags(c.Tags, true); err != nil {
		return opts, fmt.Errorf("%w: %w", bucket.ErrKey, err)
	}
	if c.IfAbsent {
		opts.SetMatchETagExcept("*")
	}
	if c.IfMatch != "" {
		opts.SetMatchETag(c.IfMatch)
	}
	return opts, nil
}

func crc(sum uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
}

func sha(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (a *api) Put(ctx context.Context, key string, p remote.Part, c remote.Conditions) (string, error) {
	opts, err := options(c)
	if err != nil {
		return "", err
	}
	if !a.loc.NoChecksum {
		opts.UserMetadata[minio.ChecksumCRC32C.Key()] = crc(p.CRC32C)
	}
	info, err := a.core.PutObject(ctx, a.loc.Bucket, key, bytes.NewReader(p.Data), p.Size, "", sha(p.Data), opts)
	return info.ETag, failure(err)
}

func (a *api) Begin(ctx context.Context, key string, c remote.Conditions) (string, error) {
	opts, err := options(remote.Conditions{Tags: c.Tags}) // conditions are for the end
	if err != nil {
		return "", err
	}
	if !a.loc.NoChecksum {
		opts.UserMetadata["x-amz-checksum-algorithm"] = minio.ChecksumCRC32C.String()
		opts.UserMetadata[minio.ChecksumFullObjectMode.Key()] = minio.ChecksumFullObjectMode.String()
	}
	id, err := a.core.NewMultipartUpload(ctx, a.loc.Bucket, key, opts)
	return id, failure(err)
}

func (a *api) PutPart(ctx context.Context, key, id string, p remote.Part) (string, error) {
	opts := minio.PutObjectPartOptions{Sha256Hex: sha(p.Data), DisableContentSha256: true}
	if !a.loc.NoChecksum {
		opts.CustomHeader = map[string][]string{minio.ChecksumCRC32C.KeyCapitalized(): {crc(p.CRC32C)}}
	}
	part, err := a.core.PutObjectPart(ctx, a.loc.Bucket, key, id, p.Number, bytes.NewReader(p.Data), p.Size, opts)
	return part.ETag, failure(err)
}

func (a *api) Complete(ctx context.Context, key, id string, parts []remote.Part, whole remote.Part, c remote.Conditions) (string, error) {
	opts, err := options(remote.Conditions{IfAbsent: c.IfAbsent, IfMatch: c.IfMatch})
	if err != nil {
		return "", err
	}
	complete := make([]minio.CompletePart, len(parts))
	for i, p := range parts {
		complete[i] = minio.CompletePart{PartNumber: p.Number, ETag: p.ETag}
		if !a.loc.NoChecksum {
			complete[i].ChecksumCRC32C = crc(p.CRC32C)
		}
	}
	if !a.loc.NoChecksum {
		opts.UserMetadata[minio.ChecksumCRC32C.Key()] = crc(whole.CRC32C)
		opts.UserMetadata[minio.ChecksumFullObjectMode.Key()] = minio.ChecksumFullObjectMode.String()
	}
	info, err := a.core.CompleteMultipartUpload(ctx, a.loc.Bucket, key, id, complete, opts)
	return info.ETag, failure(err)
}

func (a *api) Abort(ctx context.Context, key, id string) error {
	return failure(a.core.AbortMultipartUpload(ctx, a.loc.Bucket, key, id))
}

func (a *api) Lifecycle(ctx context.Context) ([]remote.Rule, error) {
	config, err := a.core.GetBucketLifecycle(ctx, a.loc.Bucket)
	if err != nil {
		return nil, failure(err)
	}
	var rules []remote.Rule
	for _, r := range config.Rules {
		if r.Status == "Enabled" && (r.Expiration.Days > 0 || !r.Expiration.Date.IsZero()) {
			rules = append(rules, rule(r))
		}
	}
	return rules, nil
}

func rule(r lifecycle.Rule) remote.Rule {
	f := r.RuleFilter
	out := remote.Rule{ID: r.ID, Prefix: r.Prefix + f.Prefix + f.And.Prefix}
	selected := f.And.Tags
	if !f.Tag.IsEmpty() {
		selected = append(selected, f.Tag)
	}
	if len(selected) > 0 {
		out.Tag = selected[0].Key + "=" + selected[0].Value
	}
	out.MoreTags = len(selected) > 1 || f.ObjectSizeGreaterThan != 0 || f.ObjectSizeLessThan != 0 || f.And.ObjectSizeGreaterThan != 0 || f.And.ObjectSizeLessThan != 0
	return out
}
