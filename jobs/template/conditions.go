package template

import (
	"strconv"

	"github.com/goccy/go-yaml/token"
)

// choose evaluates Fn::If. A condition that only AWS can decide makes the whole opaque.
func (r *resolver) choose(arg node, at *token.Token) (value, error) {
	if len(arg.list) != 3 {
		return value{}, r.errorAt(at, "If takes a condition and two values", "")
	}
	c, err := r.condition(arg.list[0])
	if err != nil {
		return value{}, err
	}
	switch {
	case c.kind == kindOpaque:
		return opaque("Fn::If "+arg.list[0].text, at), nil
	case c.text == "true":
		return r.resolve(arg.list[1])
	}
	return r.resolve(arg.list[2])
}

// condition evaluates a condition by its name.
func (r *resolver) condition(n node) (value, error) {
	name := n.text
	definition, ok := r.conditions.m[name]
	if !ok {
		return value{}, r.errorAt(n.at, "no condition is named "+strconv.Quote(name), didYouMean("", name, sortedKeys(r.conditions.m)))
	}
	if r.busy[name] {
		return value{}, r.errorAt(n.at, "condition "+name+" depends on itself", "")
	}
	r.busy[name] = true
	defer delete(r.busy, name)
	return r.resolve(definition)
}

// logic evaluates Equals, Not, And and Or to "true", "false" or an opaque value.
func (r *resolver) logic(name string, arg node, at *token.Token) (value, error) {
	v, err := r.resolve(arg)
	if err != nil {
		return value{}, err
	}
	if want, bad := arity(name, len(v.list)); bad {
		return value{}, r.errorAt(at, name+" takes "+want, "")
	}
	if name == "Equals" {
		if anyOpaque(v.list) {
			return opaque("Fn::Equals", at), nil
		}
		return truth(v.list[0].text == v.list[1].text, at), nil
	}
	if name == "Not" {
		if anyOpaque(v.list) {
			return opaque("Fn::Not", at), nil
		}
		return truth(v.list[0].text != "true", at), nil
	}
	return fold(name, v.list, at), nil
}

func arity(name string, n int) (want string, bad bool) {
	switch name {
	case "Equals":
		return "two values", n != 2
	case "Not":
		return "one condition", n != 1
	}
	return "two to ten conditions", n < 2 || n > 10
}

// fold is And and Or: one deciding value decides, whatever the opaque ones are.
func fold(name string, list []value, at *token.Token) value {
	decider := strconv.FormatBool(name == "Or")
	for _, c := range list {
		if c.kind == kindScalar && c.text == decider {
			return truth(name == "Or", at)
		}
	}
	if anyOpaque(list) {
		return opaque("Fn::"+name, at)
	}
	return truth(name == "And", at)
}

func truth(b bool, at *token.Token) value { return scalar(strconv.FormatBool(b), at) }
