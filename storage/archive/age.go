package archive

import (
	"bytes"
	"fmt"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
)

// ParseRecipients reads recipients, one a line, as `age-keygen` or `ssh-keygen -t ed25519` print them. Empty lines and those that begin with # are
// passed over.
func ParseRecipients(lines []string) ([]age.Recipient, error) {
	var all []age.Recipient
	for _, line := range lines {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		r, err := parseRecipient(line)
		if err != nil {
			return nil, fmt.Errorf("recipient %.60q: %w", line, err)
		}
		all = append(all, r)
	}
	return all, nil
}

func parseRecipient(line string) (age.Recipient, error) {
	if strings.HasPrefix(line, "ssh-") {
		return agessh.ParseRecipient(line)
	}
	all, err := age.ParseRecipients(strings.NewReader(line))
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// ParseIdentities reads a file as `age-keygen -o FILE` writes it, or an SSH key without a passphrase.
func ParseIdentities(data []byte) ([]age.Identity, error) {
	if bytes.HasPrefix(data, []byte("-----BEGIN")) {
		id, err := agessh.ParseIdentity(data)
		if err != nil {
			return nil, fmt.Errorf("not an SSH key without a passphrase: %w", err)
		}
		return []age.Identity{id}, nil
	}
	return age.ParseIdentities(bytes.NewReader(data))
}
