package alibaba

import (
	"bytes"
	"encoding/xml"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/keyside/keyside/sidecar/dialect"
)

// mediaXML is the one content type by which the vendor's SDK tells XML.
const mediaXML = "text/xml;charset=utf-8"

// format turns the JSON of an answer into XML under a root element, if the request asks for that. An array becomes an element for
// each of its values, under the array's name.
func format(x *dialect.Exchange, root string) {
	if !strings.EqualFold(x.Parameter(paramFormat), "XML") {
		return
	}
	text := bytes.NewBuffer(make([]byte, 0, 5*len(x.Out)+256)) // no escape is longer than five times what JSON has
	defer func() { clear(text.Bytes()) }()
	text.WriteString(xml.Header)
	writeXML(text, jsontext.NewDecoder(bytes.NewBuffer(x.Out)), root)
	x.Restart()
	x.Grow(text.Len())
	x.Out, x.Media = append(x.Out, text.Bytes()...), mediaXML
}

// writeXML writes the next JSON value of an answer, which is our own, as an element.
func writeXML(to *bytes.Buffer, in *jsontext.Decoder, name string) {
	switch in.PeekKind() {
	case '[':
		_, _ = in.ReadToken()
		for in.PeekKind() != ']' {
			writeXML(to, in, name)
		}
		_, _ = in.ReadToken()
		return
	case '{':
		_, _ = in.ReadToken()
		to.WriteString("<" + name + ">")
		for in.PeekKind() != '}' {
			member, _ := in.ReadToken()
			writeXML(to, in, member.String())
		}
		_, _ = in.ReadToken()
	default:
		to.WriteString("<" + name + ">")
		value, _ := in.ReadValue()
		if value.Kind() == '"' {
			plain, _ := jsontext.AppendUnquote(make([]byte, 0, len(value)), value)
			_ = xml.EscapeText(to, plain) // a buffer takes everything
			clear(plain)
		} else {
			to.Write(value)
		}
	}
	to.WriteString("</" + name + ">")
}
