package driver

import (
	"slices"
	"testing"
)

// everything describes a driver with all kinds of keys of the table.
func everything() *Description {
	d := &Description{MaxData: 100, MaxDataKey: 64, MaxRandom: 50, ImportAlgorithms: []Algorithm{OAEPSHA1}}
	for _, spec := range Specs() {
		for _, u := range spec.Uses {
			if u.Usage == Unwrap {
				d.WrappingSpecs = append(d.WrappingSpecs, spec.Value)
			} else {
				d.Keys = append(d.Keys, &Capability{Spec: spec.Value, Usage: u.Usage, Algorithms: u.Algorithms})
			}
		}
	}
	return d
}

// goodOp returns an operation of a kind that the checker lets through, with a key of this spec.
func goodOp(kind OpKind, spec KeySpec) *Op {
	op := &Op{Kind: kind, Length: 16, Data: make([]byte, 32), Iv: make([]byte, GCMIVSize), Key: sampleRecord().Key, Sealed: []byte("x")}
	op.Key.Spec, op.Key.Usage = spec, opRules[kind].usage
	if algorithms, _ := SpecOf(spec).Algorithms(op.Key.Usage); len(algorithms) > 0 {
		op.Algorithm = algorithms[0]
	}
	switch {
	case opRules[kind].usage == 0:
		op.Key, op.Sealed = nil, nil
	case kind == DecryptRSA:
		op.Data = make([]byte, SpecOf(spec).Size())
	}
	return op
}

// TestCheckerLetsThrough checks that each operation fits the keys of the specs that have its usage, and no others.
func TestCheckerLetsThrough(t *testing.T) {
	c := NewChecker(everything())
	families := map[OpKind][]Family{
		Encrypt: {AES}, Decrypt: {AES}, DataKey: {AES}, DecryptRSA: {RSA}, Sign: {RSA, EC}, MAC: {HMAC}, VerifyMAC: {HMAC}, Derive: {EC},
	}
	for kind := Encrypt; kind <= LastOp; kind++ {
		if opRules[kind].usage == 0 {
			if err := c.Op(goodOp(kind, AES256)); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
			if op := goodOp(kind, AES256); CodeOf(c.Op(&Op{Kind: kind, Key: sampleRecord().Key, Data: op.Data, Length: 16})) != InvalidArgument {
				t.Errorf("%s with a key", kind)
			}
			continue
		}
		for _, spec := range Specs() {
			err := c.Op(goodOp(kind, spec.Value))
			if fits := slices.Contains(families[kind], spec.Family); fits != (err == nil) {
				t.Errorf("%s with a key %s: %v", kind, spec.Name, err)
			}
		}
	}
}

// TestCheckerRefuses checks the codes of what is wrong with single fields.
func TestCheckerRefuses(t *testing.T) {
	c := NewChecker(everything())
	for what, r := range map[string]struct {
		op    *Op
		code  Code
		spoil func(*Op)
	}{
		"an unknown operation":     {goodOp(Encrypt, AES256), Unsupported, func(op *Op) { op.Kind = LastOp + 1 }},
		"no identity":              {goodOp(Encrypt, AES256), InvalidArgument, func(op *Op) { op.Key = nil }},
		"no blob":                  {goodOp(Sign, ECP256), InvalidArgument, func(op *Op) { op.Sealed = nil }},
		"an unknown spec":          {goodOp(Encrypt, AES256), Unsupported, func(op *Op) { op.Key.Spec = 120 }},
		"another usage":            {goodOp(Sign, ECP256), InvalidArgument, func(op *Op) { op.Key.Usage = KeyAgreement }},
		"another algorithm":        {goodOp(Sign, ECP256), InvalidArgument, func(op *Op) { op.Algorithm = PSSSHA256 }},
		"no algorithm":             {goodOp(MAC, HMAC256), InvalidArgument, func(op *Op) { op.Algorithm = 0 }},
		"too much data":            {goodOp(MAC, HMAC256), InvalidArgument, func(op *Op) { op.Data = make([]byte, 101) }},
		"too much aad":             {goodOp(Encrypt, AES256), InvalidArgument, func(op *Op) { op.Aad = make([]byte, 101) }},
		"a ciphertext too long":    {goodOp(Decrypt, AES256), InvalidArgument, func(op *Op) { op.Data = make([]byte, 117) }},
		"a short iv":               {goodOp(Decrypt, AES256), BadCiphertext, func(op *Op) { op.Iv = op.Iv[1:] }},
		"half a tag":               {goodOp(Decrypt, AES256), BadCiphertext, func(op *Op) { op.Data = op.Data[:8] }},
		"a short block":            {goodOp(DecryptRSA, RSA2048), BadCiphertext, func(op *Op) { op.Data = op.Data[1:] }},
		"a digest of another hash": {goodOp(Sign, ECP256), InvalidArgument, func(op *Op) { op.Data = make([]byte, 48) }},
		"an audit digest too long": {goodOp(AuditSign, 0), InvalidArgument, func(op *Op) { op.Data = make([]byte, 33) }},
		"an empty data key":        {goodOp(DataKey, AES256), InvalidArgument, func(op *Op) { op.Length = 0 }},
		"a long data key":          {goodOp(DataKey, AES256), InvalidArgument, func(op *Op) { op.Length = 65 }},
		"too many random bytes":    {goodOp(Random, 0), InvalidArgument, func(op *Op) { op.Length = 51 }},
	} {
		r.spoil(r.op)
		if err := c.Op(r.op); CodeOf(err) != r.code {
			t.Errorf("%s: %v, want %s", what, err, r.code)
		}
	}
	if err := c.Op(&Op{Kind: Encrypt, Key: goodOp(Encrypt, AES256).Key, Sealed: []byte("x")}); err != nil {
		t.Errorf("AES_GCM is not the default: %v", err)
	}
}

// TestCheckerImport checks what is refused of an import before its material is touched.
func TestCheckerImport(t *testing.T) {
	c := NewChecker(everything())
	for what, r := range map[string]struct {
		code  Code
		spoil func(*ImportKeyRequest)
	}{
		"nothing":                  {0, func(*ImportKeyRequest) {}},
		"no key":                   {InvalidArgument, func(r *ImportKeyRequest) { r.Key = nil }},
		"a kind without keys":      {Unsupported, func(r *ImportKeyRequest) { r.Key.Usage = SignVerify }},
		"a wrapping key as key":    {Unsupported, func(r *ImportKeyRequest) { r.Key = r.WrappingKey }},
		"no wrapping key":          {InvalidArgument, func(r *ImportKeyRequest) { r.WrappingKey = nil }},
		"a key of another usage":   {InvalidArgument, func(r *ImportKeyRequest) { r.WrappingKey.Usage = SignVerify }},
		"an elliptic wrapping key": {Unsupported, func(r *ImportKeyRequest) { r.WrappingKey.Spec = ECP256 }},
		"another algorithm":        {Unsupported, func(r *ImportKeyRequest) { r.Algorithm = OAEPSHA256 }},
	} {
		req := &ImportKeyRequest{Key: sampleRecord().Key, WrappingKey: sampleRecord().Key, Algorithm: OAEPSHA1}
		req.Key.Spec, req.Key.Usage, req.WrappingKey.Spec, req.WrappingKey.Usage = AES256, EncryptDecrypt, RSA2048, Unwrap
		r.spoil(req)
		if err := c.Import(req); CodeOf(err) != r.code {
			t.Errorf("import with %s: %v, want %s", what, err, r.code)
		}
	}
}
