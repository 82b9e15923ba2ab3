package cli

import "github.com/spf13/cobra"

// groups are the groups of the top-level help, with their verbs.
var groups = []struct {
	id, title string
	verbs     []string
}{
	{"keys", "Keys:", []string{"key", "tags", "quota"}},
	{"use", "Use a key:", []string{"encrypt", "decrypt", "reencrypt", "datakey", "file", "random", "sign", "verify", "public-key", "mac", "derive"}},
	{"import", "Bring your own key:", []string{"import"}},
	{"access", "Who may do what:", []string{"grant", "can-i", "whoami", "policy", "credential"}},
	{"audit", "Audit:", []string{"audit"}},
	{"run", "Run a node:", []string{"up", "sidecar", "hsmd", "root", "check", "backup"}},
	{"inside", "Look inside:", []string{"doctor", "hsm", "driver", "bench"}},
	{"other", "Other:", []string{"completion", "help", "version"}},
}

// addGroups assigns the verbs of root to groups.
func addGroups(root *cobra.Command) {
	group := map[string]string{}
	for _, g := range groups {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for _, name := range g.verbs {
			group[name] = g.id
		}
	}
	for _, cmd := range root.Commands() {
		cmd.GroupID = group[cmd.Name()]
	}
	root.SetHelpCommandGroupID("other")
	root.SetCompletionCommandGroupID("other")
}
