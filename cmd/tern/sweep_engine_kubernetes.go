package main

import (
	"context"
	"path"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/spf13/pflag"

	"github.com/ternlm/tern/sweep"
	"github.com/ternlm/tern/sweep/kubernetes"
)

// engineKubernetes prints an Indexed Job.
const engineKubernetes = "k8s"

func init() { engines[engineKubernetes] = (*app).printKubernetes }

// kubernetesFlags are those of --engine k8s alone.
type kubernetesFlags struct {
	image, claim, mount string
	retries             int
}

func (f *kubernetesFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.image, "image", "", "k8s: image that has tern in it")
	fs.StringVar(&f.claim, "claim", "", "k8s: persistent volume claim that holds the plan's directory")
	fs.StringVar(&f.mount, "mount", "/sweeps", "k8s: where the claim is in a pod; the plan is at DIR if that is below it, else at its last part")
	fs.IntVar(&f.retries, "retries", 1, "k8s: how often a task that failed is tried again")
	ownFlags(fs, []string{engineKubernetes}, "image", "claim", "mount", "retries")
}

// printKubernetes prints the manifest of a plan.
func (a *app) printKubernetes(_ context.Context, d *sweep.Dir, f runFlags) error {
	if f.jobs != 0 || f.threads != 0 || f.timeLimit != 0 {
		return usagef("use --max-running and --cpus-per-task", "--engine k8s has no --jobs, --threads and --time-limit")
	}
	dir, err := filepath.Abs(d.Path)
	if err != nil {
		return errors.Wrap(err, "directory of the plan")
	}
	dir = filepath.ToSlash(dir)
	if !strings.HasPrefix(dir, path.Clean(f.k8s.mount)+"/") {
		dir = path.Join(f.k8s.mount, path.Base(dir))
	}
	o := kubernetes.Options{
		Image: f.k8s.image, Claim: f.k8s.claim, Mount: f.k8s.mount, Dir: dir, Retries: f.k8s.retries, Program: f.array.program,
		CPUs: f.array.cpus, Memory: f.array.memory, PerTask: f.array.perTask, Running: f.array.maxRunning, Flags: a.plugins.flags(),
	}
	if o.Program == "" {
		o.Program = "tern"
	}
	text, err := kubernetes.Manifest(d.Plan, o)
	if errors.Is(err, kubernetes.ErrOption) {
		return errors.Mark(err, errUsage)
	}
	if err != nil {
		return err
	}
	a.printf("%s", text)
	a.note("kubectl apply -f - starts it, with the plan's directory at %s of claim %s", strings.TrimPrefix(dir, f.k8s.mount), f.k8s.claim)
	return nil
}
