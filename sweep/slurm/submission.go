package slurm

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/internal/atomicfile"
	"github.com/ternlm/tern/internal/regularfile"
	"github.com/ternlm/tern/sweep"
)

// ErrSubmission is returned for a submission that is not there or damaged.
var ErrSubmission = errors.New("bad submission")

// Names in a plan's directory: slurm/SUBMISSION/{tasks.json,script.sh,job,log-INDEX}.
const (
	root       = "slurm"
	tasksFile  = "tasks.json"
	scriptFile = "script.sh"
	jobFile    = "job"
)

// version is that of tasks.json.
const version = 1

// maxTasksFile bounds what is read of tasks.json: 10,000 trials take 200 KB.
const maxTasksFile = 4 << 20

// Submission is a job array that was handed to Slurm. Which trials a task runs is
// frozen in it, so that a task that is started again does the same.
type Submission struct {
	Version int        `json:"version"`
	Name    string     `json:"name"`
	Created time.Time  `json:"created"`
	Job     string     `json:"job_name"`
	CPUs    int        `json:"cpus"`
	Memory  int64      `json:"memory"` // bytes that a task is estimated to take, 0 where nobody knows
	Retry   bool       `json:"retry"`  // trials that failed before Created are run again
	Tasks   [][]string `json:"tasks"`  // IDs of trials by the task's index
}

// Trials are those of a task, in order.
func (s Submission) Trials(d *sweep.Dir, task int) ([]sweep.Trial, error) {
	if task < 0 || task >= len(s.Tasks) {
		return nil, errors.Wrapf(ErrSubmission, "%s has tasks 0 to %d, not %d", s.Name, len(s.Tasks)-1, task)
	}
	var trials []sweep.Trial
	for _, id := range s.Tasks[task] {
		t, err := d.Trial(id)
		if err != nil {
			return nil, errors.Mark(err, ErrSubmission)
		}
		trials = append(trials, t)
	}
	return trials, nil
}

// Load reads a submission of a plan. ErrSubmission, with the nearest name, where
// there is none, and for one that is damaged.
func Load(d *sweep.Dir, name string) (Submission, error) {
	names, err := list(d)
	if err != nil {
		return Submission{}, err
	}
	if !slices.Contains(names, name) { // and so it leads out of no directory
		err := errors.Wrapf(ErrSubmission, "%s has no submission %.60q", d.Path, name)
		return Submission{}, errors.WithHint(err, framework.Suggest(name, names))
	}
	path := filepath.Join(d.Path, root, name, tasksFile)
	f, size, err := regularfile.Open(path)
	if err != nil {
		return Submission{}, errors.Mark(err, ErrSubmission)
	}
	defer f.Close()
	if size > maxTasksFile {
		return Submission{}, errors.Wrapf(ErrSubmission, "%s has %d bytes, more than %d", path, size, maxTasksFile)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxTasksFile))
	if err != nil {
		return Submission{}, errors.Wrap(err, path)
	}
	s, err := parse(text)
	return s, errors.Wrap(err, path)
}

// parse reads tasks.json.
func parse(text []byte) (s Submission, err error) {
	if err := json.Unmarshal(text, &s); err != nil {
		return Submission{}, errors.Wrapf(ErrSubmission, "%v", err)
	}
	if s.Version != version {
		return Submission{}, errors.Wrapf(ErrSubmission, "version %d, this program has %d", s.Version, version)
	}
	if n := len(s.Tasks); n == 0 || n > sweep.MaxTrials || s.CPUs < 1 {
		return Submission{}, errors.Wrapf(ErrSubmission, "%d tasks of %d processors", n, s.CPUs)
	}
	return s, nil
}

// list names the submissions of a plan, oldest first.
func list(d *sweep.Dir) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(d.Path, root))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, errors.Wrap(err, "submissions of the plan")
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// create makes the directory of a new submission, with its tasks and script.
func create(d *sweep.Dir, o Options, s *Submission) (path string, err error) {
	base := filepath.Join(d.Path, root)
	if err := os.MkdirAll(base, 0o777); err != nil {
		return "", errors.Wrap(err, "make the directory of submissions")
	}
	stem := s.Name
	for n := 2; ; n++ {
		path = filepath.Join(base, s.Name)
		if err = os.Mkdir(path, 0o777); !errors.Is(err, os.ErrExist) || n > 100 {
			break
		}
		s.Name = stem + "-" + strconv.Itoa(n) // two in one second
	}
	if err != nil {
		return "", errors.Wrap(err, "make the directory of the submission")
	}
	s.Job = jobName(d.Plan.Name, s.Name)
	text, err := json.Marshal(s)
	if err != nil {
		return "", errors.Wrap(err, tasksFile)
	}
	if err := atomicfile.WriteBytes(filepath.Join(path, tasksFile), append(text, '\n')); err != nil {
		return "", err
	}
	return path, atomicfile.WriteBytes(filepath.Join(path, scriptFile), []byte(script(o, d.Path, s.Name)))
}

// jobName is the name that Slurm shows, of letters that it passes on untouched.
func jobName(plan, submission string) string {
	clean := make([]rune, 0, 40)
	for _, r := range plan {
		if len(clean) == 40 {
			break
		}
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_') {
			r = '_'
		}
		clean = append(clean, r)
	}
	return "tern-" + string(clean) + "-" + submission
}

// job is the number that Slurm gave a submission, "" where it is not known: the
// submission failed, or its process ended before it could write it down.
func job(d *sweep.Dir, name string) (string, error) {
	path := filepath.Join(d.Path, root, name, jobFile)
	f, _, err := regularfile.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return "", errors.Wrap(err, path)
	}
	id := string(text)
	if n := len(id); n > 0 && id[n-1] == '\n' {
		id = id[:n-1]
	}
	if _, err := strconv.ParseUint(id, 10, 64); err != nil {
		return "", errors.Wrapf(ErrSubmission, "%s holds %q, which is no job's number", path, id)
	}
	return id, nil
}
