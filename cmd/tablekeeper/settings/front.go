package settings

import (
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
)

// DefaultListen is where the service listens unless it is told otherwise.
const DefaultListen = "127.0.0.1:8420"

// NoListen are the values of listen for a service that is reached by its Unix socket alone.
func NoListen(listen string) bool { return listen == "off" || listen == "socket" }

// TLS names the files by which the service listens with HTTPS. The key's file should be readable for this user only.
type TLS struct {
	CertificateFile string `yaml:"certificate_file"`
	KeyFile         string `yaml:"key_file"`
}

// Alerts says who is told when something goes wrong.
type Alerts struct {
	Webhooks   []Webhook   `yaml:"webhooks"`
	Topics     []Topic     `yaml:"topics"`
	Heartbeats []Heartbeat `yaml:"heartbeats"`
	Push       Push        `yaml:"push"`
	Repeat     Duration    `yaml:"repeat"` // between messages while something lasts; default 4h
}

// Webhook is a receiver of signed messages (standardwebhooks.com).
type Webhook struct {
	Name         string `yaml:"name"`
	URL          string `yaml:"url"`
	SecretFile   string `yaml:"secret_file"`
	AllowPrivate bool   `yaml:"allow_private"` // it may be in a private network
}

// Topic is an SNS topic.
type Topic struct {
	Name     string `yaml:"name"`
	ARN      string `yaml:"arn"`
	Region   string `yaml:"region"`
	Endpoint string `yaml:"endpoint"`
}

// Heartbeat is a URL to ping when a function starts and ends.
type Heartbeat struct {
	Name         string   `yaml:"name"`
	URL          string   `yaml:"url"`
	Functions    []string `yaml:"functions"`
	AllowPrivate bool     `yaml:"allow_private"`
}

// Push turns web push on: Contact is a mailto: or https: address that the push services may use.
type Push struct {
	Contact      string `yaml:"contact"`
	AllowPrivate bool   `yaml:"allow_private"`
}

// resolveFront makes the paths of the listener and of the alerts absolute.
func (c *Config) resolveFront(dir string) {
	for _, p := range []*string{&c.TLS.CertificateFile, &c.TLS.KeyFile} {
		*p = absolute(dir, *p)
	}
	for i := range c.Alerts.Webhooks {
		c.Alerts.Webhooks[i].SecretFile = absolute(dir, c.Alerts.Webhooks[i].SecretFile)
	}
}

func (c *Config) validateFront() error {
	for key, address := range map[string]string{"listen": c.Listen, "metrics_listen": c.MetricsListen} {
		if address == "" || key == "listen" && NoListen(address) {
			continue
		}
		if !isAddress(address) {
			return invalid("write HOST:PORT, such as "+DefaultListen+", or off", "%s: %s is %q", c.Origin(key), key, address)
		}
	}
	if (c.TLS.CertificateFile == "") != (c.TLS.KeyFile == "") {
		return invalid("set both, or neither", "%s: tls.certificate_file and tls.key_file belong together", c.Origin("tls"))
	}
	if c.PublicURL != "" {
		u, err := url.Parse(c.PublicURL)
		if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" {
			return invalid("write the address that people type, such as https://keeper.example", "%s: public_url is %q", c.Origin("public_url"), c.PublicURL)
		}
	}
	for _, w := range c.Alerts.Webhooks {
		if w.SecretFile != "" && !filepath.IsAbs(w.SecretFile) {
			return invalid("name a file", "%s: secret_file is %q", c.Origin("alerts.webhooks"), w.SecretFile)
		}
	}
	return nil
}

// isAddress tells whether s is HOST:PORT. An empty host would be every network that the machine is in: that is written 0.0.0.0 or [::].
func isAddress(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

// Loopback tells whether an address is reached from this machine alone.
func Loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.IsLoopback()
	}
	return host == "localhost"
}
