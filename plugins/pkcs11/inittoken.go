package pkcs11

import (
	"errors"
	"fmt"
	"os"

	"github.com/miekg/pkcs11"
)

// InitToken initializes the first uninitialized token of a module and sets its user PIN. The module stays loaded, so it should run
// in a process of its own.
func InitToken(module, label, soPIN, pin string) (err error) {
	if len(label) > 32 {
		return fmt.Errorf("token label has %d bytes, more than 32", len(label))
	}
	if _, err := os.Stat(module); err != nil {
		return err
	}
	ctx := pkcs11.New(module)
	if ctx == nil {
		return fmt.Errorf("module %s cannot be loaded", module)
	}
	if err := ctx.Initialize(); err != nil {
		return fmt.Errorf("initialize module: %w", err)
	}
	defer func() { err = errors.Join(err, ctx.Finalize()) }()
	slot, err := freeSlot(ctx)
	if err != nil {
		return err
	}
	if err := ctx.InitToken(slot, soPIN, label); err != nil {
		return fmt.Errorf("initialize token: %w", err)
	}
	return setUserPIN(ctx, label, soPIN, pin)
}

// freeSlot returns a slot whose token is not initialized.
func freeSlot(ctx *pkcs11.Ctx) (uint, error) {
	slots, err := ctx.GetSlotList(true)
	if err != nil {
		return 0, fmt.Errorf("list slots: %w", err)
	}
	for _, slot := range slots {
		if info, err := ctx.GetTokenInfo(slot); err == nil && info.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 {
			return slot, nil
		}
	}
	return 0, errors.New("module has no uninitialized token")
}

// setUserPIN logs in as security officer and sets the user PIN. It finds the token by its label, because modules may move a token
// to another slot when they initialize it.
func setUserPIN(ctx *pkcs11.Ctx, label, soPIN, pin string) error {
	slots, err := ctx.GetSlotList(true)
	if err != nil {
		return fmt.Errorf("list slots: %w", err)
	}
	for _, slot := range slots {
		info, err := ctx.GetTokenInfo(slot)
		if err != nil || info.Label != label {
			continue
		}
		session, err := ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
		if err != nil {
			return fmt.Errorf("open session: %w", err)
		}
		if err := ctx.Login(session, pkcs11.CKU_SO, soPIN); err != nil {
			return fmt.Errorf("log in as security officer: %w", err)
		}
		if err := ctx.InitPIN(session, pin); err != nil {
			return fmt.Errorf("set user pin: %w", err)
		}
		return ctx.CloseSession(session)
	}
	return fmt.Errorf("token %q is not found after it was initialized", label)
}
