package main

import (
	"crypto/tls"
	"errors"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"tablekeeper/infra/admin/client"
)

// elsewhere is a service that the flags or the environment name, on whatever machine, and how to be let in.
type elsewhere struct {
	server, tokenFile string
	insecure          bool
}

func (e *elsewhere) flags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVar(&e.server, "server", "", "`URL` of a service to ask instead of working here: https://keeper.example")
	f.StringVar(&e.tokenFile, "token-file", "", "`FILE` with the token for --server (or TABLEKEEPER_TOKEN)")
	f.BoolVar(&e.insecure, "insecure", false, "send the token over plain http:// to another machine")
}

// goesElsewhere marks the commands that a service elsewhere can do.
func goesElsewhere() map[string]string { return map[string]string{"elsewhere": "yes"} }

// checkElsewhere refuses --server where it would mean nothing.
func (p *program) checkElsewhere(cmd *cobra.Command) error {
	if p.away.server == "" {
		return nil
	}
	if cmd.Annotations["elsewhere"] == "" {
		return usage("run it on the machine of the service, without --server", "%s works on this machine", cmd.CommandPath())
	}
	if here := p.saysHere(); here != "" {
		return usage("leave one of them out", "--server and %s exclude each other: the service has its own", here)
	}
	return nil
}

// saysHere is a flag by which this machine's tables are meant.
func (p *program) saysHere() string {
	f := p.flags
	switch {
	case len(f.Tables) > 0:
		return "--tables"
	case f.Bucket != "":
		return "--bucket"
	case f.SecondBucket != "":
		return "--second-bucket"
	case f.State != "":
		return "--state"
	case f.Template != "":
		return "--template"
	}
	return ""
}

// server is the service that is asked instead of working here; nil: none is. A flag that means this machine goes before the variable.
func (p *program) server() (*client.Client, error) {
	address := p.away.server
	if address == "" && p.saysHere() == "" {
		address = os.Getenv("TABLEKEEPER_SERVER")
	}
	if address == "" {
		return nil, nil
	}
	token, err := p.away.token()
	if err != nil {
		return nil, err
	}
	return client.New(client.Options{URL: address, Token: token, Insecure: p.away.insecure, Version: toolVersion(), Now: p.now})
}

func (e *elsewhere) token() (string, error) {
	file := e.tokenFile
	token := os.Getenv("TABLEKEEPER_TOKEN")
	if file == "" && token == "" {
		file = os.Getenv("TABLEKEEPER_TOKEN_FILE")
	}
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return "", usage("--token-file FILE", "read the token: %w", err)
		}
		token = string(data)
	}
	token = strings.TrimSpace(token)
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		return "", usage("--token-file FILE or TABLEKEEPER_TOKEN; on the service's machine: tablekeeper token add --role operator", "no token for the server was given")
	}
	return token, nil
}

// serverStatus is the exit status of what a service elsewhere answers; 0 if err is nothing of the kind. It is that which the same
// failure has here.
func serverStatus(err error) int {
	var refusal *client.RefusalError
	var away *client.UnreachableError
	var address *client.AddressError
	var stranger *client.StrangerError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &address):
		return exitUsage
	case errors.As(err, &stranger), errors.As(err, &certificate), errors.Is(err, http.ErrSchemeMismatch):
		return exitFailed
	case errors.As(err, &away):
		return exitTemporary
	case errors.As(err, &refusal):
		return refusalStatus(refusal)
	}
	return 0
}

// codeStatus is the exit status by the code of a problem, where the HTTP status says too little.
var codeStatus = map[string]int{
	"under_way": exitLocked, "plan_changed": exitUnsure, "plan_expired": exitUnsure, "plan_required": exitUsage, "key_reused": exitUsage,
	"no_good_backup": exitCorrupt, "bucket_refused": exitFailed, "not_active": exitNotFound,
}

func refusalStatus(r *client.RefusalError) int {
	if code, ok := codeStatus[r.Code]; ok {
		return code
	}
	switch r.Status {
	case http.StatusNotFound:
		return exitNotFound
	case http.StatusConflict:
		return exitLocked
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge:
		return exitUsage
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return exitTemporary
	}
	return exitFailed
}
