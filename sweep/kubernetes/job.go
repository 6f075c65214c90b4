package kubernetes

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
	"go.yaml.in/yaml/v3"

	"github.com/ternlm/tern/sweep"
	"github.com/ternlm/tern/sweep/array"
)

// ErrOption is returned for options that make no Job.
var ErrOption = errors.New("bad option")

// Options say how the pods of a Job are made.
type Options struct {
	Image   string        // with tern in it
	Program string        // tern in the image
	Flags   []string      // further ones of tern sweep work, such as --plugin
	Claim   string        // persistent volume claim with the plan's directory
	Mount   string        // where the claim is in a pod
	Dir     string        // of the plan in a pod, below Mount
	CPUs    int           // that a pod asks for; 0 is 1
	Memory  string        // that a pod may take, as Kubernetes writes it; auto is the estimate, none sets no limit
	PerTask int           // trials of a pod; 0 chooses
	Running int           // pods at once; 0 is no limit
	Retries int           // of an index whose pod ends with a fault
	Grace   time.Duration // from SIGTERM to SIGKILL; 0 is two minutes
}

// notLabel is what cannot stand in a label, and hyphens in a row.
var notLabel = regexp.MustCompile(`[^a-z0-9]+`)

// subdomain is a name of parts with dots between.
var subdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

// quantity is a number with a suffix of Kubernetes.
var quantity = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?(k|M|G|T|Ki|Mi|Gi|Ti)?$`)

// check reports the first option that cannot be.
func (o Options) check() error {
	switch {
	case o.Image == "" || strings.ContainsAny(o.Image, " \t\r\n"):
		return errors.WithHint(errors.Wrapf(ErrOption, "image %q", o.Image), "name an image that has tern in it: --image REGISTRY/NAME:TAG")
	case len(o.Claim) > 253 || !subdomain.MatchString(o.Claim):
		return errors.WithHint(errors.Wrapf(ErrOption, "claim %q", o.Claim), "name the persistent volume claim that holds the plan's directory: --claim NAME")
	case !path.IsAbs(o.Mount) || path.Clean(o.Mount) != o.Mount || strings.Contains(o.Mount, ":"):
		return errors.Wrapf(ErrOption, "mount %q is no clean absolute path without a colon", o.Mount)
	case !path.IsAbs(o.Dir) || path.Clean(o.Dir) != o.Dir:
		return errors.Wrapf(ErrOption, "directory %q in a pod is no clean absolute path", o.Dir)
	case o.Memory != "" && o.Memory != "auto" && o.Memory != "none" && !quantity.MatchString(o.Memory):
		return errors.WithHint(errors.Wrapf(ErrOption, "memory %q", o.Memory), "write it as 512Mi or 2Gi, or auto, or none")
	case o.CPUs < 0 || o.PerTask < 0 || o.Running < 0 || o.Retries < 0 || o.Grace < 0:
		return errors.Wrapf(ErrOption, "a number below 0")
	}
	return nil
}

// Manifest returns the Job of a plan as YAML. Which trials an index runs follows
// from the plan and the number of indexes alone (array.Split), so that the plan's
// directory need not be here and there at once.
func Manifest(p sweep.Plan, o Options) ([]byte, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(newJob(p, o)); err != nil {
		return nil, errors.Wrap(err, "manifest")
	}
	return b.Bytes(), errors.Wrap(e.Close(), "manifest")
}

// containerName is that of the one container of a pod.
const containerName = "tern"

func newJob(p sweep.Plan, o Options) job {
	o.CPUs = max(1, o.CPUs)
	per := o.PerTask
	if per == 0 {
		per = array.PerTask(p.Trials, o.CPUs)
	}
	tasks := (len(p.Trials) + per - 1) / per
	running := tasks
	if o.Running > 0 {
		running = min(running, o.Running)
	}
	labels := map[string]string{"app.kubernetes.io/name": "tern", "app.kubernetes.io/component": "sweep"}
	return job{
		APIVersion: "batch/v1", Kind: "Job",
		Metadata: metadata{Name: Name(p, tasks), Labels: labels, Annotations: map[string]string{"tern/plan": p.Name}},
		Spec: jobSpec{
			CompletionMode: "Indexed", Completions: tasks, Parallelism: running, BackoffLimitPerIndex: o.Retries,
			// A pod is replaced when it has ended, not when it is told to: one process at
			// a time trains a trial.
			PodReplacementPolicy: "Failed",
			PodFailurePolicy:     policy(),
			Template:             template{Metadata: metadata{Labels: labels}, Spec: pod(p, o, tasks)},
		},
	}
}

// policy says what the ways in which a pod ends mean. The first rule that fits
// counts.
func policy() failurePolicy {
	on := func(action string, codes ...int) failureRule {
		return failureRule{Action: action, OnExitCodes: &exitCodes{ContainerName: containerName, Operator: "In", Values: codes}}
	}
	return failurePolicy{Rules: []failureRule{
		// Preempted, evicted, lost with its node: no fault of the trial.
		{Action: "Ignore", OnPodConditions: []podCondition{{Type: "DisruptionTarget", Status: "True"}}},
		// Stopped, and saved: goes on.
		on("Ignore", sweep.ExitStopped, sweep.ExitInterrupted),
		// Wrong configuration: a repetition would meet it again.
		on("FailIndex", sweep.ExitUsage),
		on("Count", 1),
	}}
}

func pod(p sweep.Plan, o Options, tasks int) podSpec {
	grace := o.Grace
	if grace == 0 {
		grace = 2 * time.Minute
	}
	// The index comes by JOB_COMPLETION_INDEX.
	command := []string{o.Program, "sweep", "work", o.Dir, "--tasks", strconv.Itoa(tasks), "--threads", strconv.Itoa(o.CPUs)}
	command = append(command, o.Flags...)
	for i := range command {
		command[i] = strings.ReplaceAll(command[i], "$", "$$") // $(NAME) would be a variable
	}
	r := resources{Requests: map[string]string{"cpu": strconv.Itoa(o.CPUs)}}
	if m := memory(o.Memory, array.Memory(p.Trials)); m != "" {
		r.Requests["memory"] = m
		r.Limits = map[string]string{"memory": m}
	}
	return podSpec{
		RestartPolicy: "Never", // a policy for failures takes it
		Grace:         int((grace + time.Second - 1) / time.Second),
		Containers: []container{{
			Name: containerName, Image: o.Image, Command: command, Resources: r,
			Mounts: []volumeMount{{Name: "plan", MountPath: o.Mount}},
		}},
		Volumes: []volume{{Name: "plan", Claim: claim{o.Claim}}},
	}
}

// memory is a quantity of Kubernetes, "" for no limit.
func memory(option string, estimate int64) string {
	switch option {
	case "", "auto":
		if estimate == 0 {
			return ""
		}
		return strconv.FormatInt((estimate+1<<20-1)>>20, 10) + "Mi"
	case "none":
		return ""
	}
	return option
}

// maxLabel is the longest label of RFC 1123.
const maxLabel = 63

// Name is the name of a plan's Job: "tern-", the plan's name in letters, digits
// and hyphens, and six digits of a hash of its trials, so short that the names of
// the pods' hosts (NAME-INDEX) are labels of RFC 1123, as an Indexed Job takes them.
func Name(p sweep.Plan, tasks int) string {
	hash := sha256.New()
	for _, t := range p.Trials {
		hash.Write([]byte(t.ID))
	}
	end := "-" + hex.EncodeToString(hash.Sum(nil)[:3])
	name := notLabel.ReplaceAllString("tern-"+strings.ToLower(p.Name), "-")
	most := maxLabel - len(end) - len("-") - len(strconv.Itoa(tasks-1))
	return strings.TrimRight(name[:min(len(name), most)], "-") + end
}
