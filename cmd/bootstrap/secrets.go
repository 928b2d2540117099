package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"tablekeeper/functions"
	"tablekeeper/storage/archive"
)

// secrets gives what is not to be seen in the environment of a function.
type secrets interface {
	secret(ctx context.Context, arn string) (string, error)
}

// secretsManager is where AWS keeps secrets.
type secretsManager struct{ client *secretsmanager.Client }

func (s secretsManager) secret(ctx context.Context, arn string) (string, error) {
	out, err := s.client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &arn})
	if err == nil && out.SecretString != nil {
		return *out.SecretString, nil
	}
	if err == nil {
		return string(out.SecretBinary), nil
	}
	return "", &functions.Failure{
		Reason: "secret_unreadable", Err: fmt.Errorf("read the secret %s: %w", arn, err),
		Try: "see whether the secret exists and the function's role may read it; in a VPC it takes an endpoint for Secrets Manager",
	}
}

// keyring opens the catalogue of backups with the keys of the settings. The identity is read when it is first needed: a start asks nobody, and what fails
// now may succeed the next time.
type keyring struct {
	handler *handler
	mu      sync.Mutex
	done    bool
}

func (k *keyring) unlock(ctx context.Context) error {
	h := k.handler
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.done || h.set.IdentitySecret == "" {
		return nil
	}
	text, err := h.secrets.secret(ctx, h.set.IdentitySecret)
	if err != nil {
		return err
	}
	ids, err := archive.ParseIdentities([]byte(text))
	if err != nil {
		// What is wrong with it is not told: the message could have a part of it.
		return &functions.Failure{Reason: "identity_invalid", Final: true, Err: fmt.Errorf("the secret %s is no age identity", h.set.IdentitySecret),
			Try: "store the file that age-keygen -o writes as the secret's text"}
	}
	h.catalogue = archive.NewCatalogue(h.backups, archive.CatalogueOptions{Recipients: h.set.Recipients, Identities: ids})
	k.done = true
	return nil
}
