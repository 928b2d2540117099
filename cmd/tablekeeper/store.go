package main

import (
	"context"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"strings"

	"filippo.io/age"

	"tablekeeper/cmd/tablekeeper/settings"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/awss3"
	"tablekeeper/storage/bucket/dir"
	"tablekeeper/storage/bucket/minio"
	"tablekeeper/storage/bucket/remote"
	"tablekeeper/storage/shelf"
)

// store is a bucket with the backups in it.
type store struct {
	Address   string        // without credentials
	Bucket    bucket.Bucket // retries
	Raw       bucket.Bucket // does not: it shows how the store is at this moment
	Catalogue *archive.Catalogue
}

// openStore opens the bucket at an address.
func openStore(ctx context.Context, f *fleet, address string) (*store, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, usage("--bucket ./backups, or s3://bucket/prefix?endpoint=https://host", "bucket %q: %w", address, err)
	}
	keys, err := readKeys(f.cfg)
	if err != nil {
		return nil, err
	}
	s := &store{Address: addressOf(address)}
	opened, err := openBucket(ctx, f, u, s.Address)
	if err != nil {
		return nil, err
	}
	s.Raw = opened
	s.Bucket = bucket.Steady(opened, bucket.SteadyOptions{Logger: f.log})
	s.Catalogue = archive.NewCatalogue(s.Bucket, keys)
	return s, nil
}

// addressOf says which bucket an address means: without credentials, and without the parameters that only say how to reach it.
func addressOf(address string) string {
	u, err := url.Parse(address)
	if err != nil || address == "" {
		return ""
	}
	clean := url.URL{Scheme: u.Scheme, Host: u.Host, Path: strings.TrimSuffix(u.Path, "/")}
	if endpoint := u.Query().Get("endpoint"); endpoint != "" {
		clean.RawQuery = "endpoint=" + endpoint
	}
	return clean.String()
}

// openBucket is the one place that knows which package serves which scheme.
func openBucket(ctx context.Context, f *fleet, u *url.URL, address string) (bucket.Bucket, error) {
	switch u.Scheme {
	case "file":
		return openFolder(f, u, address)
	case "s3":
		return openRemote(ctx, f.cfg, u, minio.Open)
	case "aws":
		return openRemote(ctx, f.cfg, u, awss3.Open)
	}
	return nil, usage("file:///path, s3://bucket/prefix?endpoint=https://host or aws://bucket/prefix?region=...",
		"bucket %s: the scheme %q is not known", u.Redacted(), u.Scheme)
}

// openRemote opens a bucket at an S3 store.
func openRemote(
	ctx context.Context, cfg settings.Config, u *url.URL, open func(context.Context, *url.URL, remote.Options) (*remote.Store, error),
) (bucket.Bucket, error) {
	b, err := open(ctx, withKeyFiles(cfg, u), remote.Options{})
	if err != nil {
		return nil, usage("see docs/configuration.md, Where backups go", "%w", err)
	}
	return b, nil
}

// withKeyFiles is a bucket's address with the configured files of its keys, where it names none itself.
func withKeyFiles(cfg settings.Config, u *url.URL) *url.URL {
	query := u.Query()
	named := query.Has("credentials_file") || query.Has("access_key_id_file")
	for name, file := range map[string]string{
		"access_key_id_file": cfg.Credentials.AccessKeyIDFile, "secret_access_key_file": cfg.Credentials.SecretAccessKeyFile,
		"session_token_file": cfg.Credentials.SessionTokenFile,
	} {
		if file != "" && !named {
			query.Set(name, file)
		}
	}
	with := *u
	with.RawQuery = query.Encode()
	return &with
}

// openFolder opens a folder as a bucket. The first time it is made; once a table has a backup in it, a folder that is missing or
// that has no mark is likely an unmounted disk, and must not be mistaken for an empty bucket.
func openFolder(f *fleet, u *url.URL, address string) (bucket.Bucket, error) {
	path, err := dir.Path(u)
	if err != nil {
		return nil, usage("--bucket /path/to/folder", "%w", err)
	}
	b, err := dir.OpenMarked(path)
	if err == nil || !errors.Is(err, bucket.ErrNoBucket) {
		return b, err
	}
	if f.shelf == nil {
		return openFilled(path, err)
	}
	for _, t := range f.shelf.Tables() {
		if r, recordErr := shelf.ReadRecord(t.Path); recordErr == nil && r.Bucket == address {
			return nil, fail(exitNotFound, "mount it; or, if the backups are lost for good, name another folder",
				"%s has backups in %s, and that is no bucket now: %w", t.Name, path, err)
		}
	}
	return dir.Create(path)
}

// openFilled opens a folder without a mark if it has something in it, such as a copy of a bucket.
func openFilled(path string, unmarked error) (bucket.Bucket, error) {
	if entries, err := os.ReadDir(path); err != nil || len(entries) == 0 {
		return nil, unmarked
	}
	return dir.Open(path)
}

// readKeys reads the keys that backups are encrypted to and read with.
func readKeys(cfg settings.Config) (archive.CatalogueOptions, error) {
	var opts archive.CatalogueOptions
	lines := cfg.Encryption.Recipients
	if file := cfg.Encryption.RecipientsFile; file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return opts, usage("correct encryption.recipients_file", "read the recipients: %w", err)
		}
		lines = append(lines, strings.Split(string(data), "\n")...)
	}
	var err error
	if opts.Recipients, err = archive.ParseRecipients(lines); err != nil {
		return opts, usage("use a line as `age-keygen` or `ssh-keygen -t ed25519` print it", "%w", err)
	}
	if file := cfg.Encryption.IdentityFile; file != "" {
		if opts.Identities, err = readIdentities(file); err != nil {
			return opts, usage("name a file as `age-keygen -o FILE` writes it", "read the identity %s: %w", file, err)
		}
	}
	return opts, nil
}

func readIdentities(file string) ([]age.Identity, error) {
	data, err := os.ReadFile(file)
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return nil, pathErr.Err
	}
	if err != nil {
		return nil, err
	}
	return archive.ParseIdentities(data)
}
