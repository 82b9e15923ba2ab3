package keyside

import (
	"cmp"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// object is a JSON object of the document.
type object = map[string]any

// Document returns the OpenAPI 3.1 document of the API, generated from the table of operations: the fields of requests, and
// the Go types of results.
var Document = sync.OnceValue(func() []byte {
	d := document{schemas: object{}}
	paths := object{}
	for i := range table {
		path, operation := d.operation(&table[i])
		paths[client.BasePath+path] = object{"post": operation}
	}
	b, err := json.Marshal(object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Keyside", "version": "1",
			"description": "The native API of the Keyside key management service. Times are RFC 3339, bytes are standard base64. " +
				"On the Unix socket the kernel identifies the caller; elsewhere requests are signed or have a token.",
		},
		"paths": paths,
		"components": object{
			"schemas":   d.schemas,
			"responses": object{"Error": d.content("The operation was refused or failed", d.ref(reflect.TypeFor[client.ErrorBody]()))},
			"securitySchemes": object{
				"token": object{"type": "apiKey", "in": "header", "name": "X-Auth-Token", "description": "A token of create-token"},
				"signature": object{
					"type": "apiKey", "in": "header", "name": "Authorization",
					"description": "SDK-HMAC-SHA256 with an access key of create-credential",
				},
			},
		},
		"security": []object{{}, {"token": []string{}}, {"signature": []string{}}},
	}, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		panic(err) // of values that are all made here
	}
	return append(b, '\n')
})

// serveDocument answers with the document. Every caller may ask: it says nothing that is secret.
func serveDocument(w http.ResponseWriter, _ *http.Request) {
	x := dialect.Begin()
	defer x.End()
	x.Out = append(x.Out, Document()...)
	x.Send(w, http.StatusOK)
}

// document collects the schemas of results.
type document struct {
	schemas object
}

// operation returns the path of a row and its description.
func (d *document) operation(r *row) (path string, operation object) {
	rt := r.route(nil)
	media, result := "application/json", object{"type": "object"}
	switch r.result.(type) {
	case nil:
	case archive:
		media, result = "application/octet-stream", object{}
	case lines:
		media, result = "application/octet-stream", d.ref(reflect.TypeFor[client.AuditEntry]())
	default:
		result = d.ref(reflect.TypeOf(r.result))
	}
	operation = object{
		"operationId": rt.Path, "summary": r.summary,
		"requestBody": object{"content": object{"application/json": object{"schema": request(rt.Path, r.fields)}}},
		"responses": object{
			"200":     object{"description": "Success", "content": object{media: object{"schema": result}}},
			"default": object{"$ref": "#/components/responses/Error"},
		},
	}
	if r.access == socket {
		operation["description"] = "Only for identified callers on the Unix socket."
	}
	return rt.Path, operation
}

func (d *document) content(description string, schema object) object {
	return object{"description": description, "content": object{"application/json": object{"schema": schema}}}
}

// request returns the schema of an object with fields. place is the operation, or the field that holds the object.
func request(place string, fields []dialect.Field) object {
	properties, required := object{}, []string{}
	for i := range fields {
		f := &fields[i]
		schema := fieldSchema(f)
		explain(schema, place, f.Name)
		properties[f.Name] = schema
		if f.Required {
			required = append(required, f.Name)
		}
	}
	schema := structure(properties, required)
	schema["additionalProperties"] = false
	return schema
}

func structure(properties object, required []string) object {
	schema := object{"type": "object", "properties": properties}
	if len(required) > 0 {
		schema["required"] = required
	}
	return schema
}

func fieldSchema(f *dialect.Field) object {
	schema := object{"type": "string"}
	switch f.Kind {
	case dialect.Text:
		bound(schema, f, "minLength", "maxLength")
		if f.Form == &timeForm {
			schema["format"] = "date-time"
		}
		if f.Values != nil {
			schema["enum"] = f.Values
		}
	case dialect.Number:
		schema["type"] = "integer"
		bound(schema, f, "minimum", "maximum")
	case dialect.Flag:
		schema["type"] = "boolean"
	case dialect.Base64:
		schema["contentEncoding"] = "base64"
	case dialect.Pairs:
		schema["type"], schema["additionalProperties"] = "object", object{"type": "string"}
	case dialect.Texts:
		schema["type"], schema["items"] = "array", object{"type": "string"}
		bound(schema, f, "minItems", "maxItems")
	case dialect.Items:
		schema["type"], schema["items"] = "array", request(f.Name, f.Fields)
		bound(schema, f, "minItems", "maxItems")
	}
	return schema
}

// bound adds the bounds of a field that has some.
func bound(schema object, f *dialect.Field, low, high string) {
	if f.High == 0 {
		return
	}
	schema[low] = f.Low
	if f.High != dialect.Unbounded {
		schema[high] = f.High
	}
}

// enums are the values of members of results.
var enums = map[string][]string{"state": states, "key_spec": keySpecs, "key_usage": keyUsages}

// ref returns a reference to the schema of a struct type, which it adds to the document.
func (d *document) ref(t reflect.Type) object {
	name := t.Name()
	if _, known := d.schemas[name]; !known {
		d.schemas[name] = nil // so that a type that contains itself ends
		properties, required := object{}, []string{}
		d.members(name, t, properties, &required)
		d.schemas[name] = structure(properties, required)
	}
	return object{"$ref": "#/components/schemas/" + name}
}

// members adds the members of a struct type, those of embedded ones included.
func (d *document) members(place string, t reflect.Type, properties object, required *[]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			d.members(place, f.Type, properties, required)
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		schema := d.schema(f.Type)
		if values := enums[name]; values != nil && f.Type.Kind() == reflect.String && place != "Member" {
			schema["enum"] = values
		}
		if place == "ErrorDetail" && name == "code" {
			schema["enum"] = kms.Codes
		}
		explain(schema, place, name)
		properties[name] = schema
		if options == "" {
			*required = append(*required, name)
		}
	}
}

// schema returns the schema of a member's type.
func (d *document) schema(t reflect.Type) object {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[[]byte]():
		return object{"type": "string", "contentEncoding": "base64"}
	case t == reflect.TypeFor[jsontext.Value]():
		return object{"type": "object"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return d.schema(t.Elem())
	case reflect.Struct:
		return d.ref(t)
	case reflect.Slice:
		return object{"type": "array", "items": d.schema(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": d.schema(t.Elem())}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.String:
		return object{"type": "string"}
	default:
		return object{"type": "integer"}
	}
}

// explain adds the description of a member of a request or a result.
func explain(schema object, place, member string) {
	schema["description"] = cmp.Or(descriptions[place+"."+member], descriptions[member])
}
