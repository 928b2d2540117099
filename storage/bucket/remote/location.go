package remote

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"tablekeeper/storage/bucket"
)

// Location is what a bucket's URL says: scheme://bucket/prefix?parameters. The parameters are
//
//	endpoint                 http(s)://host:port of the store; default AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, then AWS itself
//	region                   default AWS_REGION, AWS_DEFAULT_REGION; then us-east-1 if there is an endpoint
//	path_style               true: http://host/bucket/key; false: http://bucket.host/key; default true if there is an endpoint
//	ca_file                  PEM certificates to trust besides the system's; default AWS_CA_BUNDLE
//	checksum                 none: send no checksums, for stores that refuse them
//	credentials_file         in the format of ~/.aws/credentials, read again when the keys in it change
//	profile                  of that file or of the shared ones; default AWS_PROFILE, default
//	access_key_id_file       each a file with just that value, as container platforms mount secrets; the first two
//	secret_access_key_file   go together
//	session_token_file
//
// Without any of the files credentials come from the standard sources of AWS. Secrets themselves have no place in a URL.
type Location struct {
	Scheme    string
	Bucket    string
	Prefix    string // without slashes around it
	Endpoint  *url.URL
	Region    string
	PathStyle bool

	CAFile     string
	NoChecksum bool
	Files      KeyFiles
}

// bucketName is what AWS and MinIO allow; see "General purpose bucket naming rules".
var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// ParseLocation reads a URL and, for what it leaves open, the environment (os.Getenv or the like).
func ParseLocation(u *url.URL, getenv func(string) string) (Location, error) {
	l := Location{Scheme: u.Scheme, Bucket: u.Host}
	fail := func(format string, args ...any) (Location, error) {
		return Location{}, fmt.Errorf("bucket %s://%s%s: %w", u.Scheme, u.Host, u.Path, fmt.Errorf(format, args...))
	}
	if u.User != nil {
		return fail("credentials in a URL end up in logs and process lists; use the environment, access_key_id_file and secret_access_key_file, or credentials_file")
	}
	if !bucketName.MatchString(l.Bucket) {
		return fail("%q is not a bucket's name: 3 to 63 of a-z, 0-9, dot and dash", l.Bucket)
	}
	if u.Fragment != "" || u.Opaque != "" {
		return fail("a bucket's URL is %s://bucket/prefix?parameters", u.Scheme)
	}
	l.Prefix = strings.Trim(u.Path, "/")
	if l.Prefix != "" {
		if err := bucket.CheckKey(l.Prefix); err != nil {
			return fail("prefix: %w", err)
		}
	}
	if err := l.parameters(u, getenv); err != nil {
		return fail("%w", err)
	}
	return l, nil
}

func (l *Location) parameters(u *url.URL, getenv func(string) string) error {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return errors.New("its parameters are not those of a URL") // the error would repeat them
	}
	known := map[string]*string{}
	var endpoint, pathStyle, checksum string
	for name, to := range map[string]*string{
		"endpoint": &endpoint, "region": &l.Region, "path_style": &pathStyle, "checksum": &checksum, "ca_file": &l.CAFile,
		"credentials_file": &l.Files.Shared, "profile": &l.Files.Profile, "access_key_id_file": &l.Files.ID,
		"secret_access_key_file": &l.Files.Secret, "session_token_file": &l.Files.Token,
	} {
		known[name] = to
	}
	for name, values := range query {
		to := known[name]
		if to == nil {
			return unknownParameter(name, known)
		}
		if len(values) != 1 || values[0] == "" {
			return fmt.Errorf("parameter %s needs one value", name)
		}
		*to = values[0]
	}
	if err := l.Files.check(); err != nil {
		return err
	}
	switch checksum {
	case "", "none":
		l.NoChecksum = checksum != ""
	default:
		return fmt.Errorf("checksum %q: only none is known", checksum)
	}
	return l.where(endpoint, pathStyle, getenv)
}

func unknownParameter(name string, known map[string]*string) error {
	var like []string
	for k := range known {
		if strings.Contains(k, name) || strings.Contains(name, k) || strings.ReplaceAll(strings.ToLower(name), "-", "_") == k {
			like = append(like, k)
		}
	}
	slices.Sort(like)
	if len(like) > 0 {
		return fmt.Errorf("unknown parameter %s; did you mean %s?", name, strings.Join(like, " or "))
	}
	return fmt.Errorf("unknown parameter %s", name)
}

// where settles endpoint, region and style.
func (l *Location) where(endpoint, pathStyle string, getenv func(string) string) error {
	for _, variable := range []string{"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"} {
		if endpoint == "" {
			endpoint = getenv(variable)
		}
	}
	if endpoint != "" {
		e, err := url.Parse(endpoint)
		if err != nil || e.Scheme != "http" && e.Scheme != "https" || e.Host == "" || strings.Trim(e.Path, "/") != "" || e.User != nil || e.RawQuery != "" {
			return fmt.Errorf("endpoint must be http://host:port or https://host:port")
		}
		l.Endpoint = &url.URL{Scheme: e.Scheme, Host: e.Host}
	}
	if l.CAFile == "" {
		l.CAFile = getenv("AWS_CA_BUNDLE")
	}
	for _, variable := range []string{"AWS_REGION", "AWS_DEFAULT_REGION"} {
		if l.Region == "" {
			l.Region = getenv(variable)
		}
	}
	if l.Region == "" && l.Endpoint != nil {
		l.Region = "us-east-1"
	}
	l.PathStyle = l.Endpoint != nil
	if pathStyle != "" {
		style, err := strconv.ParseBool(pathStyle)
		if err != nil {
			return fmt.Errorf("path_style %q: want true or false", pathStyle)
		}
		l.PathStyle = style
	}
	return nil
}

// String is the URL without parameters.
func (l Location) String() string {
	return strings.TrimSuffix(fmt.Sprintf("%s://%s/%s", l.Scheme, l.Bucket, l.Prefix), "/")
}

// certificates are those of the system and of CAFile; nil means the system's.
func (l Location) certificates() ([]byte, error) {
	if l.CAFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(l.CAFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	return pem, nil
}
