package remote_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"tablekeeper/storage/bucket/remote"
)

func noenv(string) string { return "" }

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func parse(t *testing.T, text string, getenv func(string) string) (remote.Location, error) {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return remote.ParseLocation(u, getenv)
}

func TestParseLocation(t *testing.T) {
	for _, test := range []struct {
		url    string
		getenv func(string) string
		want   string // bucket prefix endpoint region path-style
	}{
		{"s3://backups", noenv, "backups   false"},
		{"s3://backups/", noenv, "backups   false"},
		{"s3://backups/a/b/?endpoint=http://127.0.0.1:9000", noenv, "backups a/b http://127.0.0.1:9000 us-east-1 true"},
		{"s3://backups?endpoint=https://s3.example.org&path_style=false&region=x", noenv, "backups  https://s3.example.org x false"},
		{"aws://my.bucket/p?region=eu-central-1", noenv, "my.bucket p  eu-central-1 false"},
		{"aws://backups", env("AWS_REGION", "r1", "AWS_DEFAULT_REGION", "r2"), "backups   r1 false"},
		{"aws://backups", env("AWS_ENDPOINT_URL", "http://a:1", "AWS_ENDPOINT_URL_S3", "http://b:2/"), "backups  http://b:2 us-east-1 true"},
		{"aws://backups?endpoint=http://c:3", env("AWS_ENDPOINT_URL_S3", "http://b:2"), "backups  http://c:3 us-east-1 true"},
	} {
		l, err := parse(t, test.url, test.getenv)
		endpoint := ""
		if l.Endpoint != nil {
			endpoint = l.Endpoint.String()
		}
		got := strings.Join([]string{l.Bucket, l.Prefix, endpoint, l.Region, fmt.Sprint(l.PathStyle)}, " ")
		if err != nil || strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(test.want), " ") {
			t.Errorf("ParseLocation(%s) = %s, %v, want %s", test.url, got, err, test.want)
		}
	}
}

func TestParseLocationRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"s3://KEYID:TOPSECRET@backups":               "credentials in a URL",
		"s3://":                                      "not a bucket's name",
		"s3://Bad_Name":                              "not a bucket's name",
		"s3://ab":                                    "not a bucket's name",
		"s3://backups/a/../b":                        "prefix",
		"s3://backups/.hidden":                       "prefix",
		"s3://backups?endpont=http://x":              "unknown parameter endpont",
		"s3://backups?path-style=true":               "did you mean path_style",
		"s3://backups?access_key_id=TOPSECRET":       "did you mean access_key_id_file",
		"s3://backups?secret_access_key=TOPSECRET":   "did you mean secret_access_key_file",
		"s3://backups?region=":                       "needs one value",
		"s3://backups?region=a&region=b":             "needs one value",
		"s3://backups?endpoint=127.0.0.1:9000":       "endpoint must be",
		"s3://backups?endpoint=http://u:TOPSECRET@h": "endpoint must be",
		"s3://backups?endpoint=http://h/path":        "endpoint must be",
		"s3://backups?path_style=maybe":              "true or false",
		"s3://backups?checksum=md5":                  "only none",
		"s3://backups?access_key_id_file=/a":         "go together",
		"s3://backups?session_token_file=/a":         "needs access_key_id_file",
		"s3://backups?credentials_file=/a&access_key_id_file=/b&secret_access_key_file=/c": "not both",
		"s3://backups?%zz=TOPSECRET": "parameters",
		"s3://backups#x":             "a bucket's URL is",
	} {
		_, err := parse(t, text, noenv)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "TOPSECRET") {
			t.Errorf("ParseLocation(%s): %v, want %q and no secret", text, err, want)
		}
	}
}

// FuzzParseLocation: no panic, and what is taken has a plain bucket and prefix and prints without parameters.
func FuzzParseLocation(f *testing.F) {
	for _, text := range []string{"s3://backups/a?endpoint=http://127.0.0.1:9000&path_style=true", "aws://b.c-d/é?region=x", "s3://x:y@backups", "s3://backups/%2e%2e/x?profile=a"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := url.Parse(text)
		if err != nil {
			return
		}
		l, err := remote.ParseLocation(u, noenv)
		if err != nil {
			return
		}
		if strings.ContainsAny(l.Bucket, "/?#@:") || strings.HasPrefix(l.Prefix, "/") || strings.Contains("/"+l.Prefix+"/", "/../") || strings.ContainsAny(l.String(), "?#@") && !strings.ContainsAny(l.Prefix, "#@") {
			t.Fatalf("%q is taken as %+v", text, l)
		}
	})
}
