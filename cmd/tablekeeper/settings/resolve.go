package settings

import (
	"net/url"
	"path/filepath"
	"slices"
	"strings"
)

// Off is the value of stores of a service that owns no tables.
const Off = "off"

// absolute resolves path against dir; "" stays "".
func absolute(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// absoluteAddress resolves a bucket address. A plain path and file:relative/path mean a directory and become
// file:///absolute/path; every other address is left alone.
func absoluteAddress(dir, address string) string {
	if address == "" {
		return ""
	}
	scheme, rest, ok := strings.Cut(address, ":")
	if isDrive := ok && len(scheme) == 1; !ok || isDrive || strings.ContainsAny(scheme, `/\`) {
		return fileAddress(absolute(dir, address))
	}
	if scheme == "file" && !strings.HasPrefix(rest, "/") {
		return fileAddress(absolute(dir, rest))
	}
	return address
}

func fileAddress(path string) string {
	slashed := filepath.ToSlash(path)
	if !strings.HasPrefix(slashed, "/") {
		slashed = "/" + slashed
	}
	return (&url.URL{Scheme: "file", Path: slashed}).String()
}

// resolve makes the paths of a file absolute.
func (c *Config) resolve(dir string) {
	for i := range c.Tables {
		c.Tables[i].Path = absolute(dir, c.Tables[i].Path)
	}
	c.Bucket = absoluteAddress(dir, c.Bucket)
	c.SecondBucket = absoluteAddress(dir, c.SecondBucket)
	if c.Stores != Off {
		c.Stores = absolute(dir, c.Stores)
	}
	for _, p := range []*string{
		&c.State, &c.Template, &c.Encryption.IdentityFile, &c.Encryption.RecipientsFile,
		&c.Credentials.AccessKeyIDFile, &c.Credentials.SecretAccessKeyFile, &c.Credentials.SessionTokenFile,
	} {
		*p = absolute(dir, *p)
	}
	c.resolveFront(dir)
}

func (c *Config) applyDefaults() {
	if c.Version == 0 {
		c.Version = Version
	}
	if c.Log.Format == "" {
		c.Log.Format = "text"
	}
	if c.Log.Level == "" {
		c.Log.Level = "info"
	}
	if c.Listen == "" {
		c.Listen = DefaultListen
	}
	if c.State == "" && len(c.Tables) > 0 {
		c.State = filepath.Join(folderOf(c.Tables[0].Path), ".tablekeeper")
	}
	if c.Stores == "" && c.State != "" {
		c.Stores = filepath.Join(c.State, "stores")
	}
}

// folderOf is the folder that a source's files are in: a folder itself, the part of a glob before its first
// wildcard, or the folder of a file.
func folderOf(path string) string {
	wild := strings.ContainsAny(path, "*?[")
	for strings.ContainsAny(path, "*?[") {
		path = filepath.Dir(path)
	}
	if wild || isFolder(path) || filepath.Ext(path) == "" {
		return path
	}
	return filepath.Dir(path)
}

func (c *Config) validate() error {
	if c.Version != Version {
		return invalid("use a tablekeeper that reads this version, or set `version: 1`",
			"%s: version %d is not known, this build reads version %d", c.Origin("version"), c.Version, Version)
	}
	for _, choice := range []struct {
		key, value string
		allowed    []string
	}{
		{"log.format", c.Log.Format, []string{"text", "json"}},
		{"log.level", c.Log.Level, []string{"debug", "info", "warn", "error"}},
	} {
		if !slices.Contains(choice.allowed, choice.value) {
			return invalid("use "+strings.Join(choice.allowed, " or "),
				"%s: %s is %q", c.Origin(choice.key), choice.key, choice.value)
		}
	}
	if err := c.validateFront(); err != nil {
		return err
	}
	return c.validateSecrets()
}

func (c *Config) validateSecrets() error {
	if (c.Credentials.AccessKeyIDFile == "") != (c.Credentials.SecretAccessKeyFile == "") {
		return invalid("set both, or neither to use the standard AWS sources",
			"%s: access_key_id_file and secret_access_key_file belong together", c.Origin("credentials"))
	}
	encrypts := len(c.Encryption.Recipients) > 0 || c.Encryption.RecipientsFile != ""
	if encrypts && c.Encryption.IdentityFile == "" {
		return invalid("add encryption.identity_file: without it no drill can prove that a backup restores",
			"%s: backups would be encrypted, but no identity can read them", c.Origin("encryption"))
	}
	return nil
}

// Origin says where key got its value: a flag, a variable, file:line, or "default". For a mapping it is the first
// of its keys that is set.
func (c *Config) Origin(key string) string {
	if o, ok := c.Origins[key]; ok {
		return o
	}
	return "default"
}
