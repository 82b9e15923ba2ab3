package audit

import (
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// appendRecord appends a record as one line of JSON with the names and the order of its struct tags. It is on the path
// of every operation, hence by hand; a test holds it to what a JSON library makes of the same record.
func appendRecord(b []byte, r *kms.AuditRecord) []byte {
	b = append(b, `{"time":"`...)
	b = r.Time.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, '"')
	b = appendText(b, `,"request_id":`, r.RequestID)
	b = appendText(b, `,"operation":`, string(r.Operation))
	b = appendOptional(b, `,"trace":`, r.Trace)
	b = appendText(b, `,"dialect":`, r.Dialect)
	b = appendText(b, `,"tenant":`, r.Tenant)
	b = appendOptional(b, `,"principal":`, r.Principal)
	b = appendOptional(b, `,"access_key":`, r.AccessKey)
	b = appendCaller(b, &r.Caller)
	b = appendOptional(b, `,"key_id":`, r.KeyID)
	if r.Version != 0 {
		b = appendNumber(b, `,"version":`, int64(r.Version))
	}
	b = appendText(b, `,"decision":`, r.Decision)
	b = appendOptional(b, `,"by":`, r.By)
	b = appendOptional(b, `,"missing_permission":`, string(r.Missing))
	b = appendText(b, `,"outcome":`, r.Outcome)
	b = appendOptional(b, `,"reason":`, string(r.Reason))
	b = appendNumber(b, `,"latency_us":`, r.Latency)
	b = appendOptional(b, `,"warning":`, r.Warning)
	b = appendOptional(b, `,"protection":`, string(r.Protect))
	b = appendOptional(b, `,"opened_in":`, string(r.OpenedIn))
	b = appendOptional(b, `,"source_key_id":`, r.SourceKeyID)
	if r.SourceVersion != 0 {
		b = appendNumber(b, `,"source_version":`, int64(r.SourceVersion))
	}
	b = appendOptional(b, `,"target":`, r.Target)
	if r.Change != 0 {
		b = appendNumber(b, `,"change":`, int64(r.Change))
	}
	if r.PreviousChange != 0 {
		b = appendNumber(b, `,"previous_change":`, int64(r.PreviousChange))
	}
	return append(b, '}', '\n')
}

func appendCaller(b []byte, c *policy.Caller) []byte {
	b = appendNumber(b, `,"caller":{"uid":`, int64(c.UID))
	b = appendNumber(b, `,"gid":`, int64(c.GID))
	b = appendNumber(b, `,"pid":`, int64(c.PID))
	b = append(b, `,"known":`...)
	b = strconv.AppendBool(b, c.Known)
	if c.Ended {
		b = append(b, `,"ended":true`...)
	}
	if p := c.Process; p != nil {
		b = append(b, `,"process":{`...)
		begun := len(b)
		b = appendOptional(b, `,"exe":`, p.Exe)
		b = appendOptional(b, `,"unit":`, p.Unit)
		b = appendOptional(b, `,"pod":`, p.Pod)
		b = appendOptional(b, `,"container":`, p.Container)
		separator := `,"groups":[`
		for _, g := range p.Groups {
			b = appendNumber(b, separator, int64(g))
			separator = ","
		}
		if len(p.Groups) > 0 {
			b = append(b, ']')
		}
		if len(b) > begun {
			b = append(b[:begun], b[begun+1:]...) // the first comma
		}
		b = append(b, '}')
	}
	return append(b, '}')
}

func appendNumber(b []byte, name string, value int64) []byte {
	return strconv.AppendInt(append(b, name...), value, 10)
}

func appendOptional(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendText(b, name, value)
}

func appendText(b []byte, name, value string) []byte {
	b = append(b, name...)
	// Its only error is invalid UTF-8, which it has then replaced.
	b, _ = jsontext.AppendQuote(b, value)
	return b
}
