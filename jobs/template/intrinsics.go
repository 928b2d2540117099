package template

import (
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/token"
)

// intrinsics are the names after ! and Fn::. See docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference.html.
var intrinsics = []string{"Ref", "Condition", "Sub", "GetAtt", "If", "Equals", "Not", "And", "Or", "Join", "Select", "Split",
	"FindInMap", "Base64", "ImportValue", "GetAZs", "Cidr", "Transform", "ToJsonString", "Length"}

// resolver evaluates intrinsic functions.
type resolver struct {
	*source
	parameters map[string]Parameter
	resources  node
	conditions node
	mappings   node
	busy       map[string]bool // conditions under evaluation, against circles
}

func scalar(text string, at *token.Token) value { return value{kind: kindScalar, text: text, at: at} }
func opaque(text string, at *token.Token) value { return value{kind: kindOpaque, text: text, at: at} }

// resolve gives the value of a node.
func (r *resolver) resolve(n node) (value, error) {
	switch n.kind {
	case kindScalar, kindNull:
		return value{kind: n.kind, text: n.text, at: n.at}, nil
	case kindList:
		return r.resolveList(n)
	case kindMap, kindOpaque, kindAbsent: // a node that is read is none of the last two
	}
	if len(n.keys) == 1 {
		name := n.keys[0]
		if name == "Ref" || strings.HasPrefix(name, "Fn::") {
			return r.call(strings.TrimPrefix(name, "Fn::"), n.m[name], n.at)
		}
		if name == "Condition" && n.m[name].kind == kindScalar {
			return r.condition(n.m[name])
		}
	}
	out := value{kind: kindMap, m: make(map[string]value, len(n.m)), at: n.at}
	for _, key := range n.keys {
		v, err := r.resolve(n.m[key])
		if err != nil {
			return value{}, err
		}
		if v.kind != kindAbsent {
			out.keys, out.m[key] = append(out.keys, key), v
		}
	}
	return out, nil
}

func (r *resolver) resolveList(n node) (value, error) {
	out := value{kind: kindList, at: n.at}
	for _, item := range n.list {
		v, err := r.resolve(item)
		if err != nil {
			return value{}, err
		}
		if v.kind != kindAbsent {
			out.list = append(out.list, v)
		}
	}
	return out, nil
}

// call evaluates one intrinsic function.
func (r *resolver) call(name string, arg node, at *token.Token) (value, error) {
	switch name {
	case "Ref":
		return r.ref(arg.text, at)
	case "Sub":
		return r.sub(arg, at)
	case "GetAtt":
		return r.getAtt(arg, at)
	case "If":
		return r.choose(arg, at)
	case "Equals", "Not", "And", "Or":
		return r.logic(name, arg, at)
	case "FindInMap":
		return r.findInMap(arg, at)
	case "Join", "Select", "Split", "Base64":
		return r.text(name, arg, at)
	case "ImportValue", "GetAZs", "Cidr", "Transform", "ToJsonString", "Length":
		return opaque("Fn::"+name, at), nil
	}
	return value{}, r.errorAt(at, "unknown intrinsic function Fn::"+name, didYouMean("Fn::", name, intrinsics))
}

func (r *resolver) ref(name string, at *token.Token) (value, error) {
	if p, ok := r.parameters[name]; ok && !p.Set() {
		return opaque("parameter "+name+", which has no value", at), nil
	} else if ok {
		return scalar(p.Value, at), nil
	}
	if name == "AWS::NoValue" {
		return value{kind: kindAbsent, at: at}, nil
	}
	if _, ok := r.resources.m[name]; ok || strings.HasPrefix(name, "AWS::") {
		return opaque(name, at), nil
	}
	known := append(sortedKeys(r.parameters), sortedKeys(r.resources.m)...)
	return value{}, r.errorAt(at, "no parameter or resource is named "+strconv.Quote(name), didYouMean("", name, known))
}

func (r *resolver) getAtt(arg node, at *token.Token) (value, error) {
	if arg.kind != kindList || len(arg.list) < 2 {
		return value{}, r.errorAt(at, "GetAtt takes Resource.Attribute", "")
	}
	resource := arg.list[0].text
	if _, ok := r.resources.m[resource]; !ok {
		return value{}, r.errorAt(at, "no resource is named "+strconv.Quote(resource), didYouMean("", resource, sortedKeys(r.resources.m)))
	}
	return opaque(resource+"."+arg.list[1].text, at), nil
}

func (r *resolver) sub(arg node, at *token.Token) (value, error) {
	text, local := arg.text, map[string]value{}
	if arg.kind == kindList && len(arg.list) == 2 {
		vars, err := r.resolve(arg.list[1])
		if err != nil {
			return value{}, err
		}
		text, local = arg.list[0].text, vars.m
	} else if arg.kind != kindScalar {
		return value{}, r.errorAt(at, "Sub takes a text, or a text and a map", "")
	}
	return r.expand(text, local, at)
}

// expand replaces each ${Name}; the result is opaque if any of them is.
func (r *resolver) expand(text string, local map[string]value, at *token.Token) (value, error) {
	var b strings.Builder
	known := true
	for {
		before, rest, found := strings.Cut(text, "${")
		b.WriteString(before)
		if !found {
			break
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return value{}, r.errorAt(at, "${ without }", "")
		}
		text = after
		if literal, is := strings.CutPrefix(name, "!"); is {
			b.WriteString("${" + literal + "}")
			continue
		}
		v, err := r.variable(strings.TrimSpace(name), local, at)
		if err != nil {
			return value{}, err
		}
		if v.kind == kindOpaque {
			known = false
			b.WriteString("${" + v.text + "}")
			continue
		}
		b.WriteString(v.text)
	}
	if !known {
		return opaque(b.String(), at), nil
	}
	return scalar(b.String(), at), nil
}

func (r *resolver) variable(name string, local map[string]value, at *token.Token) (value, error) {
	if v, ok := local[name]; ok {
		return v, nil
	}
	if resource, attribute, dotted := strings.Cut(name, "."); dotted {
		return r.getAtt(node{kind: kindList, list: []node{{text: resource}, {text: attribute}}}, at)
	}
	return r.ref(name, at)
}

func (r *resolver) findInMap(arg node, at *token.Token) (value, error) {
	keys, err := r.resolve(arg)
	if err != nil {
		return value{}, err
	}
	if len(keys.list) < 3 {
		return value{}, r.errorAt(at, "FindInMap takes a mapping and two keys", "")
	}
	n := r.mappings
	for _, key := range keys.list[:3] {
		if key.kind == kindOpaque {
			return opaque("Fn::FindInMap", at), nil
		}
		next, ok := n.m[key.text]
		if !ok {
			return value{}, r.errorAt(at, "the mappings have no "+strconv.Quote(key.text), didYouMean("", key.text, sortedKeys(n.m)))
		}
		n = next
	}
	return r.resolve(n)
}

func (r *resolver) text(name string, arg node, at *token.Token) (value, error) {
	v, err := r.resolve(arg)
	if err != nil {
		return value{}, err
	}
	if v.kind == kindOpaque || anyOpaque(v.list) {
		return opaque("Fn::"+name, at), nil
	}
	switch {
	case name == "Base64" && v.kind == kindScalar:
		return scalar(base64.StdEncoding.EncodeToString([]byte(v.text)), at), nil
	case name == "Split" && len(v.list) == 2 && v.list[0].text != "":
		out := value{kind: kindList, at: at}
		for part := range strings.SplitSeq(v.list[1].text, v.list[0].text) {
			out.list = append(out.list, scalar(part, at))
		}
		return out, nil
	case name == "Join" && len(v.list) == 2:
		return join(v.list[0].text, v.list[1].list, at), nil
	case name == "Select" && len(v.list) == 2:
		i, err := strconv.Atoi(v.list[0].text)
		if err == nil && i >= 0 && i < len(v.list[1].list) {
			return v.list[1].list[i], nil
		}
	}
	return value{}, r.errorAt(at, "wrong arguments for "+name, "")
}

func join(separator string, parts []value, at *token.Token) value {
	texts := make([]string, len(parts))
	for i, p := range parts {
		texts[i] = p.text
	}
	if anyOpaque(parts) {
		return opaque(strings.Join(texts, separator), at)
	}
	return scalar(strings.Join(texts, separator), at)
}

func anyOpaque(values []value) bool {
	for _, v := range values {
		if v.kind == kindOpaque {
			return true
		}
	}
	return false
}
