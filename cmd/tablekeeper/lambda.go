package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"tablekeeper/infra/lambdaapi"
	"tablekeeper/storage/bucket/remote"
)

// lambdaKeys is the file in the state folder with the key pair that requests to the Lambda API are signed with on the network. It is in the
// format of ~/.aws/credentials: AWS_SHARED_CREDENTIALS_FILE may name it.
const lambdaKeys = "lambda-credentials"

// lambdaOnNetwork is the Lambda Invoke API for whoever has the key pair, which is made at the first start.
func (h *house) lambdaOnNetwork() (http.Handler, error) {
	state, err := h.stateFolder()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(state, lambdaKeys)
	if err := makeLambdaKeys(path); err != nil {
		return nil, fmt.Errorf("make the keys of the Lambda API: %w", err)
	}
	keys, err := remote.KeyFiles{Shared: path, Profile: "default"}.Read(os.Getenv)
	if err != nil {
		return nil, usage("remove it, and start again: another pair is made", "%w", err)
	}
	return lambdaapi.NewSignedHandler(invoker{h}, lambdaapi.Verifier{KeyID: keys.ID, Secret: keys.Secret, Now: h.now}), nil
}

// makeLambdaKeys leaves a file that is there alone.
func makeLambdaKeys(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	const idLength = 18 // with TK it is as long as AWS's
	_, err = fmt.Fprintf(f, "# Keys of tablekeeper's Lambda API: AWS_SHARED_CREDENTIALS_FILE=%s aws lambda list-functions --endpoint-url ...\n"+
		"[default]\naws_access_key_id = TK%s\naws_secret_access_key = %s\nregion = us-east-1\n", path, rand.Text()[:idLength], rand.Text()+rand.Text())
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// Functions implements lambdaapi.Describer: what the template says of the functions that can work with what is configured.
func (i invoker) Functions(context.Context) ([]lambdaapi.Function, error) {
	var all []lambdaapi.Function
	for _, name := range i.house.works {
		f, _ := i.house.template.Function(name) // all that work are declared
		all = append(all, lambdaapi.Function{
			Name: name, Description: f.Description, Timeout: f.Timeout, MemoryMB: f.MemoryMB, Modified: i.house.since, Environment: f.Environment,
		})
	}
	return all, nil
}
