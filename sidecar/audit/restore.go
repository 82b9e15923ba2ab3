package audit

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
)

// SkipRemoved prepares a database that was restored from a backup for a log of which retention has since removed the file where the
// database's head is: the head becomes the start of the first file that remains, as the signed checkpoint of the file before says. Otherwise it changes
// nothing.
func SkipRemoved(ctx context.Context, dir string, heads HeadStore) error {
	a, h, err := loadHead(heads)
	if err != nil || a == nil {
		return err
	}
	numbers, err := list(dir)
	if err != nil || len(numbers) == 0 || numbers[0] <= a.File {
		return err
	}
	c, err := readCheckpoint(dir, fmt.Sprintf(checkpointOfFile, numbers[0]-1), a.verifiers())
	if err != nil {
		return fmt.Errorf("%s is the first file of the audit log, and nothing attests what was before it: restore the files since %s: %w",
			nameOf(numbers[0]), nameOf(a.File), err)
	}
	if c.file != numbers[0]-1 || c.tree.size() < h.Size {
		return errors.New("the audit log's oldest checkpoint is not that of the file before its first one, or is older than the backup")
	}
	a.File, a.Size, a.Hashes = numbers[0], c.tree.size(), c.tree.hashes()
	*h = head{Format: headFormat, Size: c.tree.size(), Root: c.tree.root(), File: a.File, Signed: c.tree.size()}
	rawAnchor, err1 := json.Marshal(a)
	rawHead, err2 := json.Marshal(h)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	return heads.SetAuditHead(ctx, rawAnchor, rawHead, nil)
}
