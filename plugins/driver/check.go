package driver

import "slices"

// Checker refuses requests that a driver's Description does not cover, before the driver touches a key. Its errors are
// InvalidArgument for what contradicts the contract and Unsupported for what is not announced. It is safe for concurrent use.
type Checker struct {
	desc  *Description
	kinds map[keyKind][]Algorithm
}

// keyKind is a key spec with a usage.
type keyKind struct {
	spec  KeySpec
	usage KeyUsage
}

// NewChecker returns the Checker of a description, which must not be changed afterwards.
func NewChecker(d *Description) *Checker {
	c := &Checker{desc: d, kinds: map[keyKind][]Algorithm{}}
	for _, k := range d.GetKeys() {
		c.kinds[keyKind{k.GetSpec(), k.GetUsage()}] = k.GetAlgorithms()
	}
	return c
}

// Key checks the identity of a key that is to be made or used.
func (c *Checker) Key(id *KeyIdentity) error {
	if err := CheckIdentity(id); err != nil {
		return err
	}
	if _, announced := c.kinds[keyKind{id.GetSpec(), id.GetUsage()}]; !announced {
		return Errorf(Unsupported, "keys: %s for %s", id.GetSpec(), id.GetUsage())
	}
	return nil
}

// WrappingKey checks the identity of a key that opens imports.
func (c *Checker) WrappingKey(id *KeyIdentity) error {
	if err := CheckIdentity(id); err != nil {
		return err
	}
	if id.GetUsage() != Unwrap {
		return Errorf(InvalidArgument, "a wrapping key has usage %s", Unwrap)
	}
	if !slices.Contains(c.desc.GetWrappingSpecs(), id.GetSpec()) {
		return Errorf(Unsupported, "wrapping_specs: %s", id.GetSpec())
	}
	return nil
}

// Import checks both keys and the algorithm of an import, but not the material.
func (c *Checker) Import(req *ImportKeyRequest) error {
	if err := c.Key(req.GetKey()); err != nil {
		return err
	}
	if err := c.WrappingKey(req.GetWrappingKey()); err != nil {
		return err
	}
	if !slices.Contains(c.desc.GetImportAlgorithms(), req.GetAlgorithm()) {
		return Errorf(Unsupported, "import_algorithms: %s", req.GetAlgorithm())
	}
	return nil
}

// opRule says what an operation needs: the usage of its key, 0 for an operation without a key, and what its fields must be.
type opRule struct {
	usage KeyUsage
	check func(*Description, *Op) error
}

var opRules = map[OpKind]opRule{
	Encrypt:    {EncryptDecrypt, checkData},
	Decrypt:    {EncryptDecrypt, checkCiphertext},
	DataKey:    {EncryptDecrypt, checkDataKey},
	DecryptRSA: {EncryptDecrypt, checkBlock},
	Sign:       {SignVerify, checkDigest},
	MAC:        {GenerateVerifyMAC, checkData},
	VerifyMAC:  {GenerateVerifyMAC, checkData},
	Derive:     {KeyAgreement, checkData},
	Random:     {0, checkRandom},
	TenantMAC:  {0, checkData},
	AuditSign:  {0, checkDigest},
}

// Op checks an operation: its key's usage and algorithm, and the lengths of its fields.
func (c *Checker) Op(op *Op) error {
	rule, known := opRules[op.GetKind()]
	if !known {
		return Errorf(Unsupported, "operation %s", op.GetKind())
	}
	if rule.usage != 0 {
		if err := c.opKey(op, rule.usage); err != nil {
			return err
		}
	} else if op.GetKey() != nil || len(op.GetSealed()) > 0 {
		return Errorf(InvalidArgument, "%s takes no key", op.GetKind())
	}
	return rule.check(c.desc, op)
}

func (c *Checker) opKey(op *Op, usage KeyUsage) error {
	id, a := op.GetKey(), op.GetAlgorithm()
	if err := c.Key(id); err != nil {
		return err
	}
	symmetric := SpecOf(id.GetSpec()).Symmetric()
	switch {
	case len(op.GetSealed()) == 0:
		return Errorf(InvalidArgument, "sealed key missing")
	case id.GetUsage() != usage:
		return Errorf(InvalidArgument, "%s needs a key for %s", op.GetKind(), usage)
	case usage == EncryptDecrypt && symmetric == (op.GetKind() == DecryptRSA):
		return Errorf(InvalidArgument, "%s is not for %s keys", op.GetKind(), id.GetSpec())
	case usage == EncryptDecrypt && symmetric && a == 0:
		return nil // AES_GCM, the only algorithm
	case !slices.Contains(c.kinds[keyKind{id.GetSpec(), usage}], a):
		return Errorf(InvalidArgument, "algorithm %s is not for %s keys", a, id.GetSpec())
	}
	return nil
}

func checkData(d *Description, op *Op) error {
	limit := d.GetMaxData()
	if op.GetKind() == Decrypt {
		limit += GCMTagSize
	}
	if len(op.GetData()) > int(limit) || len(op.GetAad()) > int(d.GetMaxData()) {
		return Errorf(InvalidArgument, "data longer than %d bytes", d.GetMaxData())
	}
	return nil
}

func checkCiphertext(d *Description, op *Op) error {
	if err := checkData(d, op); err != nil {
		return err
	}
	if len(op.GetIv()) != GCMIVSize || len(op.GetData()) < GCMTagSize {
		return BadCiphertextError()
	}
	return nil
}

// checkBlock requires a block as long as the modulus. Another length gets the answer of every other fault.
func checkBlock(_ *Description, op *Op) error {
	if len(op.GetData()) != SpecOf(op.GetKey().GetSpec()).Size() {
		return BadCiphertextError()
	}
	return nil
}

// BadCiphertextError is the one answer to data that does not decrypt. RSA blocks with different faults must get the same answer:
// a difference would let a sender decrypt other people's messages (Bleichenbacher 1998, Manger 2001).
func BadCiphertextError() *Error {
	return &Error{Code: BadCiphertext, Message: "ciphertext does not decrypt"}
}

func checkDataKey(d *Description, op *Op) error {
	if n := op.GetLength(); n == 0 || n > d.GetMaxDataKey() {
		return Errorf(InvalidArgument, "a data key has 1 to %d bytes", d.GetMaxDataKey())
	}
	return checkData(d, op)
}

func checkRandom(d *Description, op *Op) error {
	if n := op.GetLength(); n == 0 || n > d.GetMaxRandom() {
		return Errorf(InvalidArgument, "random data has 1 to %d bytes", d.GetMaxRandom())
	}
	return nil
}

func checkDigest(_ *Description, op *Op) error {
	a := op.GetAlgorithm()
	if op.GetKind() == AuditSign {
		a = ECDSASHA256 // the only algorithm
	}
	if n := HashOf(a).Size(); len(op.GetData()) != n {
		return Errorf(InvalidArgument, "a digest for %s has %d bytes", a, n)
	}
	return nil
}
