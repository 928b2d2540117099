package lambdaapi

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Describer is an Invoker that also says which functions there are; without it ListFunctions and GetFunction are unknown operations.
type Describer interface {
	Functions(ctx context.Context) ([]Function, error)
}

// Function is what there is to know of a function.
type Function struct {
	Name        string
	Description string
	Timeout     time.Duration // whole seconds are shown
	MemoryMB    int
	Modified    time.Time
	Environment map[string]string
}

// arnPrefix begins the ARNs of the functions here: a region and an account that no AWS has.
const arnPrefix = "arn:aws:lambda:local:000000000000:function:"

// maxItems is the largest page of ListFunctions, and the default.
const maxItems = 50

// configuration is a function as the API shows it
// (https://docs.aws.amazon.com/lambda/latest/api/API_FunctionConfiguration.html), as far as it means anything here.
type configuration struct {
	FunctionName  string
	FunctionArn   string
	Description   string
	Handler       string
	Runtime       string
	PackageType   string
	Version       string
	State         string
	Timeout       int // seconds
	MemorySize    int // MB
	LastModified  string
	Environment   *environment `json:",omitempty"`
	LastUpdate    string       `json:"LastUpdateStatus"`
	TracingConfig struct{ Mode string }
}

type environment struct{ Variables map[string]string }

func (f Function) configuration() configuration {
	c := configuration{
		FunctionName: f.Name, FunctionArn: arnPrefix + f.Name, Description: f.Description, Handler: "bootstrap", Runtime: "provided.al2023",
		PackageType: "Zip", Version: LatestVersion, State: "Active", LastUpdate: "Successful", MemorySize: f.MemoryMB,
		Timeout: int(f.Timeout / time.Second), LastModified: f.Modified.UTC().Format("2006-01-02T15:04:05.000-0700"),
	}
	c.TracingConfig.Mode = "PassThrough"
	if len(f.Environment) > 0 {
		c.Environment = &environment{f.Environment}
	}
	return c
}

// describe adds the calls that look.
func describe(mux *http.ServeMux, functions Describer) {
	read := func(path string, show func(*http.Request, []Function) (any, error)) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			id := uuid.NewString()
			all, err := functions.Functions(r.Context())
			var body any
			if err == nil {
				body, err = show(r, all)
			}
			if err != nil {
				refuse(w, id, err)
				return
			}
			w.Header().Set(headerRequestID, id)
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(body) // whoever asked may have gone
		})
	}
	// The Go SDK leaves out the slash at the end, the CLI does not.
	read("/2015-03-31/functions", list)
	read("/2015-03-31/functions/{$}", list)
	read("/2015-03-31/functions/{name}", func(r *http.Request, all []Function) (any, error) {
		c, err := one(r, all)
		return struct {
			Configuration configuration
			Code          map[string]string
			Tags          map[string]string
		}{c, map[string]string{"RepositoryType": "local"}, map[string]string{}}, err
	})
	read("/2015-03-31/functions/{name}/configuration", func(r *http.Request, all []Function) (any, error) { return one(r, all) })
}

// list is a page of the functions; the marker is the name that the page before ended with.
func list(r *http.Request, all []Function) (any, error) {
	query := r.URL.Query()
	most := maxItems
	if s := query.Get("MaxItems"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 10_000 {
			return nil, invalidParameter("MaxItems", s)
		}
		most = min(n, maxItems)
	}
	slices.SortFunc(all, func(a, b Function) int { return strings.Compare(a.Name, b.Name) })
	page := struct {
		Functions  []configuration
		NextMarker string `json:",omitempty"`
	}{Functions: []configuration{}}
	for _, f := range all {
		if f.Name <= query.Get("Marker") {
			continue
		}
		if len(page.Functions) == most {
			page.NextMarker = page.Functions[most-1].FunctionName
			break
		}
		page.Functions = append(page.Functions, f.configuration())
	}
	return page, nil
}

func one(r *http.Request, all []Function) (configuration, error) {
	name, _, err := nameOf(r)
	if err != nil {
		return configuration{}, err
	}
	i := slices.IndexFunc(all, func(f Function) bool { return f.Name == name })
	if i < 0 {
		return configuration{}, NotFound(arnPrefix + name)
	}
	return all[i].configuration(), nil
}
