package kms_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/keyside/keyside/sidecar/kms"
)

// TestLimitsOver holds that every limit that is not set comes from below, and none that is.
func TestLimitsOver(t *testing.T) {
	var own, base kms.Limits
	o, b := reflect.ValueOf(&own).Elem(), reflect.ValueOf(&base).Elem()
	for i := range o.NumField() {
		b.Field(i).SetInt(int64(100 + i))
		if i%2 == 0 {
			o.Field(i).SetInt(int64(1 + i))
		}
	}
	got := reflect.ValueOf(own.Over(base))
	for i := range got.NumField() {
		want := int64(100 + i)
		if i%2 == 0 {
			want = int64(1 + i)
		}
		if got.Field(i).Int() != want {
			t.Errorf("%s is %d, want %d", got.Type().Field(i).Name, got.Field(i).Int(), want)
		}
	}
}

// TestLimitsOfTheCall holds that a dialect's limits go before the service's, both ways.
func TestLimitsOfTheCall(t *testing.T) {
	w := newWorld(t, kms.Limits{Keys: 1, Alias: 10})
	own := kms.Limits{Keys: 2, Alias: 5}.Over(w.Limits())
	call := *kms.CallFrom(admin)
	call.Limits = &own
	ctx := kms.WithCall(admin, &call)
	for _, c := range []struct {
		alias      string
		own, other kms.Code
	}{
		{strings.Repeat("a", 6), invalidAlias, "ok"},
		{"b", "ok", kms.CodeQuotaExceeded},
	} {
		_, err := w.CreateKey(ctx, kms.CreateKeyInput{Alias: c.alias})
		wantCode(t, err, c.own)
		_, err = w.CreateKey(admin, kms.CreateKeyInput{Alias: c.alias})
		wantCode(t, err, c.other)
	}
}
