package settings

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Parse reads the text of a configuration file. path is for messages. ${VAR} in a value is replaced after parsing, so
// that no variable can change the structure of the file; an unset variable and an unknown key are errors that name
// the line. Every error is an *InvalidError.
func Parse(path string, data []byte, getenv func(string) (string, bool)) (cfg Config, err error) {
	defer func() {
		// The YAML library panics on some malformed documents (found by FuzzParse).
		if p := recover(); p != nil {
			cfg, err = Config{}, invalid("compare it with what `tablekeeper init` writes", "%s: malformed YAML", path)
		}
	}()
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return Config{}, syntaxError(path, err)
	}
	cfg = Config{Origins: map[string]string{}}
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.NullType || doc.Body.Type() == ast.CommentType {
			continue
		}
		if len(cfg.Origins) > 0 {
			return Config{}, invalid("keep one document", "%s: more than one YAML document", path)
		}
		if err := cfg.decode(path, doc.Body, getenv); err != nil {
			return Config{}, err
		}
	}
	return cfg, nil
}

func (c *Config) decode(path string, body ast.Node, getenv func(string) (string, bool)) error {
	if _, ok := body.(ast.MapNode); !ok {
		return at(path, body.GetToken(), "write `key: value` lines; see `tablekeeper init`", "this is not a mapping")
	}
	if err := checkKeys(path, body, reflect.TypeFor[Config]()); err != nil {
		return err
	}
	if err := expand(path, body, getenv); err != nil {
		return err
	}
	c.recordOrigins(path, "", body)
	if err := yaml.NodeToValue(body, c, yaml.Strict()); err != nil {
		return syntaxError(path, err)
	}
	return nil
}

// syntaxError turns an error of the YAML library into ours, with its excerpt.
func syntaxError(path string, err error) error {
	var located yaml.Error
	if errors.As(err, &located) && located.GetToken() != nil {
		return at(path, located.GetToken(), "mend the marked line", "%s", located.GetMessage())
	}
	return invalid("compare it with what `tablekeeper init` writes", "%s: %v", path, err)
}

// at is an InvalidError that names file and line and shows the lines around it.
func at(path string, tk *token.Token, hint, format string, args ...any) error {
	message := fmt.Sprintf(format, args...)
	line := 0
	if tk.Position != nil {
		line = tk.Position.Line
	}
	excerpt := yaml.FormatErrorWithToken("", tk, false, true)
	if _, after, ok := strings.Cut(excerpt, "\n"); ok {
		excerpt = after
	}
	return &InvalidError{Text: fmt.Sprintf("%s:%d: %s\n%s", path, line, message, strings.TrimRight(excerpt, "\n")), Try: hint}
}

// checkKeys compares the keys of a mapping with the fields of the struct it is meant for, and below.
func checkKeys(path string, node ast.Node, t reflect.Type) error {
	switch {
	case t.Kind() == reflect.Slice:
		seq, ok := node.(*ast.SequenceNode)
		if !ok {
			return nil
		}
		for _, v := range seq.Values {
			if err := checkKeys(path, v, t.Elem()); err != nil {
				return err
			}
		}
		return nil
	case t.Kind() != reflect.Struct:
		return nil
	}
	mapping, ok := node.(ast.MapNode)
	if !ok {
		return nil
	}
	fields := fieldsOf(t)
	for it := mapping.MapRange(); it.Next(); {
		key := it.Key().GetToken()
		field, ok := fields[key.Value]
		if !ok {
			return at(path, key, suggestion(key.Value, fields), "unknown key %q", key.Value)
		}
		if err := checkKeys(path, it.Value(), field); err != nil {
			return err
		}
	}
	return nil
}

func fieldsOf(t reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for f := range t.Fields() {
		if tag := f.Tag.Get("yaml"); tag != "-" && tag != "" {
			fields[tag] = f.Type
		}
	}
	return fields
}

// recordOrigins remembers the line of each key, by its dotted name; sequences are not entered.
func (c *Config) recordOrigins(path, prefix string, node ast.Node) {
	mapping, ok := node.(ast.MapNode)
	if !ok {
		return
	}
	for it := mapping.MapRange(); it.Next(); {
		tk := it.Key().GetToken()
		c.Origins[prefix+tk.Value] = fmt.Sprintf("%s:%d", path, tk.Position.Line)
		c.recordOrigins(path, prefix+tk.Value+".", it.Value())
	}
}

// UnmarshalYAML reads a source, which is a mapping or, for short, just its path.
func (s *Source) UnmarshalYAML(node ast.Node) error {
	if text, ok := node.(ast.ScalarNode); ok {
		s.Path = fmt.Sprint(text.GetValue())
		return nil
	}
	type mapping Source
	return yaml.NodeToValue(node, (*mapping)(s), yaml.Strict())
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
