package functions

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"tablekeeper/storage/shelf"
)

// EventError is an event of the wrong shape. Retrying it helps nobody.
type EventError struct {
	Problem string
	Try     string
}

func (e *EventError) Error() string { return "event: " + e.Problem }

// Hint is what to write instead.
func (e *EventError) Hint() string { return e.Try }

// Permanent is true: the event must change first.
func (e *EventError) Permanent() bool { return true }

// Decode reads an event into the struct that into points to. Nothing at all, null and {} leave it as it is. A field that
// the struct does not have is an *EventError with the field that was probably meant; so are a value of the wrong type, a
// field given twice, and anything after the object.
func Decode(event []byte, into any) error {
	if text := bytes.TrimSpace(event); len(text) == 0 || string(text) == "null" {
		return nil
	}
	known := fields(reflect.TypeOf(into).Elem())
	given, err := keys(event)
	if err != nil {
		return err
	}
	for i, key := range given {
		if !slices.Contains(known, key) {
			return unknownField(key, known)
		}
		if slices.Contains(given[:i], key) {
			return &EventError{Problem: fmt.Sprintf("%q is given twice", key), Try: "give it once"}
		}
	}
	return wrongType(json.Unmarshal(event, into))
}

func unknownField(key string, known []string) error {
	try := "known fields: " + strings.Join(known, ", ")
	if near := shelf.Nearest(key, known); near != "" {
		try = fmt.Sprintf("did you mean %q?", near)
	}
	return &EventError{Problem: fmt.Sprintf("unknown field %q", key), Try: try}
}

func wrongType(err error) error {
	var typeErr *json.UnmarshalTypeError
	if errors.As(err, &typeErr) {
		return &EventError{
			Problem: fmt.Sprintf("%q cannot be a %s", typeErr.Field, typeErr.Value),
			Try:     fmt.Sprintf("it is a %s", kindName(typeErr.Type)),
		}
	}
	if err != nil {
		return &EventError{Problem: err.Error()}
	}
	return nil
}

// kindName is what JSON calls a Go type.
func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Slice:
		return `list, such as ["*"]`
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "string"
	default:
		return "number"
	}
}

// keys are the names of an object's fields, as often as they are given. What is no object is an *EventError.
func keys(text []byte) ([]string, error) {
	const shape = `an event is one JSON object, such as {"tables":["*"]}`
	dec := json.NewDecoder(bytes.NewReader(text))
	if first, err := dec.Token(); err != nil || first != json.Delim('{') {
		return nil, &EventError{Problem: "it is no JSON object", Try: shape}
	}
	var names []string
	for dec.More() {
		name, err := dec.Token()
		var value json.RawMessage
		if err == nil {
			err = dec.Decode(&value)
		}
		if err != nil {
			return nil, malformed(err, shape)
		}
		names = append(names, name.(string))
	}
	if _, err := dec.Token(); err != nil {
		return nil, malformed(err, shape)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, &EventError{Problem: "something follows the object", Try: shape}
	}
	return names, nil
}

func malformed(err error, shape string) error {
	problem := err.Error()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		problem = "it ends in the middle"
	}
	return &EventError{Problem: problem, Try: shape}
}

// fields are the JSON names of a struct's fields, those of embedded structs too.
func fields(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			names = append(names, fields(f.Type)...)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}
