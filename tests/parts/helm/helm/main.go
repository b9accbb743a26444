// helm, as its own repository's main builds it.
package main

import (
	"errors"
	"log/slog"
	"os"

	"helm.sh/helm/v4/pkg/cmd"
	"helm.sh/helm/v4/pkg/kube"
)

func main() {
	// The manager that field ownership is recorded under, whatever the program is called.
	kube.ManagedFieldsManager = "helm"
	root, err := cmd.NewRootCmd(os.Stdout, os.Args[1:], cmd.SetupLogging)
	if err == nil {
		err = root.Execute()
	} else {
		slog.Warn("command failed", slog.Any("error", err))
	}
	var told cmd.CommandError
	switch {
	case errors.As(err, &told):
		os.Exit(told.ExitCode)
	case err != nil:
		os.Exit(1)
	}
}
