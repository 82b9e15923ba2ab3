package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// withoutPackage follows cobra's script for bash, which calls functions of the package bash-completion. Where that is missing, these
// take the words as bash splits them, at colons, too.
const withoutPackage = `
if ! declare -F _get_comp_words_by_ref >/dev/null; then
    __keyside_init_completion() {
        COMPREPLY=()
        words=("${COMP_WORDS[@]}")
        cword=$COMP_CWORD
        cur=${words[cword]}
        prev=${words[cword-1]}
    }
fi
if ! declare -F __ltrim_colon_completions >/dev/null; then
    __ltrim_colon_completions() { :; }
fi
`

// AddCompletion adds cobra's verb completion to root, whose script for bash also works without the package bash-completion.
func AddCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	bash, _, err := root.Find([]string{"completion", "bash"})
	if err != nil {
		panic(err) // cobra has it
	}
	script := bash.RunE
	bash.RunE = func(cmd *cobra.Command, args []string) error {
		if err := script(cmd, args); err != nil {
			return err
		}
		_, err := fmt.Fprint(cmd.OutOrStdout(), withoutPackage)
		return err
	}
}
