package template

import (
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

type kind int

const (
	kindNull kind = iota
	kindScalar
	kindList
	kindMap
	kindOpaque // only AWS can know it; text says what it is
	kindAbsent // AWS::NoValue
)

// value is a node of the template after its intrinsic functions were resolved.
type value struct {
	kind kind
	text string
	list []value
	keys []string // of a map, in the order of the file
	m    map[string]value
	at   *token.Token
}

func (v value) get(path ...string) value {
	for _, key := range path {
		next, ok := v.m[key]
		if !ok {
			return value{kind: kindAbsent, at: v.at}
		}
		v = next
	}
	return v
}

func (v value) missing() bool { return v.kind == kindAbsent || v.kind == kindNull }

// node is a node of the template before resolution: scalars, lists, maps, and tags in their long form.
type node struct {
	kind kind // scalar, list, map or null
	text string
	list []node
	keys []string
	m    map[string]node
	at   *token.Token
}

// maxDepth bounds templates that nest without end.
const maxDepth = 100

// tree reads a YAML node; a short tag such as !Sub becomes its long form, a map with one key.
func (s *source) tree(n ast.Node, depth int) (node, error) {
	if depth > maxDepth {
		return node{}, s.errorAt(n.GetToken(), "nested too deeply", "")
	}
	switch n := n.(type) {
	case nil:
		return node{kind: kindNull}, nil
	case *ast.NullNode:
		return node{kind: kindNull, at: n.GetToken()}, nil
	case *ast.TagNode:
		return s.tag(n, depth)
	case *ast.MappingNode:
		return s.mapping(n.GetToken(), n.Values, depth)
	case *ast.MappingValueNode:
		return s.mapping(n.Key.GetToken(), []*ast.MappingValueNode{n}, depth)
	case *ast.SequenceNode:
		return s.sequence(n, depth)
	case *ast.LiteralNode:
		return node{kind: kindScalar, text: n.Value.Value, at: n.GetToken()}, nil
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		return node{}, s.errorAt(n.GetToken(), "anchors, aliases and merge keys are not part of a CloudFormation template", "write the value out")
	case ast.ScalarNode:
		return node{kind: kindScalar, text: n.GetToken().Value, at: n.GetToken()}, nil
	}
	return node{}, s.errorAt(n.GetToken(), "unexpected "+n.Type().String(), "")
}

func (s *source) tag(n *ast.TagNode, depth int) (node, error) {
	inner, err := s.tree(n.Value, depth+1)
	if err != nil {
		return node{}, err
	}
	name := n.Start.Value
	if strings.HasPrefix(name, "!!") {
		return inner, nil
	}
	name = strings.TrimPrefix(name, "!")
	if !slices.Contains(intrinsics, name) {
		return node{}, s.errorAt(n.Start, "unknown tag !"+name, didYouMean("!", name, intrinsics))
	}
	if name == "GetAtt" && inner.kind == kindScalar {
		resource, attribute, _ := strings.Cut(inner.text, ".")
		inner = node{kind: kindList, at: inner.at, list: []node{{kind: kindScalar, text: resource, at: inner.at}, {kind: kindScalar, text: attribute, at: inner.at}}}
	}
	key := name
	if name != "Ref" && name != "Condition" {
		key = "Fn::" + name
	}
	return node{kind: kindMap, keys: []string{key}, m: map[string]node{key: inner}, at: n.Start}, nil
}

func (s *source) mapping(at *token.Token, values []*ast.MappingValueNode, depth int) (node, error) {
	out := node{kind: kindMap, m: make(map[string]node, len(values)), at: at}
	for _, v := range values {
		key := v.Key.GetToken().Value
		child, err := s.tree(v.Value, depth+1)
		if err != nil {
			return node{}, err
		}
		if child.at == nil {
			child.at = v.Key.GetToken()
		}
		if _, twice := out.m[key]; twice {
			return node{}, s.errorAt(v.Key.GetToken(), "key "+key+" occurs twice", "")
		}
		out.keys, out.m[key] = append(out.keys, key), child
	}
	return out, nil
}

func (s *source) sequence(n *ast.SequenceNode, depth int) (node, error) {
	out := node{kind: kindList, at: n.GetToken()}
	for _, v := range n.Values {
		child, err := s.tree(v, depth+1)
		if err != nil {
			return node{}, err
		}
		out.list = append(out.list, child)
	}
	return out, nil
}

func didYouMean(prefix, name string, candidates []string) string {
	if c := Suggest(name, candidates); c != "" {
		return "did you mean " + prefix + c + "?"
	}
	return ""
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
