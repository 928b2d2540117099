package lambdaapi

import (
	"net/http"
	"regexp"
	"strings"
)

var (
	functionName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,140}$`)
	qualifier    = regexp.MustCompile(`^(\$LATEST|[a-zA-Z0-9_-]{1,128})$`)
	account      = regexp.MustCompile(`^[0-9]{12}$`)
)

// parseName takes a function's name apart. Lambda allows name, name:qualifier, account:function:name and
// arn:partition:lambda:region:account:function:name, the latter two with a qualifier, too.
func parseName(s string) (name, version string, err error) {
	parts := strings.Split(s, ":")
	switch {
	case parts[0] == "arn" && len(parts) >= 7 && parts[2] == "lambda" && account.MatchString(parts[4]) && parts[5] == "function":
		parts = parts[6:]
	case len(parts) >= 3 && account.MatchString(parts[0]) && parts[1] == "function":
		parts = parts[2:]
	}
	if len(parts) > 2 || !functionName.MatchString(parts[0]) {
		return "", "", invalidParameter("functionName", s)
	}
	if len(parts) == 2 {
		if !qualifier.MatchString(parts[1]) {
			return "", "", invalidParameter("functionName", s)
		}
		version = parts[1]
	}
	return parts[0], version, nil
}

func invalidParameter(name, value string) *Error {
	const longest = 200
	if len(value) > longest {
		value = value[:longest] + "..."
	}
	return userError(http.StatusBadRequest, "InvalidParameterValueException", "%s is not valid: %q", name, value)
}
