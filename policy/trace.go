package policy

import "strings"

// traces are the names that the user guide has for operations (table 1-7), where they are not just the operation's own name in
// camel case. Its deleteKeyRiskTips, a console's warning, is no operation here.
var traces = map[Operation]string{
	OpCreateDataKeyNoText: "createDataKeyWithoutPlaintext",
	OpCreateDataKey:       "createDataKey", // is not in the table; as the one above
}

// Trace names of what an operation does to several things at once, from the same table.
const (
	TraceTagInBatch   = "batchCreateKeyTags"
	TraceUntagInBatch = "batchDeleteKeyTags"
)

// Trace returns the name of an operation in the trace that it leaves. What the guide has no name for has one in its style.
func (op Operation) Trace() string {
	if name, ok := traceNames[op]; ok {
		return name
	}
	return traceOf(op)
}

// traceNames is worked out once: each record asks.
var traceNames = func() map[Operation]string {
	names := make(map[Operation]string)
	for _, list := range [][]Operation{Operations, Scheduled} {
		for _, op := range list {
			names[op] = traceOf(op)
		}
	}
	return names
}()

func traceOf(op Operation) string {
	if name, ok := traces[op]; ok {
		return name
	}
	var b strings.Builder
	for i, word := range strings.Split(string(op), "-") {
		if i > 0 && word != "" {
			word = strings.ToUpper(word[:1]) + word[1:]
		}
		b.WriteString(word)
	}
	return b.String()
}
