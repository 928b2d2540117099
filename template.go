// Package tablekeeper holds what an installed binary must carry with it: the template that declares every function, its
// schedule, timeout, retries and destinations. Reading it is left to jobs/template, deploying it to AWS SAM.
package tablekeeper

import _ "embed"

// Template is template.yaml as it was when the binary was built.
//
//go:embed template.yaml
var Template []byte
