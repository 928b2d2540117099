package lambdaapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// house stands for a runner with three functions.
type house struct{ invoker }

func (house) Functions(context.Context) ([]Function, error) {
	return []Function{
		{Name: "verify", Timeout: 900 * time.Second, MemoryMB: 2048, Modified: instant},
		{Name: "backup", Description: "Checks and stores.", Timeout: 900 * time.Second, MemoryMB: 2048, Modified: instant, Environment: map[string]string{"A": "b"}},
		{Name: "compact"},
	}, nil
}

// sdk is the client of aws-sdk-go-v2 on a server that wants signatures.
func sdk(t *testing.T, secret string, f invoker) *lambda.Client {
	t.Helper()
	server := httptest.NewServer(NewSignedHandler(house{f}, keys))
	t.Cleanup(server.Close)
	return lambda.New(lambda.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(server.URL), HTTPClient: server.Client(), RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: keys.KeyID, SecretAccessKey: secret}, nil
		}),
	})
}

func TestSDKInvokes(t *testing.T) {
	client := sdk(t, keys.Secret, func(_ context.Context, req Request) (Response, error) {
		if req.Function == "failing" {
			return Response{Failure: &FunctionError{Message: "boom", Type: "Corrupt"}, Log: []byte("line\n")}, nil
		}
		return Response{Payload: req.Payload, Log: []byte(req.Caller + req.Qualifier), ID: "run-1"}, nil
	})
	out, err := client.Invoke(t.Context(), &lambda.InvokeInput{
		FunctionName: aws.String("arn:aws:lambda:us-east-1:123456789012:function:backup"), Payload: []byte(`{"tables":["*"]}`), LogType: types.LogTypeTail, Qualifier: aws.String("live"),
	})
	if err != nil {
		t.Fatal(err)
	}
	log, _ := base64.StdEncoding.DecodeString(aws.ToString(out.LogResult))
	if string(out.Payload) != `{"tables":["*"]}` || out.StatusCode != http.StatusOK || string(log) != "TKLOCALlive" || aws.ToString(out.ExecutedVersion) != LatestVersion || out.FunctionError != nil {
		t.Errorf("%+v, log %s", out, log)
	}
	for kind, status := range map[types.InvocationType]int32{types.InvocationTypeEvent: 202, types.InvocationTypeDryRun: 204} {
		out, err := client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("backup"), InvocationType: kind, Payload: []byte(`{}`)})
		if err != nil || out.StatusCode != status || len(out.Payload) > 0 {
			t.Errorf("%s: %+v, %v", kind, out, err)
		}
	}
	out, err = client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("failing")})
	if err != nil || aws.ToString(out.FunctionError) != "Unhandled" || string(out.Payload) != `{"errorMessage":"boom","errorType":"Corrupt"}` {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestSDKUnderstandsRefusals(t *testing.T) {
	refusals := map[string]error{"gone": NotFound("gone"), "busy": Throttled("1000 runs wait"), "bad": InvalidContent(errors.New("no")), "broken": errors.New("disk")}
	client := sdk(t, keys.Secret, func(_ context.Context, req Request) (Response, error) { return Response{}, refusals[req.Function] })
	invoke := func(name string, payload []byte, kind types.InvocationType) error {
		_, err := client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: &name, Payload: payload, InvocationType: kind})
		return err
	}
	var notFound *types.ResourceNotFoundException
	if err := invoke("gone", nil, ""); !errors.As(err, &notFound) || aws.ToString(notFound.Type) != "User" {
		t.Errorf("404: %v", err)
	}
	var busy *types.TooManyRequestsException
	if err := invoke("busy", nil, ""); !errors.As(err, &busy) || busy.Reason != types.ThrottleReasonReservedFunctionConcurrentInvocationLimitExceeded || aws.ToString(busy.RetryAfterSeconds) != "1" {
		t.Errorf("429: %v", err)
	}
	var bad *types.InvalidRequestContentException
	if err := invoke("bad", nil, ""); !errors.As(err, &bad) {
		t.Errorf("400: %v", err)
	}
	var broken *types.ServiceException
	if err := invoke("broken", nil, ""); !errors.As(err, &broken) {
		t.Errorf("500: %v", err)
	}
	var large *types.RequestTooLargeException
	if err := invoke("f", []byte(`"`+strings.Repeat("x", MaxAsyncPayload)+`"`), types.InvocationTypeEvent); !errors.As(err, &large) {
		t.Errorf("413, async: %v", err)
	}
	if err := invoke("f", []byte(`"`+strings.Repeat("x", MaxSyncPayload)+`"`), ""); !errors.As(err, &large) {
		t.Errorf("413: %v", err)
	}
	if _, err := client.ListLayers(t.Context(), &lambda.ListLayersInput{}); err == nil || !strings.Contains(err.Error(), "UnknownOperationException") {
		t.Errorf("unknown operation: %v", err)
	}
	if _, err := sdk(t, "wrong", nil).ListFunctions(t.Context(), &lambda.ListFunctionsInput{}); err == nil || !strings.Contains(err.Error(), "InvalidSignatureException") {
		t.Errorf("wrong secret: %v", err)
	}
}

func TestSDKLooks(t *testing.T) {
	client := sdk(t, keys.Secret, nil)
	var names []string
	pages := lambda.NewListFunctionsPaginator(client, &lambda.ListFunctionsInput{MaxItems: aws.Int32(2)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range page.Functions {
			names = append(names, aws.ToString(f.FunctionName))
		}
	}
	if got := strings.Join(names, " "); got != "backup compact verify" {
		t.Errorf("functions: %s", got)
	}
	out, err := client.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String(arnPrefix + "backup")})
	if err != nil {
		t.Fatal(err)
	}
	c := out.Configuration
	if aws.ToString(c.FunctionName) != "backup" || aws.ToInt32(c.Timeout) != 900 || aws.ToInt32(c.MemorySize) != 2048 || c.State != types.StateActive ||
		c.Environment.Variables["A"] != "b" || aws.ToString(c.LastModified) != "2026-11-22T10:00:00.000+0000" {
		data, _ := json.Marshal(c)
		t.Errorf("%s", data)
	}
	if c, err := client.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: aws.String("verify")}); err != nil || aws.ToString(c.FunctionName) != "verify" {
		t.Errorf("%+v, %v", c, err)
	}
	var notFound *types.ResourceNotFoundException
	if _, err := client.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String("bakup")}); !errors.As(err, &notFound) {
		t.Errorf("404: %v", err)
	}
	if err := lambda.NewFunctionActiveV2Waiter(client).Wait(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String("compact")}, time.Minute); err != nil {
		t.Error(err)
	}
}
