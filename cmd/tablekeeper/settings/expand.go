package settings

import (
	"regexp"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// reference is ${NAME}; $${ is a literal ${.
var reference = regexp.MustCompile(`\$?\$\{[^}]*\}?`)

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// expand replaces ${VAR} in every string value under node.
func expand(path string, node ast.Node, getenv func(string) (string, bool)) error {
	e := &expander{path: path, getenv: getenv}
	ast.Walk(e, node)
	return e.err
}

type expander struct {
	path   string
	getenv func(string) (string, bool)
	err    error
}

// Visit implements ast.Visitor; keys are left as they are.
func (e *expander) Visit(node ast.Node) ast.Visitor {
	if e.err != nil {
		return nil
	}
	switch n := node.(type) {
	case *ast.MappingValueNode:
		ast.Walk(e, n.Value)
		return nil
	case *ast.StringNode:
		n.Value = e.replace(n.Value, n.Token)
	case *ast.LiteralNode:
		ast.Walk(e, n.Value)
		return nil
	}
	return e
}

func (e *expander) replace(s string, tk *token.Token) string {
	return reference.ReplaceAllStringFunc(s, func(ref string) string {
		if strings.HasPrefix(ref, "$$") {
			return ref[1:]
		}
		name := strings.TrimSuffix(strings.TrimPrefix(ref, "${"), "}")
		if !strings.HasSuffix(ref, "}") || !variableName.MatchString(name) {
			e.fail(tk, "write ${NAME}, or $${ for a literal ${", "%q is not a reference to a variable", ref)
			return ref
		}
		value, ok := e.getenv(name)
		if !ok {
			e.fail(tk, "set it before the start, or write the value itself", "variable %s is not set", name)
		}
		return value
	})
}

func (e *expander) fail(tk *token.Token, hint, format string, args ...any) {
	if e.err == nil {
		e.err = at(e.path, tk, hint, format, args...)
	}
}
